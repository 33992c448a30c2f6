"""`manage.py serve`, in a process that is going to be killed."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clm_site.settings")

if __name__ == "__main__":
    django.setup()
    from django.core.management import call_command

    from sessions_app import inprocess
    from tests.chaos import points

    real_start = inprocess.Engine.start

    async def start(self: inprocess.Engine) -> None:
        # Armed when the engine starts, so that the points count work and not the start of the process.
        points.install()
        await real_start(self)

    inprocess.Engine.start = start  # type: ignore[method-assign]
    call_command("serve")
