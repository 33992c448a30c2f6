"""Why every step's checkpoint is written before the next begins: a crash, and a model that samples anew after it.

The ledger knows a call by its id. An effect that nobody is asked about stands behind no gate, so all that keeps it from
running again is that the message which wanted it, with the call's id, is in a checkpoint before the call is claimed.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from sessions_app import runner
from sessions_app.models import Session
from tests.fakes import SHAPES, Killed, agent_graph, calling, counting
from tests.scenarios.conftest import Bench

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("lab_rules")]


def _anew(tool: str, target: str) -> Any:
    """Return a turn that comes under another id and in other words whenever the model is asked."""

    async def turn() -> AIMessage:
        sample = uuid.uuid4().hex[:12]
        return calling((tool, {"target": target}, f"call-{sample}"), text=f"Because of {sample}.")

    return turn


class Mortal(InMemorySaver):
    """A checkpointer whose process can be gone: what LangGraph still writes on its way out is then written nowhere."""

    alive = True

    async def aput(self, config: Any, *args: Any) -> Any:
        """Write, while there is a process."""
        return await super().aput(config, *args) if self.alive else config

    async def aput_writes(self, *args: Any) -> None:
        """Write, while there is a process."""
        if self.alive:
            await super().aput_writes(*args)

    async def die(self) -> None:
        """End the process, if this is the first one."""
        if self.alive:
            self.alive = False
            raise Killed


def _recovered(bench: Bench, saver: Mortal, session: Session) -> Session:
    bench.saver = InMemorySaver()
    bench.saver.storage, bench.saver.writes, bench.saver.blobs = saver.storage, saver.writes, saver.blobs
    return bench.recover(session)


def _killed_after_the_notice(bench: Bench, shape: str) -> tuple[Session, list[dict[str, Any]]]:
    """Return a session that has notified somebody unasked, and whose worker died in the call after that."""
    told: list[dict[str, Any]] = []
    bench.saver = saver = Mortal()
    make = agent_graph(
        [_anew("lab:notify", "oncall"), _anew("lab:read", "checkout")],
        [counting("lab:notify", told), counting("lab:read", [], idempotent=True, then=saver.die)],
        shape=shape,
    )
    session = bench.submit(make)
    bench.kill(session)
    assert len(told) == 1
    return _recovered(bench, saver, session), told


@pytest.mark.parametrize("shape", SHAPES)
def test_an_effect_that_nobody_is_asked_about_runs_once_though_the_model_answers_otherwise_after_a_crash(
    bench: Bench, shape: str
) -> None:
    session, told = _killed_after_the_notice(bench, shape)
    assert session.status == "resolved"
    assert len(told) == 1


def test_one_that_was_cut_off_is_asked_about_under_the_id_that_it_was_claimed_by(bench: Bench) -> None:
    told: list[dict[str, Any]] = []
    bench.saver = saver = Mortal()
    notify = counting("lab:notify", told, then=saver.die)
    session = bench.submit(agent_graph([_anew("lab:notify", "oncall")], [notify]))
    bench.kill(session)
    session = _recovered(bench, saver, session)
    gate = bench.gate(session)
    assert (gate.kind, gate.tool) == ("unknown_outcome", "lab:notify")
    assert bench.calls(session) == {gate.tool_call_id: "unknown"}
    assert len(told) == 1


def test_with_checkpoints_at_the_end_of_a_drive_alone_it_would_run_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this fails, something else keeps the model's answers, and the durability can be chosen anew."""
    monkeypatch.setattr(runner, "DURABILITY", "exit")
    session, told = _killed_after_the_notice(bench, "called")
    assert session.status == "resolved"
    assert len(told) == 2
