"""Ask for reruns from a terminal, one session or all that ended in one way."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions_app.agents import checkpoints
from sessions_app.exceptions import ClmError
from sessions_app.models import Session
from sessions_app.states import TERMINAL


class Command(BaseCommand):
    """Queue a rerun of each session, and say for each what was done or why not."""

    help = (
        "Rerun sessions that have ended. Each id gets a line: the run that was queued, or why there is none. "
        "Exits with 1 when any was refused; a running `manage.py serve` takes the runs up."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take ids, or a status that stands for all sessions in it."""
        parser.add_argument("session_ids", nargs="*", metavar="SESSION_ID", help="for example INC-20260516-061")
        parser.add_argument("--status", metavar="STATUS", help=f"every session that ended so: {', '.join(_ends())}")
        parser.add_argument(
            "--from",
            dest="checkpoint",
            metavar="CHECKPOINT",
            help="go on from this checkpoint of the one session named (manage.py checkpoints lists them)",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Rerun each by itself: one that is refused does not stop the others."""
        ids = _chosen(options["session_ids"], options["status"])
        checkpoint = options["checkpoint"]
        if checkpoint and (options["status"] or len(ids) != 1):
            raise CommandError("--from names a checkpoint of one session: name that session, and no other.")
        refused = sum(not self._rerun(session_id, checkpoint, dry_run=options["dry_run"]) for session_id in ids)
        if not ids:
            self.stdout.write(f"No session is {options['status']}.")
        if refused:
            would = "would be" if options["dry_run"] else "was"
            raise CommandError(f"{refused} of {len(ids)} {would} refused.", returncode=1)

    def _rerun(self, session_id: str, checkpoint: str | None, *, dry_run: bool) -> bool:
        session = Session.objects.filter(pk=session_id).first()
        if session is None:
            self.stdout.write(f"{session_id}: refused. There is no session with this id.")
            return False
        try:
            since = checkpoints.find(session, checkpoint) if checkpoint else None
            where = f" from before {', '.join(since.next)}" if since else ""
            if dry_run:
                why = session.why_no_rerun()
                self.stdout.write(f"{session_id}: would be {f'refused. {why}' if why else f'rerun{where}.'}")
                return not why
            run = session.rerun(since=since)
        except ClmError as error:
            self.stdout.write(f"{session_id}: {'would be ' * dry_run}refused. {error.text}")
            return False
        self.stdout.write(f"{session_id}: rerun queued as run {run.pk}{where}.")
        return True


def _ends() -> list[str]:
    return sorted(map(str, TERMINAL))


def _chosen(ids: list[str], status: str | None) -> list[str]:
    """Return the ids to rerun, each once, or say what the command line lacks."""
    if bool(ids) == bool(status):
        raise CommandError("Name the sessions to rerun, or choose them with --status: one of the two.")
    if not status:
        return list(dict.fromkeys(ids))
    if status not in _ends():
        raise CommandError(f"--status {status} is not a way to have ended: write one of {', '.join(_ends())}.")
    return list(Session.objects.filter(status=status).order_by("created_at", "pk").values_list("pk", flat=True))
