"""S16 and S24: a stopped session's gates stay answerable, and approving one runs the tool."""

from __future__ import annotations

from typing import Any

import pytest

from approvals_app.exceptions import GateCancelled, GateDecided
from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app.models import ToolCall
from tests.conftest import question_interrupt, tool_interrupt
from tests.fakes import agent_graph, calling, counting
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db

THREE = calling(
    ("lab:fix", {"target": "one"}, "call-one"),
    ("lab:fix", {"target": "two"}, "call-two"),
    ("lab:fix", {"target": "three"}, "call-three"),
)


def test_s16_stopping_cancels_every_open_gate_and_says_so_once_each(make_gate: Any, alice: Any) -> None:
    gate: Gate = make_gate(interrupts=[tool_interrupt(), question_interrupt(), tool_interrupt()])
    gate.session.stop(actor=alice, note="enough")
    session = gate.session
    session.refresh_from_db()
    assert (session.status, session.resolution) == ("stopped", "enough")
    assert [one.status for one in session.gates.order_by("pk")] == ["cancelled"] * 3
    assert session.events.filter(kind="gate_cancelled").count() == 3
    assert not session.runs.active().exists()


def test_s16_when_a_gate_cannot_be_cancelled_the_session_is_not_stopped_either(
    make_gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate: Gate = make_gate(interrupts=[tool_interrupt(), tool_interrupt()])
    before = gate.session.events.count()
    real = Gate.cancel

    def second_fails(self: Gate, **kwargs: Any) -> bool:
        if self.pk != gate.pk:
            raise RuntimeError("the disk is full")
        return real(self, **kwargs)

    monkeypatch.setattr(Gate, "cancel", second_fails)
    with pytest.raises(RuntimeError, match="disk is full"):
        gate.session.stop()
    session = type(gate.session).objects.get(pk=gate.session_id)
    assert session.status == "awaiting_input"
    assert {one.status for one in session.gates.all()} == {"pending"}
    assert session.events.count() == before


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_s16_whoever_comes_too_late_is_told_why(make_gate: Any, bob: Any, decision: str) -> None:
    gate: Gate = make_gate()
    gate.session.stop()
    with pytest.raises(GateCancelled, match="was cancelled; nothing was run") as late:
        gate.decide(decision, actor=bob, channel=Channel.PAGE, digest=gate.digest)
    assert "stopped" in late.value.text
    assert (late.value.code, gate.decisions.count()) == ("conflict", 0)


def test_s24_approving_after_the_stop_runs_nothing(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([THREE], [counting("lab:fix", ran)])))
    gates = bench.gates(session)
    session.stop()
    for gate in gates:
        with pytest.raises(GateCancelled):
            bench.decide(gate)
    assert not session.runs.active().exists()
    assert ran == []


def test_s24_a_session_that_is_stopped_after_the_approval_and_before_the_run_does_not_run_it(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(
        bench.submit(agent_graph([calling(("lab:fix", {"target": "one"}, "call-one"))], [counting("lab:fix", ran)]))
    )
    gate = bench.gate(session)
    bench.decide(gate)
    session.stop()
    assert not session.runs.active().exists()
    assert (Gate.objects.get(pk=gate.pk).status, ran) == ("approved", [])
    with pytest.raises(GateDecided, match="bob"):
        bench.decide(gate)


def test_s16_a_stop_leaves_no_call_approved_or_waiting_for_ever(bench: Bench) -> None:
    """One of three was approved when the stop came: nothing will run it, so nothing may say that it waits to run."""
    session = bench.drive(bench.submit(agent_graph([THREE], [counting("lab:fix", [])])))
    bench.decide(bench.gates(session)[0])
    session.stop()
    assert not ToolCall.objects.filter(status__in=["approved", "pending_approval", "executing"]).exists()
