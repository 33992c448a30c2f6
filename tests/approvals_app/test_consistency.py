"""The sweep finds what no verb could have done, and puts right what has one right answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from approvals_app import consistency
from approvals_app.models import Comparison, Gate, RepairCard
from sessions_app import recovery
from sessions_app.models import Run, Session, ToolCall
from tests.conftest import tool_interrupt

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


def _kept() -> Comparison:
    return Comparison.objects.get(pk=Comparison.ONLY)


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


def _gate_and_run(make_gate: Callable[..., Gate]) -> Gate:
    gate = make_gate()
    Run.objects.create(session=gate.session, kind="resume", thread_id=gate.session_id)
    return gate


def test_what_has_no_one_right_answer_becomes_a_repair_card_once(make_gate: Callable[..., Gate]) -> None:
    gate = _gate_and_run(make_gate)
    (asked,) = recovery.sweep()
    assert (asked.session_id, asked.text) == (gate.session_id, "a gate is open while a run goes on")
    assert asked.by_hand
    assert recovery.sweep() == []
    card = RepairCard.objects.open().get()
    assert (card.session_id, card.kind) == (gate.session_id, "gate_and_run")
    (event,) = gate.session.events.filter(kind="session.repair_asked")
    assert event.payload == {"card_id": card.pk, "what": asked.text}
    assert not gate.session.events.filter(kind="session.repaired").exists()


def test_a_dry_run_opens_no_card(make_gate: Callable[..., Gate]) -> None:
    _gate_and_run(make_gate)
    assert recovery.sweep(dry_run=True)
    assert not RepairCard.objects.exists()
    assert Comparison.latest() is None


def test_stopping_the_session_closes_its_card_in_the_same_transaction(make_gate: Any, alice: User) -> None:
    gate = _gate_and_run(make_gate)
    recovery.sweep()
    gate.session.stop(actor=alice)
    card = RepairCard.objects.get()
    assert card.ending == "the session ended: stopped"
    assert gate.session.events.filter(kind="session.repair_closed").count() == 1
    assert recovery.sweep() == []


def test_a_card_goes_when_what_it_says_is_no_longer_so(make_gate: Callable[..., Gate]) -> None:
    gate = _gate_and_run(make_gate)
    recovery.sweep()
    _raw("DELETE FROM sessions_app_run WHERE status = 'pending'")
    recovery.sweep()
    assert RepairCard.objects.get().ending == "it is no longer so"
    assert _kept().disagreements == 0
    # It may come back, and is then asked about again.
    Run.objects.create(session=gate.session, kind="resume", thread_id=gate.session_id)
    assert len(recovery.sweep()) == 1


def test_a_gate_of_a_run_that_did_not_end_by_asking_is_asked_about_and_can_be_decided(
    make_gate: Any, bob: User
) -> None:
    gate = make_gate()
    _raw("UPDATE sessions_app_run SET status = 'failed'")
    (asked,) = recovery.sweep()
    assert asked.text == "a gate is open, and the run that asked did not end by asking"
    gate.decide("approve", actor=bob, channel="api", digest=gate.digest)
    recovery.sweep()
    assert not RepairCard.objects.open().exists()
    assert gate.session.runs.get(status="pending").kind == "resume"


def test_one_repair_that_fails_does_not_keep_the_sweep_from_the_others(make_gate: Any, monkeypatch: Any) -> None:
    first, second = make_gate(), make_gate()
    _raw("UPDATE sessions_app_session SET status = 'in_progress'")
    real = Session.move

    def move(self: Session, *args: Any, **kwargs: Any) -> bool:
        if self.pk == first.session_id:
            raise RuntimeError("cannot")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Session, "move", move)
    assert [repair.session_id for repair in recovery.sweep()] == [second.session_id]
    kept = _kept()
    assert (kept.disagreements, kept.put_right, kept.left_lying) == (2, 1, 1)
    assert not first.session.events.filter(kind="session.repaired").exists()


# What is kept -----------------------------------------------------------------------------------------------------


def test_the_two_numbers_count_sessions_so_that_they_compare(make_gate: Any, make_session: Any) -> None:
    make_gate(interrupts=[tool_interrupt(), tool_interrupt()])
    make_gate()
    make_session()
    recovery.sweep()
    kept = _kept()
    assert (kept.awaiting, kept.gates) == (2, 2)
    assert kept.words == "2 awaiting · 2 gates · 0 disagreements"


def test_a_disagreement_is_said_with_what_became_of_it_and_then_no_longer(make_gate: Any) -> None:
    gate = make_gate()
    _raw("UPDATE sessions_app_session SET status = 'new' WHERE id = %s", gate.session_id)
    recovery.sweep()
    assert _kept().words == "0 awaiting · 1 gate · 1 disagreement (put right)"
    recovery.sweep()
    assert _kept().words == "1 awaiting · 1 gate · 0 disagreements"


def test_a_disagreement_lasts_when_three_sweeps_do_not_put_it_right(make_gate: Any, monkeypatch: Any) -> None:
    make_gate()
    _raw("UPDATE sessions_app_session SET status = 'in_progress'")
    with monkeypatch.context() as broken:
        broken.setattr(Session, "move", mock.Mock(side_effect=RuntimeError("cannot")))
        recovery.sweep()
        assert not _kept().lasting
        Comparison.objects.update(lasting_since=timezone.now() - timedelta(minutes=1))
        recovery.sweep()
        assert _kept().lasting
    recovery.sweep()
    assert _kept().lasting_since is None


def test_there_is_one_comparison_however_many_sweep(make_gate: Any) -> None:
    recovery.sweep()
    recovery.sweep()
    assert Comparison.objects.count() == 1


def test_the_comparison_costs_the_same_however_many_wait(make_gate: Any, django_assert_max_num_queries: Any) -> None:
    for _ in range(5):
        make_gate()
    with django_assert_max_num_queries(2 + len(consistency.DISAGREEMENTS)):
        consistency.compare()


# Checkpoints ------------------------------------------------------------------------------------------------------


def _seen(gate: Gate, *interrupts: dict[str, Any]) -> list[recovery.Seen]:
    return [recovery.Seen(gate.run, list(interrupts), "checkpoint")]


def _asks(gate: Gate) -> dict[str, Any]:
    return {"id": gate.interrupt_id, "value": gate.request, "response_schema": None}


def test_a_graph_that_asks_for_its_open_gate_agrees(make_gate: Any) -> None:
    gate = make_gate()
    assert recovery.judge(_seen(gate, _asks(gate))) == []


def test_a_pause_without_its_gate_gets_one(make_gate: Any) -> None:
    gate = make_gate()
    extra = tool_interrupt()
    (repair,) = recovery.judge(_seen(gate, _asks(gate), extra))
    assert repair.text == "its graph asks, and no gate was open"
    assert Gate.objects.get(interrupt_id=extra["id"]).pending
    assert recovery.judge(_seen(gate, _asks(gate), extra)) == []
    _agrees(gate.session)


def test_a_session_whose_gate_never_opened_waits_again(make_session: Any) -> None:
    session = make_session(status="in_progress")
    _raw("UPDATE sessions_app_run SET status = 'interrupted', lease_until = NULL, ended_at = %s", timezone.now())
    seen = [recovery.Seen(session.runs.get(), [tool_interrupt()], "checkpoint")]
    assert recovery.judge(seen, dry_run=True)
    assert not Gate.objects.exists()
    recovery.judge(seen)
    _agrees(session)
    assert session.events.filter(kind="session.repaired").count() == 1


def test_a_gate_that_its_graph_does_not_ask_for_is_given_to_a_person(make_gate: Any) -> None:
    gate = make_gate()
    (asked,) = recovery.judge(_seen(gate))
    assert asked.text == "a gate is open, and its graph does not ask for it"
    assert recovery.judge(_seen(gate)) == []
    recovery.sweep()
    assert _kept().words == "1 awaiting · 1 gate · 1 disagreement (1 repair card)"
    # The checkpoints are restored, and the round comes by again.
    assert recovery.judge(_seen(gate, _asks(gate))) == []
    assert RepairCard.objects.get().ending == "its graph asks for it"


def test_a_checkpoint_that_was_read_before_somebody_decided_says_nothing(make_gate: Any, bob: User) -> None:
    gate = make_gate()
    seen = _seen(gate, _asks(gate), tool_interrupt())
    gate.decide("approve", actor=bob, channel="api", digest=gate.digest)
    assert recovery.judge(seen) == []
    stopped = make_gate()
    seen = _seen(stopped)
    stopped.session.stop()
    assert recovery.judge(seen) == []


def test_only_pauses_that_have_rested_are_read_in_slices_and_round_again(make_gate: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(recovery, "SLICE", 2)
    gates = [make_gate() for _ in range(5)]
    gates[4].session.stop()
    assert recovery.at_rest() == []
    _raw("UPDATE sessions_app_run SET ended_at = %s", timezone.now() - timedelta(minutes=1))
    runs = [gate.run for gate in gates[:4]]
    turn = recovery.Round()
    assert [turn.next() for _ in range(4)] == [runs[:2], runs[2:], [], runs[:2]]
    assert list(recovery.all_at_rest()) == [runs[:2], runs[2:]]


# Leases -----------------------------------------------------------------------------------------------------------


def test_a_worker_that_renews_between_the_look_and_the_release_keeps_its_run(make_session: Any) -> None:
    run = make_session(status="in_progress").runs.get()
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    (stalled,) = Run.objects.stalled()
    assert run.renew()
    assert not stalled.take_away(cause="it was slow")
    run.refresh_from_db()
    assert (run.status, run.losses) == ("running", 0)
    assert not run.session.events.filter(kind="run_recovered").exists()


def test_nor_is_it_given_up_then(make_session: Any, settings: Any) -> None:
    settings.CLM_MAX_ATTEMPTS = 1
    run = make_session(status="in_progress").runs.get()
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    (stalled,) = Run.objects.stalled()
    assert run.renew()
    assert not stalled.take_away(cause="it was slow")
    assert run.session.events.filter(kind="run_failed").count() == 0
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert recovery.sweep()
    run.refresh_from_db()
    assert run.error.startswith("Given up")
