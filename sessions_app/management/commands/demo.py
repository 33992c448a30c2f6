"""Break, heal or look at the demo service from another terminal."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions_app.demo.service import FAULTS
from sessions_app.demo.supervisor import DemoError, DemoService


class Command(BaseCommand):
    """Talk to the demo service that a running `manage.py serve --demo` started."""

    help = "Break, heal or look at the demo service `checkout` of a running `manage.py serve --demo`."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take one verb, and a fault for `break`."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="{break,heal,status}")
        verbs.add_parser("break", help="bring in a fault").add_argument("fault", choices=FAULTS)
        verbs.add_parser("heal", help="take every fault away")
        verbs.add_parser("status", help="say how it is")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the verb and say how the service is afterwards."""
        demo = DemoService(settings.CLM_DATA_DIR / "demo")
        try:
            if options["verb"] == "break":
                status = demo.break_(options["fault"])
            elif options["verb"] == "heal":
                status = demo.heal()
            else:
                status = demo.status()
        except DemoError as error:
            raise CommandError(str(error)) from error
        wrong = [f"{check}: {said}" for check, said in status["checks"].items() if said != "ok"]
        self.stdout.write(f"checkout {status['version']} in dev is {status['status']} at {status['url']}")
        self.stdout.write(f"fault: {status['fault'] or 'none'}")
        for line in wrong:
            self.stdout.write(f"  {line}")
