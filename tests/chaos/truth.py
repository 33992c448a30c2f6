"""What is so, whatever a server says: the marks that strikes left, and what the database alone tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.script import EFFECTS
from tests.serving.server import PASSWORD, manage

#: What of a tally must be nothing.
ZEROS = ("gates lost", "tools run twice", "tools not run", "statuses wrong")


class Truth:
    """One installation's records, read by commands of their own, and its strikes' marks."""

    def __init__(self, env: Mapping[str, str], effects: Path) -> None:
        self._env = dict(env)
        self._effects = effects

    def make_people(self) -> None:
        """Make alice, who submits, and bob, who approves; both sign in with PASSWORD."""
        self._shell(_PEOPLE.format(password=PASSWORD))

    def effects(self) -> list[str]:
        """Return what was done to the world, in order."""
        return self._effects.read_text().splitlines() if self._effects.exists() else []

    def disagreements(self) -> int:
        """Count, from the database alone, what breaks L1 or L7, as it stands while nobody runs."""
        return int(self._shell(_COUNT).strip().splitlines()[-1])

    def given_up(self) -> set[str]:
        """Return the sessions that ended because a run of theirs was lost too often."""
        return set(self._shell(_GIVEN_UP).split())

    def endings(self, sessions: set[str]) -> str:
        """Say how these sessions stand and what befell them, for whoever looks into it."""
        return self._shell(_ENDINGS.format(sessions=sorted(sessions)))

    def tally(self, submitted: Sequence[str], *, left: int) -> dict[str, Any]:
        """Hold what was asked for against what was done, after everything ended but `left` sessions."""
        done = Counter(self.effects())
        expected = {f"{session} {target}" for session in submitted for target in EFFECTS}
        given_up = self.given_up()
        missing = expected - done.keys()
        not_run = {strike for strike in missing if strike.partition(" ")[0] not in given_up}
        if not_run and not left:
            print(self.endings({strike.partition(" ")[0] for strike in not_run}))
        return {
            "sessions": len(submitted),
            "gates lost": left,
            "tools run twice": sum(count - 1 for count in done.values()),
            "tools not run": len(not_run) if not left else "-",
            "given up": f"{len(given_up)} sessions, {len(missing - not_run)} effects",
            "statuses wrong": self.disagreements(),
        }

    def _shell(self, code: str) -> str:
        done = manage("shell", "--no-imports", "--verbosity", "0", "-c", code, env=self._env)
        assert done.returncode == 0, done.stderr
        return done.stdout


_PEOPLE = """
from django.contrib.auth.models import Group, User
for name, group in (("alice", "operator"), ("bob", "approver")):
    person = User.objects.create_user(name, password={password!r})
    person.groups.set(Group.objects.filter(name=group))
"""
_COUNT = """
from sessions_app.models import Session
wrong = 0
for session in Session.objects.all():
    pending = session.gates.pending().count()
    last = session.events.status_changes().order_by("seq").last()
    wrong += (session.status == "awaiting_input") != bool(pending)
    wrong += session.status != (last.payload["to"] if last else "new")
    wrong += session.version != session.events.count()
print(wrong)
"""
_GIVEN_UP = """
from sessions_app.models import SessionEvent
from sessions_app.models.run import GIVEN_UP
for event in SessionEvent.objects.filter(kind="run_failed", session__status="error"):
    if event.payload["error"].startswith(GIVEN_UP):
        print(event.session_id)
"""
_ENDINGS = """
from sessions_app.models import Session
for session in Session.objects.filter(pk__in={sessions}):
    print(session.pk, session.status, session.resolution)
    for call in session.tool_calls.all():
        print("   ", call.tool_call_id, call.status, call.error)
    for event in session.events.all():
        print("   ", event.seq, event.kind, str(event.payload)[:200])
"""
