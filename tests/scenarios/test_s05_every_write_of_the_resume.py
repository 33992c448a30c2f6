"""S5 and S27: the worker dies at any single write of a resume, also inside a nested agent, and is driven again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from sessions_app import recovery, runner
from sessions_app.agents.context import RunContext
from sessions_app.agents.registry import GraphSpec
from sessions_app.models import Session
from tests.fakes import (
    RESOLVED,
    SHAPES,
    FakeState,
    Killed,
    agent_graph,
    approval,
    calling,
    counting,
    graph_of,
)
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db

LINES = (
    calling(("lab:fix", {"target": "one"}, "call-one"), ("lab:fix", {"target": "two"}, "call-two")),
    calling(("lab:fix", {"target": "three"}, "call-three")),
)


class FailingSaver(InMemorySaver):
    """A checkpointer whose process dies right after its n-th write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        saved = await super().aput(*args, **kwargs)
        self._count()
        return saved

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        await super().aput_writes(*args, **kwargs)
        self._count()

    def _count(self) -> None:
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise Killed


def die_at_every_write(bench: Bench, prepare: Callable[[], Session], check: Callable[[Session], None]) -> None:
    """Drive a prepared resume again and again, dying one write later each time, until one drive gets through.

    `prepare` returns a session whose resume is pending; `check` holds what it has come to after the recovery.
    """
    for deaths in range(100):
        saver = bench.saver = FailingSaver()
        session = prepare()
        saver.writes_left = deaths
        died = False
        try:
            async_to_sync(runner.execute)(bench.claim(session), saver)
        except Killed:
            died = True
        saver.writes_left = None
        if died:
            bench.lose(session)
            recovery.sweep()
            bench.drive(session)
        session.refresh_from_db()
        check(session)
        if not died:
            assert deaths
            return
    raise AssertionError("it never got through")


@pytest.mark.parametrize("shape", SHAPES)
def test_s05_a_death_at_any_write_of_the_resume_runs_each_approved_call_at_most_once(
    bench: Bench, settings: Any, shape: str
) -> None:
    settings.CLM_MAX_ATTEMPTS = 99
    ran: list[dict[str, Any]] = []

    def prepare() -> Session:
        ran.clear()
        session = bench.drive(bench.submit(agent_graph(LINES, [counting("lab:fix", ran)], shape=shape)))
        gates = {gate.tool_call_id: gate for gate in bench.gates(session)}
        bench.decide(gates["call-one"])
        bench.decide(gates["call-two"], "reject", message="not the second")
        return session

    def check(session: Session) -> None:
        # The third call waits for its own decision, whatever was said of the first two.
        assert session.status == "awaiting_input"
        assert bench.gate(session).tool_call_id == "call-three"
        assert [one["target"] for one in ran] == ["one"]
        bench.decide(bench.gate(session))
        assert bench.drive(session).status == "resolved"
        assert [one["target"] for one in ran] == ["one", "three"]

    die_at_every_write(bench, prepare, check)


@pytest.mark.parametrize("shape", SHAPES)
def test_s27_a_death_at_any_write_of_the_resume_never_answers_the_second_question_with_the_first_answer(
    bench: Bench, settings: Any, shape: str
) -> None:
    """Two questions of one task: LangGraph takes an answer to the first for the second when it is given again."""
    settings.CLM_MAX_ATTEMPTS = 99

    def two(state: FakeState) -> FakeState:
        first, second = interrupt(approval("call-one")), interrupt(approval("call-two"))
        return {"log": [first["type"], second["type"]], "outcome": RESOLVED}

    def build(saver: Any) -> Any:
        inner = graph_of(("two", two))().build(saver if shape == "alone" else cast(Any, None))
        if shape == "alone":
            return inner

        async def call(state: FakeState) -> Any:
            result = await inner.ainvoke({"query": "q"})
            return {"log": result["log"], "outcome": RESOLVED}

        builder = StateGraph(FakeState, context_schema=RunContext)
        builder.add_node("outer", inner if shape == "subgraph" else call)
        builder.add_edge(START, "outer")
        return builder.compile(checkpointer=saver)

    def prepare() -> Session:
        session = bench.drive(bench.submit(lambda: GraphSpec(name="two", build=build)))
        bench.decide(bench.gate(session))
        return session

    def check(session: Session) -> None:
        assert session.status == "awaiting_input"
        assert bench.gate(session).tool_call_id == "call-two"

    die_at_every_write(bench, prepare, check)
