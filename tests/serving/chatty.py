"""`manage.py serve` whose heartbeats come often and are large, and which says when a page's socket ends, and how."""

from __future__ import annotations

import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clm_site.settings")

if __name__ == "__main__":
    django.setup()
    from django.core.management import call_command

    from approvals_app.consumers import QueueConsumer
    from sessions_app import beats

    beats.HEARTBEAT = 0.05

    async def much(cls: type[QueueConsumer]) -> dict[str, str]:
        """Return what fills the buffers on the way to a page that does not read in a few seconds."""
        return {"padding": "x" * 200_000}

    refuse = QueueConsumer.refuse

    def told(self: QueueConsumer, code: int) -> None:
        """Say it, and do it."""
        sys.stdout.write(f"let go with {code}\n")
        sys.stdout.flush()
        refuse(self, code)

    QueueConsumer.with_beat = classmethod(much)  # type: ignore[assignment]
    QueueConsumer.refuse = told  # type: ignore[method-assign]
    arguments: list[Any] = sys.argv[1:]
    call_command("serve", *arguments)
