"""Put right what a crash left behind, on demand; a running server does the same every few seconds."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sessions_app import recovery


class Command(BaseCommand):
    """Run the sweep once and print what it repaired."""

    help = (
        "Take up runs whose worker died, and expire gates whose time is over. Prints each repair and a "
        "summary. A running `manage.py serve` does this by itself; doing it twice changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whether only to look."""
        parser.add_argument("--dry-run", action="store_true", help="say what would be repaired, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sweep, and say what came of it."""
        repairs = recovery.sweep(dry_run=options["dry_run"])
        for repair in repairs:
            self.stdout.write(f"{repair.session_id}: {repair.text}")
        count = f"{len(repairs)} repair{'' if len(repairs) == 1 else 's'}"
        if not repairs:
            self.stdout.write("Nothing to repair.")
        elif options["dry_run"]:
            self.stdout.write(f"{count} to make; nothing was changed.")
        else:
            self.stdout.write(f"{count} made.")
