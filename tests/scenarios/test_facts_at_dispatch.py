"""The last look at the facts, at the tool itself: between the approval and the call the world may have changed."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.agents import facts
from sessions_app.models import ToolCall
from tests.fakes import SHAPES, agent_graph, calling, counting
from tests.fakes_facts import World
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db

TURN = calling(("lab:fix", {"target": "checkout"}, "call-on-facts"))
AGAIN = calling(("lab:fix", {"target": "checkout"}, "call-on-new-facts"))


@pytest.fixture
def resting(world: World, lab_rules: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """Let calls of lab:fix rest on the world."""
    monkeypatch.setitem(facts._readers, "lab:fix", world.reader)
    return world


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_whose_facts_hold_runs_once(bench: Bench, resting: World, shape: str) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)], shape=shape)))
    gate = bench.gate(session)
    assert gate.facts[0]["facts"] == resting.facts
    bench.decide(gate)
    assert bench.drive(session).status == "resolved"
    assert len(ran) == 1
    # When it was proposed, when it was approved, when it ran.
    assert resting.read == 3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("now", [{"health": "healthy"}, None])
def test_a_call_whose_facts_changed_after_the_approval_does_not_run_and_the_agent_may_ask_again(
    bench: Bench, resting: World, shape: str, now: dict[str, Any] | None
) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN, AGAIN], [counting("lab:fix", ran)], shape=shape)))
    bench.decide(bench.gate(session))
    resting.facts = now
    session = bench.drive(session)
    assert ran == []
    assert session.status == "awaiting_input"
    (refused,) = session.events.filter(kind="tool_refused")
    assert "the facts changed after it was approved" in refused.payload["why"]
    assert ToolCall.objects.get(tool_call_id="call-on-facts").status == "rejected"
    # The agent was told, and asks again: on the facts as they are now.
    gate = bench.gate(session)
    assert gate.tool_call_id == "call-on-new-facts"
    assert gate.facts[0]["known"] is (now is not None)
    bench.decide(gate)
    assert bench.drive(session).status == "resolved"
    assert len(ran) == 1


def test_a_grant_on_facts_that_nobody_reads_any_more_runs_nothing(
    bench: Bench, resting: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)])))
    bench.decide(bench.gate(session))
    monkeypatch.delitem(facts._readers, "lab:fix")
    bench.drive(session)
    assert ran == []
    assert "nobody can read here" in session.events.get(kind="tool_refused").payload["why"]


def test_a_reader_that_breaks_makes_the_facts_unknown_and_nothing_else_breaks(bench: Bench, resting: World) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    resting.first = broken
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", [])])))
    (reading,) = bench.gate(session).facts
    assert (reading["known"], reading["why"]) == (False, "ZeroDivisionError while reading them.")


def test_facts_that_do_not_come_are_not_waited_for(
    bench: Bench, resting: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    async def never(environment: str, args: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setitem(facts._readers, "lab:fix", never)
    monkeypatch.setattr(facts, "PATIENCE", 0.01)
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", [])])))
    assert "did not come" in bench.gate(session).facts[0]["why"]
