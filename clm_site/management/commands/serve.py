from __future__ import annotations

import errno
import os
import socket
import sys
from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from clm_site import open_files


class Command(BaseCommand):
    """Serve the desk: Daphne and the background engine in one process, until SIGTERM or Ctrl-C."""

    help = "Serve the desk and drive its runs, in one process. CLM_HOST and CLM_PORT say where."
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take `--demo`."""
        parser.add_argument(
            "--demo", action="store_true", help="also run the sick demo service, its people and a first incident"
        )

    def handle(self, *args: Any, demo: bool, **options: Any) -> None:
        """Refuse what cannot work with a sentence, then serve."""
        self._refuse_unready()
        if few := open_files.warning(open_files.raise_limit()):
            self.stderr.write(self.style.WARNING(few))
        # Importing Daphne's server installs Twisted's reactor, so it waits until there is something to serve.
        from clm_site.asgi import application
        from clm_site.server import DrainingServer

        with ExitStack() as resources:
            if demo:
                from sessions_app.demo.supervisor import DemoError, DemoService

                service = DemoService(settings.CLM_DATA_DIR / "demo")
                resources.callback(service.stop)
                try:
                    service.start()
                except DemoError as error:
                    raise CommandError(str(error)) from None

            async def started() -> None:
                await application.start()
                await database_sync_to_async(self._greet)(demo)

            server = DrainingServer(
                application,
                endpoints=[_endpoint()],
                started=started,
                stopping=application.stop,
                server_name="CLM",
                verbosity=0,
            )
            server.run()
        if server.failure:
            self.stderr.write(self.style.ERROR(f"CLM stopped: {server.failure}"))
        else:
            drives = settings.CLM_ENGINE == "inprocess"
            self.stdout.write("Stopped. Runs that were under way go on at the next start." if drives else "Stopped.")
        # Threads that still hold a request must not keep the process: what matters is committed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if server.failure else 0)

    def _refuse_unready(self) -> None:
        directory = settings.CLM_DATA_DIR
        if not os.access(directory, os.W_OK):
            raise CommandError(
                f"CLM cannot write to its data directory {directory}: make it writable, or set CLM_DATA_DIR."
            )
        host, port = settings.CLM_HOST, settings.CLM_PORT
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise CommandError(
                        f"Port {port} on {host} is in use. Stop what uses it, or choose another: "
                        f"CLM_PORT={port + 1} make up"
                    ) from None
                raise CommandError(f"CLM cannot listen on {host}:{port}: {error.strerror}.") from None
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError("The database is not up to date. Run: python manage.py migrate")

    def _greet(self, demo: bool) -> None:
        address = f"http://{settings.CLM_HOST}:{settings.CLM_PORT}"
        if not demo:
            self.stdout.write(f"CLM serves at {address}/ (Ctrl-C stops it)")
            self.stdout.flush()
            return
        from clm_site.demo import prepare

        hello = prepare()
        lines = ["", f"  CLM is up at      {address}/", f"  Sign in as bob    {address}{hello.link}"]
        if hello.new_people:
            lines.append(f"  Or by password    alice, bob, charlie or admin, with {hello.password} (shown this once)")
        if hello.new_session:
            lines.append(
                f"  What to do next   {hello.session.pk} looks into the sick service. In a few seconds it waits\n"
                "                    in the queue for bob: open the link, read what the agent wants, decide."
            )
        else:
            lines.append(
                f"  What to do next   {hello.waiting or 'No'} gate{'' if hello.waiting == 1 else 's'} "
                "in the queue. Break the service again: python manage.py demo break bad_deploy"
            )
        self.stdout.write("\n".join([*lines, ""]))
        self.stdout.flush()


def _endpoint() -> str:
    host = settings.CLM_HOST.strip("[]").replace(":", "\\:")
    return f"tcp:port={settings.CLM_PORT}:interface={host}"
