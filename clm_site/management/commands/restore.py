from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from clm_site.installation import KEY, archive
from clm_site.installation.occupancy import InUse, occupied


class Command(BaseCommand):
    """Put the installation of a backup into CLM_DATA_DIR."""

    help = "Restore a backup into CLM_DATA_DIR. An installation that is there is refused, or put aside with --replace."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the backup, and whether what is there may go aside."""
        parser.add_argument("file", metavar="FILE", type=Path, help="a file that manage.py backup wrote")
        parser.add_argument(
            "--replace", action="store_true", help="put the installation that is there aside, into replaced-…"
        )

    def handle(self, *args: Any, file: Path, replace: bool, **options: Any) -> None:
        """Restore, and say what comes next."""
        if connection.vendor == "postgresql":
            raise CommandError(
                "DATABASE_URL names PostgreSQL: stop web and workers, then "
                "pg_restore --single-transaction --dbname=URL-OF-AN-EMPTY-DATABASE FILE (docs/deployment.md)."
            )
        directory = settings.CLM_DATA_DIR
        try:
            with occupied(directory, alone=True):
                manifest = archive.restore(file, directory, replace=replace)
        except (archive.CannotArchive, InUse) as refused:
            raise CommandError(f"{refused} Nothing was restored.") from None
        self.stdout.write(f"Restored {manifest['sessions']} sessions as they were at {manifest['taken_at']}.")
        if archive.is_older(manifest):
            self.stdout.write("The backup is of an older CLM: run manage.py migrate before you start the server.")
        if KEY not in manifest["files"]:
            self.stdout.write("Its secret key is not in the file: set CLM_SECRET_KEY to the one it had.")
        self.stdout.write("What happened since then is not in it: before you decide a gate, look whether it was done.")
