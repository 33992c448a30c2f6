from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from approvals_app.audit import faults_of
from approvals_app.models import AuditCheck
from sessions_app.models import Session


class Command(BaseCommand):
    """Recompute every hash of the log and name each row that is not as it was written.

    A check of the whole history is written down, for the insight page.
    """

    help = "Check events, decisions and what approvers were shown against their hashes; exit code 1 names the rows."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take `--session`."""
        parser.add_argument("--session", metavar="ID", help="check this session only")

    def handle(self, *args: Any, session: str | None, **options: Any) -> None:
        """Check, report, and fail when anything was found."""
        sessions = Session.objects.order_by("created_at", "pk")
        if session:
            sessions = sessions.filter(pk=session)
            if not sessions.exists():
                raise CommandError(f"There is no session {session}.")
        checked = faulty = 0
        for one in sessions.iterator(chunk_size=200):
            checked += 1
            for fault in faults_of(one):
                faulty += 1
                self.stderr.write(self.style.ERROR(str(fault)))
        if not session:
            AuditCheck.objects.create(sessions=checked, faults=faulty)
        noun = "session" if checked == 1 else "sessions"
        if faulty:
            raise CommandError(f"{checked} {noun} checked: {faulty} rows are not as they were written.")
        self.stdout.write(f"{checked} {noun} checked: every event, decision and gate is as it was written.")
