from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from approvals_app import sizing
from approvals_app.sizing import Made
from approvals_app.sizing.life import Cast

#: Seconds between two lines of progress.
NEWS = 5.0


class Command(BaseCommand):
    """Fill an installation with sessions, to see how it does at that size."""

    help = (
        "Write sessions of every outcome over the past half year, with their runs, calls, gates, decisions and chained "
        "events, for sizing. Nothing runs by it; it cannot be taken back. docs/sizing.md says what the rows can do."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take how many, and whether beside what is there."""
        parser.add_argument("--sessions", metavar="N", type=int, required=True, help="how many sessions to make")
        parser.add_argument(
            "--pending", metavar="M", type=int, help="how many of them wait at a gate; a tenth unless said"
        )
        parser.add_argument("--seed", metavar="S", type=int, default=1, help="another number makes other sessions; 1")
        parser.add_argument("--add", action="store_true", help="also where there are sessions already")

    def handle(
        self, *args: Any, sessions: int, pending: int | None, seed: int, add: bool = False, **options: Any
    ) -> None:
        """Fill, and say what came of it."""
        pending = sessions // 10 if pending is None else pending
        if sessions < 1:
            raise CommandError("--sessions: write how many, at least 1.")
        if not 0 <= pending <= sessions:
            raise CommandError("--pending: is a part of --sessions, so 0 to that many.")
        if sizing.is_used() and not add:
            raise CommandError(
                "There are sessions here already, and what this makes cannot be taken away again. Use a database of "
                "its own (CLM_DATA_DIR or DATABASE_URL), or say --add."
            )
        began = said = time.monotonic()

        def told(made: Made) -> None:
            nonlocal said
            if time.monotonic() - said >= NEWS:
                said = time.monotonic()
                self.stdout.write(f"{made.sessions:,} of {sessions:,} sessions, {said - began:.0f} s")
                self.stdout.flush()

        made = sizing.fill(sessions=sessions, pending=pending, seed=seed, cast=Cast.assemble(), told=told)
        self.stdout.write(f"Made in {time.monotonic() - began:.0f} s: {_listed(made.rows)}.")
        self.stdout.write(f"Sessions by status: {_listed(made.statuses)}.")
        self.stdout.write(
            f"No agent stands behind the {pending:,} that wait: a decision on one is kept, nothing runs, and its "
            "session ends in error."
        )


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(numbers.items(), key=lambda one: -one[1]))
