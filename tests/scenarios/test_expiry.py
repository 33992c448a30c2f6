"""A gate that nobody decides in time runs nothing, and its session does not wait for ever (S8, law L4)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from approvals_app.exceptions import GateExpired
from approvals_app.models import Gate
from approvals_app.querysets import GateQuerySet
from sessions_app import recovery
from tests.conftest import question_interrupt, tool_interrupt
from tests.fakes import agent_graph, calling, counting
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db

TURN = calling(("lab:fix", {"target": "checkout"}, "call-of-the-expiry"))


def run_out(gate: Gate) -> None:
    """Let the gate's time be over."""
    rows: GateQuerySet = Gate.objects.all()
    assert rows.filter(pk=gate.pk)._raw_update(expires_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("decision", ["approve", "edit", "reject"])
def test_a_gate_past_its_time_cannot_be_decided_even_before_the_sweep(bench: Bench, decision: str) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)])))
    gate = bench.gate(session)
    run_out(gate)
    with pytest.raises(GateExpired) as late:
        bench.decide(gate, decision, edited_args={"target": "checkout"} if decision == "edit" else None)
    assert (late.value.code, late.value.details["status"]) == ("conflict", "expired")
    assert gate.decisions.count() == 0
    session = bench.drive(session)
    assert (session.status, ran) == ("resolved", [])
    assert bench.kinds(session).count("gate_expired") == 1
    assert "gate_decided" not in bench.kinds(session)


def test_s08_the_sweep_expires_a_gate_once_nothing_runs_and_the_session_goes_on(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)])))
    run_out(bench.gate(session))
    assert [repair.session_id for repair in recovery.sweep(dry_run=True)] == [session.pk]
    assert bench.gates(session)
    assert [repair.session_id for repair in recovery.sweep()] == [session.pk]
    assert recovery.sweep() == []
    session.refresh_from_db()
    assert session.status == "in_progress"
    session = bench.drive(session)
    assert (session.status, ran) == ("resolved", [])
    assert bench.calls(session) == {"call-of-the-expiry": "expired"}
    assert bench.kinds(session).count("gate_expired") == 1
    with pytest.raises(GateExpired):
        bench.decide(Gate.objects.get(session=session))


def test_an_approved_call_runs_and_the_expired_one_beside_it_does_not(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    turn = calling(("lab:fix", {"target": "one"}, "call-one"), ("lab:fix", {"target": "two"}, "call-two"))
    session = bench.drive(bench.submit(agent_graph([turn], [counting("lab:fix", ran)])))
    gates = {gate.tool_call_id: gate for gate in bench.gates(session)}
    bench.decide(gates["call-one"])
    run_out(gates["call-two"])
    recovery.sweep()
    session = bench.drive(session)
    assert [one["target"] for one in ran] == ["one"]
    assert bench.calls(session) == {"call-one": "executed", "call-two": "expired"}


def test_s08_gates_of_many_sessions_expire_in_one_sweep_with_one_event_each(make_gate: Any) -> None:
    gates: list[Gate] = []
    for _ in range(10):
        first: Gate = make_gate(interrupts=[tool_interrupt(), question_interrupt()])
        gates += first.session.gates.all()
    for gate in gates:
        run_out(gate)
    assert len(recovery.sweep()) == 20
    for gate in gates:
        gate.refresh_from_db()
        assert gate.status == "expired"
        assert gate.session.events.filter(kind="gate_expired", payload__gate_id=gate.pk).count() == 1
        assert gate.session.status == "in_progress"
        assert gate.session.runs.filter(kind="resume", status="pending").count() == 1


def test_s08_one_gate_that_cannot_be_expired_does_not_keep_the_others_waiting(
    make_gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck: Gate = make_gate()
    other: Gate = make_gate()
    for gate in (stuck, other):
        run_out(gate)
    real = Gate.expire

    def fails_for_one(self: Gate) -> bool:
        if self.pk == stuck.pk:
            raise RuntimeError("this one is broken")
        return real(self)

    monkeypatch.setattr(Gate, "expire", fails_for_one)
    recovery.sweep()
    other.refresh_from_db()
    assert other.status == "expired"


def test_the_question_about_a_cut_off_call_that_nobody_answers_never_says_that_it_did_not_run(bench: Bench) -> None:
    """It may have run: whatever ends the question, the ledger goes on saying that nobody knows."""
    from tests.scenarios.test_ledger import CALL, _cut_off

    ran: list[dict[str, Any]] = []
    session, gate = _cut_off(bench, ran)
    run_out(gate)
    recovery.sweep()
    session = bench.drive(session)
    assert (session.status, len(ran)) == ("resolved", 1)
    row = session.tool_calls.get()
    assert row.tool_call_id == CALL
    assert row.status == "unknown" or "nobody knows whether it ran" in row.error.lower()
    assert "the call was not run" not in row.error
