"""`manage.py start_session`: the id on its own line, and with --wait where the session stands."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from sessions_app.management.commands import start_session
from sessions_app.models import Session
from sessions_app.states import SessionStatus


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch):
    monkeypatch.setattr(start_session, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(start_session, "UNCLAIMED_AFTER", 0.02)


def start(*args: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("start_session", *args, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def meanwhile(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[Session], Any]) -> None:
    """Do one step at each look, as a server would between them."""
    left = list(steps)

    def sleep(seconds: float) -> None:
        if left:
            left.pop(0)(Session.objects.latest("pk"))

    monkeypatch.setattr(time, "sleep", sleep)


def test_the_id_alone_is_printed_so_that_a_script_can_take_it(db):
    out, err = start("checkout is slow", "--environment", "dev")
    session = Session.objects.get()
    assert (out, err) == (f"{session.pk}\n", "")
    assert (session.query, session.environment, session.graph) == ("checkout is slow", "dev", "incident")
    assert session.requester is None
    assert session.runs.get().status == "pending"


def test_as_names_the_requester(alice):
    start("checkout is slow", "--environment", "dev", "--as", "alice")
    session = Session.objects.get()
    assert (session.requester, session.submitter_id) == (alice, "alice")


def test_wait_says_that_it_waits_for_a_decision(db, monkeypatch, make_gate):
    def claim(session):
        session.runs.get().claim("test:0:0")

    meanwhile(monkeypatch, claim, lambda session: make_gate(session))
    out, _ = start("checkout is slow", "--environment", "dev", "--wait")
    session = Session.objects.get()
    assert out.splitlines() == [
        session.pk,
        f"{session.pk} is awaiting_input: it waits for a decision on the desk.",
    ]


def test_wait_says_how_it_ended(db, monkeypatch):
    def resolve(session):
        session.runs.get().claim("test:0:0")
        session.refresh_from_db()
        session.move(SessionStatus.RESOLVED, cause="test", resolution="Nothing is wrong with checkout.")

    meanwhile(monkeypatch, resolve)
    out, _ = start("checkout is slow", "--environment", "dev", "--wait")
    assert out.splitlines()[1].endswith("is resolved: Nothing is wrong with checkout.")


def test_wait_fails_when_the_session_does(db, monkeypatch):
    def fail(session):
        run = session.runs.get()
        run.claim("test:0:0")
        run.fail("RuntimeError: the model is away")

    meanwhile(monkeypatch, fail)
    with pytest.raises(CommandError, match="is error: RuntimeError: the model is away"):
        start("checkout is slow", "--environment", "dev", "--wait")


def test_wait_wonders_aloud_once_when_nobody_takes_the_run(db, monkeypatch):
    nap = time.sleep
    looks = []

    def sleep(seconds: float) -> None:
        nap(0.015)
        looks.append(seconds)
        if len(looks) == 5:
            Session.objects.get().stop()

    monkeypatch.setattr(time, "sleep", sleep)
    _, err = start("checkout is slow", "--environment", "dev", "--wait")
    assert err.count("is `manage.py serve` running?") == 1


def test_an_interrupted_wait_leaves_the_session_to_go_on(db, monkeypatch):
    def interrupt(session):
        raise KeyboardInterrupt

    meanwhile(monkeypatch, interrupt)
    err = io.StringIO()
    with pytest.raises(SystemExit) as left:
        call_command("start_session", "q", "--environment", "dev", "--wait", stdout=io.StringIO(), stderr=err)
    assert left.value.code == 130
    assert "goes on without this command" in err.getvalue()
    assert Session.objects.get().status == "new"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["q", "--environment", "moon"], "environment: Unknown; it is one of production, staging, dev, local."),
        (["q", "--environment", "dev", "--graph", "tea"], "graph: Unknown; it is one of"),
        (["  ", "--environment", "dev"], "query: Say what the agent should look into."),
        (["x" * 20_000, "--environment", "dev"], "query: At most 16,000 characters; this has 20,000."),
        (["q", "--environment", "dev", "--as", "nobody"], "There is no user 'nobody'"),
        (["q"], "--environment"),
    ],
)
def test_bad_input_is_refused_with_what_to_do_and_nothing_is_written(db, args, says):
    with pytest.raises(CommandError, match=r".") as raised:
        start(*args)
    assert says in str(raised.value)
    assert not Session.objects.exists()


def test_somebody_who_cannot_sign_in_cannot_be_the_requester(alice):
    type(alice).objects.filter(pk=alice.pk).update(is_active=False)
    with pytest.raises(CommandError, match="alice is not active"):
        start("q", "--environment", "dev", "--as", "alice")


def test_a_broken_configuration_is_said_with_its_line(db, settings, tmp_path):
    settings.CLM_CONFIG = tmp_path / "clm.toml"
    settings.CLM_CONFIG.write_text('[models]\ndefault = "nobody"\n')
    with pytest.raises(CommandError, match=r"clm\.toml, line 2"):
        start("q", "--environment", "dev")
