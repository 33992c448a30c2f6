from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

log = logging.getLogger("clm.worker")


class Command(BaseCommand):
    """Drive runs until SIGTERM or Ctrl-C, which gives them back; exits 1 when it cannot work."""

    help = "Drive runs for CLM_ENGINE=procrastinate, on as many hosts as there are; SIGTERM gives them back."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Take `--concurrency`."""
        parser.add_argument(
            "--concurrency", type=int, metavar="N", help="runs at a time (default: limits.concurrent_runs)"
        )

    def handle(self, *args: Any, concurrency: int | None, **options: Any) -> None:
        """Refuse what cannot work with a sentence, then work."""
        if settings.CLM_ENGINE != "procrastinate":
            raise CommandError(
                "Servers drive their runs themselves here (CLM_ENGINE=inprocess). "
                "Set CLM_ENGINE=procrastinate for them and for workers; see docs/scaling.md."
            )
        if concurrency is not None and concurrency < 1:
            raise CommandError(f"--concurrency is {concurrency}: write 1 or more.")
        try:
            executor = MigrationExecutor(connection)
            behind = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError as error:
            raise CommandError(f"The database cannot be reached: {error}".strip()) from None
        if behind:
            raise CommandError("The database is not up to date. Run: python manage.py migrate")
        connection.close()
        failure = asyncio.run(self._work(concurrency))
        if failure:
            self.stderr.write(self.style.ERROR(f"CLM's worker stopped: {failure}"))
        else:
            self.stdout.write("Stopped. Runs that were under way were given back.")
        # Threads that still hold something must not keep the process: what matters is committed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if failure else 0)

    async def _work(self, concurrency: int | None) -> str:
        """Work until a signal; return why it could not go on, or nothing."""
        from sessions_app.worker import Worker, WorkerGone

        asked = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, asked.set)
        worker = Worker(limit=concurrency, beat=settings.CLM_DATA_DIR / "worker.beat")
        try:
            await worker.start()
        except Exception as error:  # noqa: BLE001 - whatever keeps it from working is said, and ends it
            return f"{type(error).__name__}: {error}"
        self.stdout.write(f"Worker {worker.worker} drives up to {worker.limit} runs at a time (Ctrl-C stops it)")
        self.stdout.flush()
        ended = asyncio.create_task(worker.wait())
        await asyncio.wait([ended, asyncio.create_task(asked.wait())], return_when=asyncio.FIRST_COMPLETED)
        failure = ""
        if ended.done() and isinstance(gone := ended.exception(), WorkerGone):
            failure = str(gone)
        await worker.stop()
        return failure
