from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from clm_site.installation import KEY, archive


class Command(BaseCommand):
    """Write one file with the records, the checkpoints and the secret key of the embedded installation."""

    help = (
        "Back up the embedded installation in CLM_DATA_DIR, also while its server runs: records and checkpoints of one "
        "instant, and the secret key. Keep the file as you keep a password."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take where to."""
        parser.add_argument("file", metavar="FILE", type=Path, help="the backup to write; it must not exist yet")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        """Write it, or say why not."""
        if connection.vendor == "postgresql":
            raise CommandError(
                "DATABASE_URL names PostgreSQL, which holds records and checkpoints in one database: "
                'pg_dump --format=custom --file=FILE "$DATABASE_URL" (docs/deployment.md).'
            )
        try:
            manifest = archive.write(settings.CLM_DATA_DIR, file)
        except archive.CannotArchive as refused:
            raise CommandError(str(refused)) from None
        self.stdout.write(f"{file}: {manifest['sessions']} sessions as they were at {manifest['taken_at']}.")
        if KEY not in manifest["files"]:
            self.stdout.write("The secret key is CLM_SECRET_KEY and not in the file: keep it as well.")
