"""Start a session from a terminal or a script."""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions_app.exceptions import ClmError
from sessions_app.models import Run, Session
from sessions_app.states import RunStatus, SessionStatus

#: How often `--wait` looks, and after how long it wonders aloud whether anybody claims the run; in seconds.
LOOK_EVERY = 0.5
UNCLAIMED_AFTER = 10.0


class Command(BaseCommand):
    """Submit a session and print its id."""

    help = (
        "Start a session and print its id; a running `manage.py serve` drives it. "
        "With --wait, go on until it waits for a decision or has ended, and say which."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what the form on the desk takes."""
        parser.add_argument("query", metavar="QUERY", help="what the agents should look into")
        parser.add_argument("--environment", required=True, help="where the incident is, for example dev")
        parser.add_argument("--graph", default="incident", help="the graph to run (default: incident)")
        parser.add_argument(
            "--as",
            dest="username",
            metavar="USERNAME",
            help="the requester, who then cannot decide its gates",
        )
        parser.add_argument("--wait", action="store_true", help="wait until it stops, and say where it stands")

    def handle(self, *args: Any, **options: Any) -> None:
        """Submit, print the id alone on its line, and wait if asked to."""
        try:
            session = Session.submit(
                query=options["query"],
                environment=options["environment"],
                graph=options["graph"],
                requester=_requester(options["username"]),
            )
        except ClmError as error:
            raise CommandError(error.text) from None
        self.stdout.write(session.pk)
        self.stdout.flush()
        if options["wait"]:
            self._wait(session)

    def _wait(self, session: Session) -> None:
        try:
            self._watch(session)
        except KeyboardInterrupt:
            self.stderr.write(f"No longer waiting; {session.pk} goes on without this command.", self.style.WARNING)
            raise SystemExit(130) from None
        if session.status == SessionStatus.AWAITING_INPUT:
            self.stdout.write(f"{session.pk} is awaiting_input: it waits for a decision on the desk.")
            return
        text = f"{session.pk} is {session.status}: {session.resolution or session.label}"
        if session.status == SessionStatus.ERROR:
            raise CommandError(text)
        self.stdout.write(text)

    def _watch(self, session: Session) -> None:
        """Return when the session waits for somebody or has ended; say once when nobody drives it."""
        began, said = time.monotonic(), False
        while session.status != SessionStatus.AWAITING_INPUT and not session.ended:
            time.sleep(LOOK_EVERY)
            session.refresh_from_db()
            if not said and time.monotonic() - began > UNCLAIMED_AFTER and _unclaimed(session):
                said = True
                self.stderr.write(
                    f"Nobody has taken {session.pk} up yet: is `manage.py serve` running?", self.style.WARNING
                )


def _requester(username: str | None) -> Any:
    if username is None:
        return None
    user = get_user_model().objects.filter(**{get_user_model().USERNAME_FIELD: username}).first()
    if user is None:
        raise CommandError(f"There is no user {username!r}: `manage.py createsuperuser` or the admin makes one.")
    if not user.is_active:
        raise CommandError(f"{username} is not active: name somebody who can sign in.")
    return user


def _unclaimed(session: Session) -> bool:
    return Run.objects.filter(session=session, status=RunStatus.PENDING).exists()
