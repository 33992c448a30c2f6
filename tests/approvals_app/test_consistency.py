"""The sweep finds what no verb could have done, and puts right what has one right answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from approvals_app import consistency
from approvals_app.models import Gate
from sessions_app import recovery
from sessions_app.models import Run, Session, ToolCall

pytestmark = pytest.mark.django_db


def _raw(sql: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def _agrees(session: Session) -> None:
    session.refresh_from_db()
    waits = Gate.objects.filter(session=session).pending().exists()
    assert (session.status == "awaiting_input") == waits
    last = session.events.status_changes().order_by("seq").last()
    assert last is not None
    assert last.payload["to"] == session.status
    assert consistency.disagreeing() == []


def test_a_desk_that_nobody_tampered_with_has_nothing_to_repair(make_gate: Any, make_session: Any, bob: User) -> None:
    make_session()
    make_session(status="in_progress")
    make_gate()
    decided = make_gate()
    decided.decide("approve", actor=bob, channel="api", digest=decided.digest)
    make_gate().session.stop()
    assert consistency.disagreeing() == []
    assert recovery.sweep() == []


def test_the_bug_it_began_with_is_put_right(make_gate: Any) -> None:
    """A gate is open and the stored status still says `new`."""
    gate = make_gate()
    _raw("UPDATE sessions_app_session SET status = 'new' WHERE id = %s", gate.session_id)
    assert [repair.session_id for repair in recovery.sweep()] == [gate.session_id]
    _agrees(gate.session)
    assert gate.session.events.filter(kind="session.repaired").count() == 1


def test_a_dry_run_says_it_and_changes_nothing(make_gate: Any) -> None:
    gate = make_gate()
    _raw("UPDATE sessions_app_session SET status = 'in_progress' WHERE id = %s", gate.session_id)
    (said,) = recovery.sweep(dry_run=True)
    assert said.text == "a gate is open, and the session did not say so"
    assert Session.objects.get(pk=gate.session_id).status == "in_progress"
    assert not gate.session.events.filter(kind="session.repaired").exists()


def test_a_decided_gate_whose_resume_was_lost_goes_on_with_its_answer(make_gate: Any, bob: User) -> None:
    gate = make_gate()
    gate.decide("reject", actor=bob, channel="api", digest=gate.digest, message="no")
    _raw("DELETE FROM sessions_app_run WHERE kind = 'resume'")
    _raw("UPDATE sessions_app_session SET status = 'awaiting_input' WHERE id = %s", gate.session_id)
    recovery.sweep()
    run = Run.objects.get(session=gate.session, kind="resume")
    assert run.status == "pending"
    assert run.answers == {gate.interrupt_id: {"type": "reject", "message": "no"}}
    _agrees(gate.session)


def test_a_session_that_nobody_works_on_is_taken_up_from_its_checkpoint(make_session: Any) -> None:
    session = make_session(status="in_progress")
    _raw("UPDATE sessions_app_run SET status = 'cancelled', lease_until = NULL")
    recovery.sweep()
    run = session.runs.get(status="pending")
    assert (run.kind, run.thread_id, run.answers) == ("resume", session.pk, {})
    _agrees(session)


def test_a_session_that_lost_its_first_run_gets_one(make_session: Any) -> None:
    session = make_session()
    _raw("DELETE FROM sessions_app_run")
    recovery.sweep()
    assert session.runs.get().kind == "start"
    _agrees(session)


def test_a_gate_that_outlived_its_session_is_cancelled(make_gate: Any) -> None:
    gate = make_gate()
    _raw(
        "UPDATE sessions_app_session SET status = 'resolved', ended_at = %s WHERE id = %s",
        timezone.now(),
        gate.session_id,
    )
    recovery.sweep()
    gate.refresh_from_db()
    assert gate.status == "cancelled"
    assert consistency.disagreeing() == []


def test_a_call_left_open_by_an_ended_session_is_unknown_and_an_approved_one_lapses(make_session: Any) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    common = {"session": session, "run": run, "agent": "a", "tool": "x:y", "digest": "d", "risk": "high"}
    common |= {"reason": "high_risk", "rule": "r", "rule_version": "v"}
    ToolCall.objects.create(tool_call_id="one", status="executing", **common)
    ToolCall.objects.create(tool_call_id="two", status="approved", **common)
    session.stop()
    recovery.sweep()
    statuses = dict(ToolCall.objects.values_list("tool_call_id", "status"))
    assert statuses == {"one": "unknown", "two": "expired"}
    assert recovery.sweep() == []


def test_what_has_no_one_right_answer_is_left_to_a_person(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    Run.objects.create(session=gate.session, kind="resume", thread_id=gate.session_id)
    assert recovery.sweep() == []
    ((session_id, kind),) = consistency.disagreeing()
    assert (session_id, kind.text) == (gate.session_id, "a gate is open while a run goes on")
