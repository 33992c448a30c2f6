from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from clm_site.installation.moving import CannotMove, move
from clm_site.installation.occupancy import InUse, occupied
from sessions_app.agents.checkpointer import open_checkpointer


class Command(BaseCommand):
    """Carry the embedded installation in CLM_DATA_DIR, with all that happened, into the PostgreSQL of DATABASE_URL."""

    help = (
        "Copy every record and every checkpoint of the embedded installation in CLM_DATA_DIR into the empty PostgreSQL "
        "database of DATABASE_URL, in one transaction. What waits for a decision waits there. Stop the server first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take whether faults in the audit trail may come along."""
        parser.add_argument(
            "--despite-faults", action="store_true", help="move also what the audit finds changed, and name it"
        )

    def handle(self, *args: Any, despite_faults: bool, **options: Any) -> None:
        """Make the tables, move, and say what comes next; what cannot be moved is refused with a sentence."""
        if connection.vendor != "postgresql":
            raise CommandError("Set DATABASE_URL to the PostgreSQL database that is to take the installation.")
        source = settings.CLM_DATA_DIR
        try:
            with occupied(source, alone=True):
                call_command("migrate", verbosity=0)
                async_to_sync(_make_checkpoint_tables)()
                self.stdout.write(f"Moving {source} to PostgreSQL:")
                move(source, say=self._say, despite_faults=despite_faults)
        except (CannotMove, InUse) as refused:
            raise CommandError(f"{refused} Nothing was moved.") from None
        self.stdout.write(
            "Moved. Start web and workers with this DATABASE_URL, and with the secret key of this installation as "
            f"CLM_SECRET_KEY on every host (it is in {source / 'secret_key'} unless you set it), so that people stay "
            "signed in. The old files are as they were; no server starts on them any more."
        )

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


async def _make_checkpoint_tables() -> None:
    async with open_checkpointer():
        pass
