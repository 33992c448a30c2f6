"""`manage.py serve` without its look at the log, so that it hears of another server's events over the layer alone."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clm_site.settings")

if __name__ == "__main__":
    django.setup()
    from django.core.management import call_command

    from sessions_app import feed

    async def hear_nothing(self: feed.Tail) -> None:
        """Look at nothing."""

    feed.Tail.ring_for_news = hear_nothing  # type: ignore[method-assign]
    call_command("serve")
