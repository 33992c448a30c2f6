"""List the checkpoints of a session, to choose one for `rerun --from`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions_app.agents import checkpoints
from sessions_app.exceptions import ClmError
from sessions_app.models import Session

#: Letters of what a checkpoint says that fit beside its id.
WIDTH = 100


class Command(BaseCommand):
    """Print one line a checkpoint: its id, its attempt, when, what would run next and what is known by then."""

    help = "List the checkpoints from which a session can be run again, the oldest first, over all its attempts."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take one id."""
        parser.add_argument("session_id", metavar="SESSION_ID", help="for example INC-20260516-061")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print them."""
        session = Session.objects.filter(pk=options["session_id"]).first()
        if session is None:
            raise CommandError(f"There is no session {options['session_id']!r}.")
        try:
            found = checkpoints.boundaries(session)
        except ClmError as error:
            raise CommandError(error.text) from None
        if not found:
            self.stdout.write(f"{session.pk} has no checkpoint yet.")
        for one in found:
            says = one.says if len(one.says) <= WIDTH else f"{one.says[: WIDTH - 1]}…"
            self.stdout.write(
                f"{one.checkpoint_id}  attempt {one.attempt}  {one.at:%Y-%m-%d %H:%M:%S}  "
                f"before {', '.join(one.next)}  {says}"
            )
