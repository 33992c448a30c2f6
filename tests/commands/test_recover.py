"""`manage.py recover`: the sweep on demand, each repair on its line."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from approvals_app.models import Gate, RepairCard
from approvals_app.states import GateStatus
from sessions_app.models import Run


@pytest.fixture
def crashed(make_session, make_gate):
    """A run whose lease is over, and a gate whose time is over."""
    session, gate = make_session(status="in_progress"), make_gate()
    past = timezone.now() - timedelta(minutes=1)
    Run.objects.filter(session=session).update(lease_until=past)
    Gate.objects.swap(gate.pk, GateStatus.PENDING, expires_at=past)
    return session, gate


def recover(*args: str) -> list[str]:
    out = io.StringIO()
    call_command("recover", *args, stdout=out)
    return out.getvalue().splitlines()


def test_each_repair_is_printed_and_counted(crashed):
    session, gate = crashed
    run = session.runs.get()
    assert recover() == [
        f"{session.pk}: start run {run.pk} taken up again",
        f"{gate.session_id}: gate {gate.pk} ({gate.headline}) expired",
        "2 repairs made.",
        "0 awaiting · 0 gates · 0 disagreements · checked now",
    ]
    run.refresh_from_db()
    gate.refresh_from_db()
    assert (run.status, gate.status) == ("pending", "expired")


def test_a_second_time_there_is_nothing_to_repair(crashed):
    recover()
    assert recover() == ["Nothing to repair.", "0 awaiting · 0 gates · 0 disagreements · checked now"]


def test_a_dry_run_says_what_it_would_repair_and_changes_nothing(crashed):
    session, gate = crashed
    lines = recover("--dry-run")
    assert lines[-2:] == [
        "2 repairs to make; nothing was changed.",
        "1 awaiting · 1 gate · 0 disagreements · checked now",
    ]
    gate.refresh_from_db()
    assert (session.runs.get().status, gate.status) == ("running", "pending")
    assert len(recover()) == len(lines)


def test_one_repair_is_one_repair(make_session):
    session = make_session(status="in_progress")
    Run.objects.filter(session=session).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert recover()[-2] == "1 repair made."


@pytest.fixture
def disagreeing(make_gate):
    """A gate whose graph does not ask for it: there is no checkpoint at all; and one beside an active run."""
    unasked, driven = make_gate(), make_gate()
    Run.objects.filter(pk=unasked.run_id).update(ended_at=timezone.now() - timedelta(minutes=1))
    Run.objects.create(session=driven.session, kind="resume", thread_id=driven.session_id)
    return unasked, driven


def test_what_a_person_must_do_is_said_every_time_until_it_is_done(disagreeing):
    unasked, driven = disagreeing
    for _ in range(2):
        lines = recover()
        assert lines[0].startswith(f"{unasked.session_id}: a gate is open, and its graph does not ask for it. For a ")
        assert lines[1].startswith(f"{driven.session_id}: a gate is open while a run goes on. For a person: Stop the")
        assert lines[2:] == [
            "Nothing to repair.",
            "2 awaiting · 2 gates · 2 disagreements (2 repair cards) · checked now",
        ]
    for gate in disagreeing:
        gate.session.stop()
    assert recover() == ["Nothing to repair.", "0 awaiting · 0 gates · 0 disagreements · checked now"]


def test_a_dry_run_finds_the_same_and_opens_no_card(disagreeing):
    lines = recover("--dry-run")
    assert len(lines) == 4
    assert lines[-1] == "2 awaiting · 2 gates · 2 disagreements · checked now"
    assert not RepairCard.objects.exists()
