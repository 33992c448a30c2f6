"""A gate is linked to the ledger's rows of its calls when it opens, in the same transaction, and never again."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from approvals_app.models import Gate, GateCall
from approvals_app.states import Channel
from sessions_app.exceptions import LogIsAppendOnly
from sessions_app.models import ToolCall
from tests.conftest import question_interrupt, tool_interrupt
from tests.laws.test_laws import interrupts_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def paused(make_session: Any) -> Any:
    """Pause at gates whose calls the ledger knows."""

    def pause(kinds: list[str]) -> list[Gate]:
        session = make_session(status="in_progress")
        run = session.runs.get()
        assert run.pause(interrupts_of(run, kinds), checkpoint_id="c")
        return list(session.gates.order_by("pk"))

    return pause


def test_a_gate_is_linked_to_its_own_call(paused: Any) -> None:
    first, second, question = paused(["tool", "tool", "question"])
    for gate in (first, second):
        link = gate.gate_calls.get()
        assert (link.call.tool_call_id, link.position) == (gate.tool_call_id, 0)
    assert not question.gate_calls.exists()


def test_a_batch_is_linked_to_every_call_in_its_order(make_session: Any) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    asked = interrupts_of(run, ["tool", "tool"])
    ids = [one["value"]["tool_call_id"] for one in asked]
    gate = Gate(
        session=session,
        run=run,
        interrupt_id="b",
        kind="batch",
        calls=[{"tool_call_id": one, "tool": "t", "args": {}} for one in [*reversed(ids), "unknown", ids[0]]],
        headline="2 calls",
        reason="high_risk",
        expires_at=session.created_at,
    )
    gate.save()
    found = gate.gate_calls.order_by("position").values_list("call__tool_call_id", "position")
    assert list(found) == [(ids[1], 0), (ids[0], 1)]


def test_the_same_call_of_another_run_is_not_linked(make_session: Any) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    asked = interrupts_of(run, ["tool"])
    ToolCall.objects.update(thread_id="another")
    assert run.pause(asked, checkpoint_id="c")
    assert not GateCall.objects.exists()


def test_a_call_that_the_ledger_does_not_know_is_linked_to_nothing(make_gate: Any) -> None:
    assert not make_gate(interrupts=[tool_interrupt(), question_interrupt()]).gate_calls.exists()


def test_without_the_gate_there_is_no_link(make_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    asked = interrupts_of(run, ["tool"])

    def broken(gate: Gate) -> None:
        link(gate)
        raise RuntimeError

    link = GateCall.link
    monkeypatch.setattr(GateCall, "link", broken)
    with pytest.raises(RuntimeError), transaction.atomic():
        run.pause(asked, checkpoint_id="c")
    assert not Gate.objects.exists()
    assert not GateCall.objects.exists()


def test_the_decision_reaches_the_ledger_through_the_link(paused: Any, bob: Any) -> None:
    first, second = paused(["tool", "tool"])
    first.decide("reject", actor=bob, channel=Channel.API, digest=first.digest, message="no")
    second.decide("approve", actor=bob, channel=Channel.API, digest=second.digest)
    assert first.gate_calls.get().call.status == "rejected"
    assert second.gate_calls.get().call.status == "approved"


def test_a_link_is_never_changed_or_removed(paused: Any) -> None:
    (gate,) = paused(["tool"])
    link = gate.gate_calls.get()
    for change in (link.save, link.delete, lambda: GateCall.objects.update(position=1), GateCall.objects.all().delete):
        with pytest.raises(LogIsAppendOnly):
            change()
    for statement in ("UPDATE approvals_app_gatecall SET position = 1", "DELETE FROM approvals_app_gatecall"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert GateCall.objects.get() == link
