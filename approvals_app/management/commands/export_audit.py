from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from approvals_app.audit import export, export_redacted
from sessions_app.models import Session


class Command(BaseCommand):
    """Write the history as JSON Lines that verify without CLM."""

    help = "Write sessions' history as JSON Lines to standard output; docs/audit.md has the script that checks them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take `--session`, `--since` and `--redacted`."""
        parser.add_argument("--session", metavar="ID", help="this session only")
        parser.add_argument("--since", metavar="DATE", help="sessions submitted from this day on, YYYY-MM-DD")
        parser.add_argument(
            "--redacted", action="store_true", help="without secrets; each row says so, and hashes do not fit it"
        )

    def handle(
        self, *args: Any, session: str | None, since: str | None, redacted: bool = False, **options: Any
    ) -> None:
        """Write one row a line, session by session."""
        sessions = Session.objects.order_by("created_at", "pk")
        if session:
            sessions = sessions.filter(pk=session)
            if not sessions.exists():
                raise CommandError(f"There is no session {session}.")
        if since:
            try:
                day = datetime.strptime(since, "%Y-%m-%d").replace(tzinfo=UTC)
            except ValueError:
                raise CommandError(f"{since!r} is not a day: write YYYY-MM-DD.") from None
            sessions = sessions.filter(created_at__gte=day)
        for one in sessions.iterator(chunk_size=200):
            for row in export_redacted(one) if redacted else export(one):
                self.stdout.write(json.dumps(row, ensure_ascii=False))
