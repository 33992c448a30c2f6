"""`manage.py rerun`: each id gets its line, and the exit code says whether all went through."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from approvals_app.models import Gate
from sessions_app.models import Run
from sessions_app.states import SessionStatus


@pytest.fixture
def ended(make_session):
    """Make a session that ended in some way."""

    def make(status: str = "error"):
        session = make_session(status="in_progress")
        session.runs.update(status="failed", ended_at=timezone.now())
        session.move(SessionStatus(status), cause="test")
        return session

    return make


def rerun(*args: str) -> list[str]:
    out = io.StringIO()
    call_command("rerun", *args, stdout=out)
    return out.getvalue().splitlines()


def refused(*args: str) -> tuple[list[str], CommandError]:
    out = io.StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("rerun", *args, stdout=out)
    return out.getvalue().splitlines(), raised.value


def test_a_session_that_ended_is_rerun_and_its_run_named(ended):
    session = ended()
    lines = rerun(session.pk)
    run = session.runs.latest("pk")
    assert lines == [f"{session.pk}: rerun queued as run {run.pk}."]
    assert (run.kind, run.status) == ("rerun", "pending")


def test_a_status_stands_for_every_session_that_ended_so(ended):
    wrong, fine, again = ended("error"), ended("resolved"), ended("error")
    lines = rerun("--status", "error")
    assert [line.split(":")[0] for line in lines] == [wrong.pk, again.pk]
    assert fine.runs.count() == 1


def test_a_status_that_no_session_has_is_said_and_is_no_failure(ended):
    ended("resolved")
    assert rerun("--status", "error") == ["No session is error."]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(ended, make_gate):
    session, gate = ended(), make_gate()
    lines, error = refused(session.pk, gate.session_id, "--dry-run")
    assert lines[0] == f"{session.pk}: would be rerun."
    assert lines[1].startswith(f"{gate.session_id}: would be refused. {gate.session_id} waits for a decision")
    assert str(error) == "1 of 2 would be refused."
    assert not Run.objects.filter(kind="rerun").exists()


def test_s12_an_awaiting_session_is_refused_with_why_and_the_others_go_on(ended, make_gate):
    first, gate, last = ended(), make_gate(), ended("stopped")
    lines, error = refused(first.pk, gate.session_id, last.pk)
    assert lines[1].startswith(f"{gate.session_id}: refused. {gate.session_id} waits for a decision")
    assert [("queued" in line) for line in lines] == [True, False, True]
    assert (str(error), error.returncode) == ("1 of 3 was refused.", 1)
    assert Gate.objects.get(pk=gate.pk).pending


def test_an_unknown_id_is_named(ended):
    session = ended()
    lines, error = refused("INC-20260516-061", session.pk)
    assert lines[0] == "INC-20260516-061: refused. There is no session with this id."
    assert "queued" in lines[1]
    assert error.returncode == 1


def test_an_id_given_twice_is_rerun_once(ended):
    session = ended()
    assert len(rerun(session.pk, session.pk)) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "Name the sessions to rerun, or choose them with --status: one of the two."),
        (["INC-20260516-061", "--status", "error"], "one of the two."),
        (["--status", "awaiting_input"], "--status awaiting_input is not a way to have ended: write one of"),
        (["--status", "broken"], "write one of duplicate, error, escalated, needs_review, resolved, stopped."),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused_with_what_to_write(db, args, says):
    with pytest.raises(CommandError, match=r".") as raised:
        call_command("rerun", *args)
    assert says in str(raised.value)
