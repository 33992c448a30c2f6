"""A worker that was cut off long enough to lose its run comes back: it must neither write nor refuse anything.

Laws L2 and L8. Seen on several hosts: the one that came back wrote that an approved call was not run, because "its run
is over", and the worker that had the run by then believed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from langgraph.checkpoint.memory import InMemorySaver

from sessions_app import lease, recovery
from sessions_app.agents import checkpointer, facts
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Session, ToolCall
from tests.fakes import SHAPES, agent_graph, calling, counting, graph_of, pausing
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db

CALL = "call-of-the-lost"
TURN = calling(("lab:fix", {"target": "checkout"}, CALL))

#: What becomes of a run after its worker was lost: it waits, or another has it.
AFTER = ("waits", "is driven elsewhere")


def _take_away(bench: Bench, session: Session, after: str) -> None:
    bench.lose(session)
    recovery.sweep()
    if after != "waits":
        assert session.runs.get(status="pending").claim("new-host:1:0")


@pytest.fixture
def lose(bench: Bench, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Session, str], None]:
    """Return what takes a drive's run away while it is under way, and lets the drive's clock know of it, no more."""
    # The renewal, which notices as well, comes later here.
    settings.CLM_LEASE_SECONDS = 3000
    clock = lease._now
    bench.saver = checkpointer.fenced(InMemorySaver())  # type: ignore[assignment]

    def lost(session: Session, after: str) -> None:
        _take_away(bench, session, after)
        monkeypatch.setattr(lease, "_now", lambda: clock() + 4000)

    return lost


@pytest.mark.parametrize("after", AFTER)
def test_a_call_is_claimed_by_the_drive_that_has_the_run_and_by_no_other(bench: Bench, after: str) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)])))
    bench.decide(bench.gate(session))
    run, row = bench.claim(session), session.tool_calls.get()
    _take_away(bench, session, after)
    before = bench.kinds(session)
    with pytest.raises(LeaseLost):
        row.claim(run_id=run.pk, attempt=run.attempt, tool=row.tool, args=row.args)
    assert (bench.calls(session), bench.kinds(session)) == ({CALL: "approved"}, before)


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_approved_call_runs_although_a_drive_that_lost_the_run_came_to_it_first(
    bench: Bench, lose: Any, monkeypatch: pytest.MonkeyPatch, shape: str, after: str
) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)], shape=shape)))
    bench.decide(bench.gate(session))
    read = facts.read

    async def cut_off(*args: Any) -> Any:
        await database_sync_to_async(lose)(session, after)
        return await read(*args)

    with monkeypatch.context() as cut:
        cut.setattr(facts, "read", cut_off)
        assert bench.drive(session).status == "in_progress"
    assert (ran, bench.calls(session)) == ([], {CALL: "approved"})
    assert "tool_refused" not in bench.kinds(session)
    if after != "waits":
        bench.lose(session)
        recovery.sweep()
    assert bench.drive(session).status == "resolved"
    assert (len(ran), bench.calls(session)) == (1, {CALL: "executed"})


@pytest.mark.usefixtures("lab_rules")
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize(("verb", "tool"), [("enter", "lab:read"), ("claim", "lab:fix")])
def test_a_call_whose_claim_was_answered_too_late_is_not_run_by_the_drive_that_made_it(
    bench: Bench, lose: Any, monkeypatch: pytest.MonkeyPatch, verb: str, tool: str, after: str
) -> None:
    """Seen on several hosts: cut off in the middle of the claim, a worker ran the call when its network came back."""
    ran: list[dict[str, Any]] = []
    turn = calling((tool, {"target": "checkout"}, CALL))
    session = bench.submit(agent_graph([turn], [counting(tool, ran)]))
    if verb == "claim":
        bench.decide(bench.gate(bench.drive(session)))
    made = getattr(ToolCall, verb)

    def late(*args: Any, **kwargs: Any) -> Any:
        answer = made(*args, **kwargs)
        lose(session, after)
        return answer

    with monkeypatch.context() as cut:
        cut.setattr(ToolCall, verb, late)
        assert bench.drive(session).status == "in_progress"
    assert (ran, bench.calls(session)) == ([], {CALL: "executing"})
    if after != "waits":
        bench.lose(session)
        recovery.sweep()
    # Nobody can know that it was not run; a person looks, and lets it run.
    session = bench.drive(session)
    bench.decide(bench.gate(session, kind="unknown_outcome"))
    assert bench.drive(session).status == "resolved"
    assert len(ran) == 1


@pytest.mark.parametrize("after", AFTER)
def test_a_drive_that_lost_the_run_writes_no_checkpoint(bench: Bench, lose: Any, after: str) -> None:
    seen: list[int] = []

    async def thinks(state: Any) -> Any:
        seen.append(len(seen))
        if len(seen) == 1:
            await database_sync_to_async(lose)(session, after)
        return {"log": [f"thought {seen[-1]}"]}

    session = bench.submit(graph_of(("thinks", thinks), ("asks", pausing)))
    assert bench.drive(session).status == "in_progress"
    (found,) = bench.saver.list({"configurable": {"thread_id": session.runs.get().thread_id}}, limit=1)
    assert not found.checkpoint["channel_values"].get("log")
    assert not found.pending_writes
    if after != "waits":
        bench.lose(session)
        recovery.sweep()
    assert bench.drive(session).status == "awaiting_input"
    assert seen == [0, 1]


def test_a_drive_whose_renewals_did_not_get_through_goes_on_where_nobody_took_its_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.saver = checkpointer.fenced(InMemorySaver())  # type: ignore[assignment]
    clock = lease._now

    async def sleeps(state: Any) -> Any:
        monkeypatch.setattr(lease, "_now", lambda: clock() + 3600)
        return {"log": ["slept"]}

    session = bench.submit(graph_of(("sleeps", sleeps), ("asks", pausing)))
    assert bench.drive(session).status == "awaiting_input"


def test_a_claim_is_ended_by_the_drive_that_made_it_and_not_by_an_earlier_one(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)])))
    bench.decide(bench.gate(session))
    run, mine = bench.claim(session), session.tool_calls.get()
    mine.claim(run_id=run.pk, attempt=run.attempt, tool=mine.tool, args=mine.args)
    _take_away(bench, session, "is driven elsewhere")
    again, theirs = session.runs.get(status="running"), session.tool_calls.get()
    theirs.idempotent = True
    theirs.take_over(run_id=again.pk, attempt=again.attempt)
    theirs.claim(run_id=again.pk, attempt=again.attempt, tool=theirs.tool, args=theirs.args)
    mine.settle(error="cut off", result_kind="error", latency_ms=1)
    mine.give_back()
    with pytest.raises(LeaseLost):
        session.tool_calls.get().take_over(run_id=run.pk, attempt=run.attempt)
    assert bench.calls(session) == {CALL: "executing"}
    theirs.settle(result="done", result_kind="text", latency_ms=1)
    assert bench.calls(session) == {CALL: "executed"}
