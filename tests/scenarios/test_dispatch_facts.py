"""Decided, dispatched and executed are three facts: an approval that nothing ran never passes for an execution (S5)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from approvals_app.models import Gate
from approvals_app.outcome import CallOutcome, outcomes_of
from sessions_app import recovery
from sessions_app.models import Session, SessionEvent, ToolCall
from tests.fakes import agent_graph, calling, counting
from tests.scenarios.conftest import Bench
from tests.scenarios.test_ledger import Deadly

pytestmark = pytest.mark.django_db

CALL = "call-of-the-dispatch"
TURN = calling(("lab:fix", {"target": "checkout"}, CALL))


def _at_its_gate(bench: Bench, ran: list[dict[str, Any]], **tool: Any) -> tuple[Session, Gate]:
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran, **tool)])))
    return session, bench.gate(session)


def _outcome(gate: Gate) -> CallOutcome:
    gate.refresh_from_db()
    (outcome,) = outcomes_of(gate, gate.decision)
    return outcome


def _says(gate: Gate) -> list[str]:
    return [step.says for step in _outcome(gate).steps]


def _approval_runs_out(session: Session) -> None:
    row = session.tool_calls.get()
    assert row.grant
    late = (timezone.now() - timedelta(seconds=1)).isoformat()
    ToolCall.objects.filter(pk=row.pk).update(grant={**row.grant, "expires_at": late})


def _events(session: Session, kind: str) -> list[SessionEvent]:
    return list(session.events.filter(kind=kind).order_by("seq"))


def test_each_of_the_three_facts_is_an_event_in_its_order(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _at_its_gate(bench, ran)
    decision = bench.decide(gate)
    assert _events(session, "tool_dispatched") == []
    assert _says(gate)[:2] == ["Decided by bob", "Approved, not yet dispatched: may start until"]
    assert _outcome(gate).status == "approved"
    session = bench.drive(session)
    kinds = [kind for kind in bench.kinds(session) if kind in {"gate_decided", "tool_dispatched", "tool_invoked"}]
    assert kinds == ["gate_decided", "tool_dispatched", "tool_invoked"]
    (dispatched,) = _events(session, "tool_dispatched")
    assert dispatched.payload == {
        "tool": "lab:fix",
        "agent": "fixer",
        "tool_call_id": CALL,
        "args": {"target": "checkout"},
        "decision_id": decision.pk,
    }
    outcome = _outcome(gate)
    times = [outcome.decided_at, outcome.dispatched_at, outcome.finished_at]
    assert sorted(time for time in times if time) == times
    assert (outcome.status, outcome.excerpt) == ("executed", "done: checkout 1")
    assert _says(gate) == ["Decided by bob", "Dispatched", "Executed"]


def test_the_dispatch_of_an_edited_call_says_what_ran(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _at_its_gate(bench, ran)
    bench.decide(gate, "edit", edited_args={"target": "payments", "size": 2})
    session = bench.drive(session)
    (dispatched,) = _events(session, "tool_dispatched")
    assert dispatched.payload["args"] == ran[0] == {"target": "payments", "size": 2}


@pytest.mark.usefixtures("lab_rules")
def test_a_call_that_needs_no_approval_is_not_dispatched_but_only_executed(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    turn = calling(("lab:read", {"target": "checkout"}, CALL))
    session = bench.drive(bench.submit(agent_graph([turn], [counting("lab:read", ran)])))
    assert (session.status, len(ran)) == ("resolved", 1)
    assert _events(session, "tool_dispatched") == []


def test_s05_an_approval_that_no_graph_comes_for_lapses_by_the_sweep(bench: Bench) -> None:
    """Nothing is approved for ever."""
    ran: list[dict[str, Any]] = []
    session, gate = _at_its_gate(bench, ran)
    bench.decide(gate)
    assert recovery.sweep() == []
    _approval_runs_out(session)
    assert _outcome(gate).status == "expired"
    assert bench.calls(session) == {CALL: "approved"}
    assert _says(gate) == ["Decided by bob", "Not dispatched by", "Not run: its approval expired"]
    assert [repair.text for repair in recovery.sweep()] == ["lab:fix was approved and not run in time"]
    assert recovery.sweep() == []
    assert bench.calls(session) == {CALL: "expired"}
    (lapsed,) = _events(session, "tool_lapsed")
    assert (lapsed.payload["tool_call_id"], lapsed.payload["why"][:24]) == (CALL, "its approval expired at ")
    assert _says(gate) == ["Decided by bob", "Not dispatched by", "Not run: its approval expired"]
    # When the graph comes after all, it is told, and goes on without.
    session = bench.drive(session)
    assert (session.status, ran) == ("resolved", [])
    assert len(_events(session, "tool_lapsed")) == len(_events(session, "tool_refused")) == 1
    assert "its approval has expired" in _events(session, "tool_refused")[0].payload["why"]


def test_s05_a_graph_that_comes_too_late_lapses_the_call_itself(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _at_its_gate(bench, ran)
    bench.decide(gate)
    _approval_runs_out(session)
    session = bench.drive(session)
    assert (session.status, ran, bench.calls(session)) == ("resolved", [], {CALL: "expired"})
    assert len(_events(session, "tool_lapsed")) == 1
    assert _events(session, "tool_dispatched") == []
    assert _outcome(gate).dispatched_at is None


def test_an_approved_call_that_is_refused_at_its_dispatch_is_not_told_as_rejected(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _at_its_gate(bench, ran)
    bench.decide(gate)
    row = session.tool_calls.get()
    assert row.grant
    ToolCall.objects.filter(pk=row.pk).update(grant={**row.grant, "digest": "0" * 64})
    bench.drive(session)
    outcome = _outcome(gate)
    assert (ran, outcome.status, outcome.dispatched_at) == ([], "rejected", None)
    assert _says(gate) == ["Decided by bob", "Refused at its dispatch", "Not run"]
    assert "it is not the call that was approved" in outcome.text
    assert _events(session, "tool_dispatched") == _events(session, "tool_lapsed") == []


def test_a_session_that_is_stopped_before_the_dispatch_lapses_its_call(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _at_its_gate(bench, ran)
    bench.decide(gate)
    session.stop()
    assert bench.calls(session) == {CALL: "expired"}
    assert [event.payload["why"] for event in _events(session, "tool_lapsed")] == ["the session ended before it ran"]
    assert _says(gate) == ["Decided by bob", "Not dispatched", "Not run: its session ended first"]


def test_a_failed_call_was_decided_dispatched_and_failed(bench: Bench) -> None:
    async def breaks() -> None:
        raise RuntimeError("the service is away")

    ran: list[dict[str, Any]] = []
    session, gate = _at_its_gate(bench, ran, then=breaks)
    bench.decide(gate)
    bench.drive(session)
    outcome = _outcome(gate)
    assert (outcome.status, "the service is away" in outcome.excerpt) == ("failed", True)
    assert _says(gate) == ["Decided by bob", "Dispatched", "Failed"]


@pytest.mark.parametrize(
    ("answer", "told", "status"),
    [
        ("respond", ["Answered by bob", "Not dispatched", "Recorded as run"], "executed"),
        ("approve", ["Decided by bob", "Dispatched", "Executed"], "executed"),
        ("reject", ["Rejected by bob", "Not dispatched", "Left as it is: nobody knows whether it ran"], "rejected"),
    ],
)
def test_each_gate_tells_what_its_own_decision_led_to(bench: Bench, answer: str, told: list[str], status: str) -> None:
    """The call is cut off and asked about: whatever follows does not rewrite what the first gate says."""
    ran: list[dict[str, Any]] = []
    session, first = _at_its_gate(bench, ran, then=Deadly(1))
    bench.decide(first)
    bench.kill(session)
    session = bench.recover(session)
    second = bench.gate(session)
    cut_off = ["Decided by bob", "Dispatched", "Outcome unknown: cut off, noticed"]
    assert (_says(first), _outcome(first).status) == (cut_off, "unknown")
    bench.decide(second, answer, message="I looked: it is well")
    bench.drive(session)
    assert (_says(first), _outcome(first).status) == (cut_off, "unknown")
    assert (_says(second), _outcome(second).status) == (told, status)


def test_a_rejected_and_an_expired_call_were_never_dispatched(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    _, rejected = _at_its_gate(bench, ran)
    bench.decide(rejected, "reject", message="no")
    assert (_says(rejected), _outcome(rejected).status) == (
        ["Rejected by bob", "Not dispatched", "Not run"],
        "rejected",
    )
    _, expired = _at_its_gate(bench, ran)
    Gate.objects.filter(pk=expired.pk)._raw_update(expires_at=timezone.now() - timedelta(seconds=1))
    recovery.sweep()
    assert (_says(expired), _outcome(expired).status) == (["Nobody decided by", "Not dispatched", "Not run"], "expired")
    assert _outcome(expired).decided_at is None
