"""Put right what a crash left behind, on demand; a running server does the same every few seconds."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandParser

from approvals_app import consistency
from approvals_app.models import Comparison, RepairCard
from sessions_app import recovery
from sessions_app.agents.checkpointer import open_checkpointer
from sessions_app.models import Run
from sessions_app.recovery import Repair, Seen


class Command(BaseCommand):
    """Run the sweep once and print what it compared, found and repaired."""

    help = (
        "Take up runs whose worker died, expire gates whose time is over, and hold sessions, runs, gates and all "
        "paused checkpoints against each other. Prints each repair, a summary, and the comparison in the words of "
        "the pages' foot. A running `manage.py serve` does this by itself; doing it twice changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whether only to look."""
        parser.add_argument("--dry-run", action="store_true", help="say what would be repaired, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sweep, and say what came of it."""
        dry_run: bool = options["dry_run"]
        checkpoints = self._hold_checkpoints(dry_run=dry_run)
        repairs = [*recovery.sweep(dry_run=dry_run), *checkpoints]
        done = [repair for repair in repairs if not repair.by_hand]
        for repair in done:
            self.stdout.write(f"{repair.session_id}: {repair.text}")
        asked = [repair for repair in repairs if repair.by_hand] if dry_run else _cards()
        for repair in asked:
            self.stdout.write(f"{repair.session_id}: {repair.text}. For a person: {repair.by_hand}")
        count = f"{len(done)} repair{'' if len(done) == 1 else 's'}"
        if not done:
            self.stdout.write("Nothing to repair.")
        elif dry_run:
            self.stdout.write(f"{count} to make; nothing was changed.")
        else:
            self.stdout.write(f"{count} made.")
        self.stdout.write(_words(dry_run=dry_run, more=len(checkpoints)))

    def _hold_checkpoints(self, *, dry_run: bool) -> list[Repair]:
        made: list[Repair] = []
        for runs in recovery.all_at_rest():
            made += recovery.judge(async_to_sync(_read)(runs), dry_run=dry_run)
        return made


async def _read(runs: list[Run]) -> list[Seen]:
    async with open_checkpointer() as saver:
        return await recovery.read(runs, saver)


def _cards() -> list[Repair]:
    return [Repair(card.session_id, card.what, card.remedy) for card in RepairCard.objects.open()]


def _words(*, dry_run: bool, more: int) -> str:
    """Return the comparison as the strip says it; for a dry run, what it would have kept."""
    if dry_run:
        found = consistency.compare()
        count = len(found.disagreeing) + more
        kept = Comparison(awaiting=found.awaiting, gates=found.gates, disagreements=count, put_right=0, cards=0)
    else:
        kept = Comparison.objects.get(pk=Comparison.ONLY)
    return f"{kept.words} · checked now"
