"""S5 and S27: the worker dies at any single write of a resume, also inside a nested agent, and is driven again."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from langgraph.checkpoint.memory import InMemorySaver

from sessions_app import recovery, runner
from tests.fakes import SHAPES, Killed, agent_graph, calling, counting
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db

LINES = (
    calling(("lab:fix", {"target": "one"}, "call-one"), ("lab:fix", {"target": "two"}, "call-two")),
    calling(("lab:fix", {"target": "three"}, "call-three")),
)


class FailingSaver(InMemorySaver):
    """A checkpointer whose process dies before or after its n-th write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None
        self.written = 0

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return await super().aput(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        self._count()
        await super().aput_writes(*args, **kwargs)

    def _count(self) -> None:
        self.written += 1
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise Killed


@pytest.mark.parametrize("shape", SHAPES)
def test_s05_a_death_at_any_write_of_the_resume_runs_each_approved_call_at_most_once(
    bench: Bench, settings: Any, shape: str
) -> None:
    settings.CLM_MAX_ATTEMPTS = 99
    deaths = 0
    while True:
        saver = FailingSaver()
        bench.saver = saver
        ran: list[dict[str, Any]] = []
        session = bench.drive(bench.submit(agent_graph(LINES, [counting("lab:fix", ran)], shape=shape)))
        first, second = bench.gates(session)
        bench.decide(first)
        bench.decide(second, "reject", message="not the second")
        saver.writes_left = deaths
        try:
            async_to_sync(runner.execute)(bench.claim(session), saver)
        except Killed:
            bench.lose(session)
        died, saver.writes_left = saver.writes_left is not None and saver.writes_left < 0, None
        if died:
            recovery.sweep()
            bench.drive(session)
        session.refresh_from_db()
        assert session.status == "awaiting_input"
        # The third call waits for its own decision, whatever was said of the first two.
        assert [gate.tool_call_id for gate in bench.gates(session)] == ["call-three"]
        assert ran == [{"target": "one", "size": 1}]
        bench.decide(bench.gate(session))
        assert bench.drive(session).status == "resolved"
        assert [one["target"] for one in ran] == ["one", "three"]
        if not died:
            assert deaths > 2
            return
        deaths += 1
