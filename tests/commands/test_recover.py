"""`manage.py recover`: the sweep on demand, each repair on its line."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from approvals_app.models import Gate
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
    ]
    run.refresh_from_db()
    gate.refresh_from_db()
    assert (run.status, gate.status) == ("pending", "expired")


def test_a_second_time_there_is_nothing_to_repair(crashed):
    recover()
    assert recover() == ["Nothing to repair."]


def test_a_dry_run_says_what_it_would_repair_and_changes_nothing(crashed):
    session, gate = crashed
    lines = recover("--dry-run")
    assert lines[-1] == "2 repairs to make; nothing was changed."
    gate.refresh_from_db()
    assert (session.runs.get().status, gate.status) == ("running", "pending")
    assert len(recover()) == len(lines)


def test_one_repair_is_one_repair(make_session):
    session = make_session(status="in_progress")
    Run.objects.filter(session=session).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert recover()[-1] == "1 repair made."
