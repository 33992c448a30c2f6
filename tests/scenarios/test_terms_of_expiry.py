"""Each rule says how its gates expire and what follows; whichever it is, nothing runs (L4, S8)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from approvals_app.exceptions import GateCancelled, GateExpired
from approvals_app.models import Gate
from sessions_app import recovery
from sessions_app.models import Session
from tests.conftest import question_interrupt, tool_interrupt
from tests.fakes import agent_graph, calling, counting
from tests.scenarios.conftest import LAB_RULES, Bench

pytestmark = pytest.mark.django_db

Rules = Callable[[str], None]
TURN = calling(("lab:fix", {"target": "one"}, "call-one"), ("lab:fix", {"target": "two"}, "call-two"))

TERMS = """
[[risk.rules]]
name = "lab_fix"
tool = "lab:fix"
risk = "high"
expires_after = "10m"
execution_expires_after = "30s"
on_expiry = "{on_expiry}"
"""


def run_out(gate: Gate) -> None:
    """Let the gate's time be over."""
    Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=timezone.now() - timedelta(seconds=1))


def _two_gates(bench: Bench, ran: list[dict[str, Any]]) -> tuple[Session, Gate, Gate]:
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)])))
    one, two = sorted(bench.gates(session), key=lambda gate: gate.tool_call_id)
    return session, one, two


def test_a_gate_takes_the_terms_of_its_rule_and_keeps_them(bench: Bench, rules: Rules) -> None:
    rules(LAB_RULES + TERMS.format(on_expiry="stop"))
    ran: list[dict[str, Any]] = []
    session, gate, other = _two_gates(bench, ran)
    assert gate.on_expiry == "stop"
    assert gate.execution_expires_after == timedelta(seconds=30)
    assert timedelta(minutes=9) < gate.expires_at - gate.created_at <= timedelta(minutes=10)
    assert gate.digest == gate.digest_of_shown()
    # What the file says later holds for later gates.
    rules(LAB_RULES)
    bench.decide(gate)
    row = session.tool_calls.get(tool_call_id="call-one")
    assert row.runs_until
    assert row.approved_at
    assert row.runs_until - row.approved_at < timedelta(seconds=31)
    run_out(other)
    recovery.sweep()
    session.refresh_from_db()
    assert session.status == "stopped"


@pytest.mark.parametrize("field", ["on_expiry", "execution_expires_after"])
def test_the_terms_are_part_of_what_was_shown(make_gate: Any, field: str) -> None:
    gate: Gate = make_gate()
    setattr(gate, field, "escalate" if field == "on_expiry" else timedelta(days=1))
    assert gate.digest_of_shown() != gate.digest


@pytest.mark.parametrize(("on_expiry", "status"), [("stop", "stopped"), ("escalate", "escalated")])
@pytest.mark.parametrize("by", ["sweep", "late decision"])
def test_the_session_ends_with_its_other_gates_and_its_approved_calls(
    bench: Bench, rules: Rules, on_expiry: str, status: str, by: str
) -> None:
    rules(LAB_RULES + TERMS.format(on_expiry=on_expiry))
    ran: list[dict[str, Any]] = []
    session, gate, other = _two_gates(bench, ran)
    run_out(gate)
    if by == "sweep":
        recovery.sweep()
    else:
        with pytest.raises(GateExpired):
            bench.decide(gate)
    session.refresh_from_db()
    assert (session.status, session.ended) == (status, True)
    assert session.resolution.startswith("Nobody decided by ")
    assert not session.runs.active().exists()
    gate.refresh_from_db()
    other.refresh_from_db()
    assert (gate.status, other.status) == ("expired", "cancelled")
    assert bench.calls(session) == {"call-one": "expired", "call-two": "rejected"}
    moved = session.events.get(kind="session.status_changed", payload__to=status)
    assert (moved.payload["actor"], moved.payload["cause"]) == (None, f"gate {gate.pk} expired")
    (gone,) = session.events.filter(kind="gate_cancelled")
    assert (gone.payload["gate_id"], gone.payload["cause"]) == (other.pk, f"gate {gate.pk} expired")
    assert session.events.get(kind="gate_expired").payload["on_expiry"] == on_expiry
    with pytest.raises(GateCancelled):
        bench.decide(other)
    assert ran == []
    # It is over, and can be asked for again.
    session.rerun()
    session = bench.drive(session)
    assert session.status == "awaiting_input"


def test_a_call_that_was_approved_beside_a_gate_that_ends_the_session_does_not_run(bench: Bench, rules: Rules) -> None:
    rules(LAB_RULES + TERMS.format(on_expiry="escalate"))
    ran: list[dict[str, Any]] = []
    session, gate, other = _two_gates(bench, ran)
    bench.decide(gate)
    run_out(other)
    recovery.sweep()
    assert bench.calls(session) == {"call-one": "expired", "call-two": "expired"}
    assert session.events.filter(kind="tool_lapsed").count() == 1
    assert ran == []


def test_when_ending_the_session_fails_the_gate_stays_and_nothing_is_written(
    bench: Bench, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules(LAB_RULES + TERMS.format(on_expiry="stop"))
    session, gate, _ = _two_gates(bench, [])
    run_out(gate)
    before = bench.kinds(session)

    def fails(self: Gate, **kwargs: Any) -> bool:
        raise RuntimeError("the other gate cannot be cancelled")

    monkeypatch.setattr(Gate, "cancel", fails)
    recovery.sweep()
    assert bench.kinds(session) == before
    assert len(bench.gates(session)) == 2


def test_a_question_has_terms_of_its_own(make_gate: Any, rules: Rules) -> None:
    rules('[approvals]\nexpires_after = "1h"\n[approvals.questions]\nexpires_after = "1d"\non_expiry = "escalate"\n')
    call: Gate = make_gate(interrupts=[tool_interrupt()])
    question: Gate = make_gate(interrupts=[question_interrupt()])
    assert (call.on_expiry, question.on_expiry) == ("reject", "escalate")
    assert question.expires_at - call.expires_at > timedelta(hours=22)
    run_out(question)
    recovery.sweep()
    question.session.refresh_from_db()
    assert question.session.status == "escalated"
