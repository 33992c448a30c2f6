"""`manage.py serve`, in a process that is going to be killed."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clm_site.settings")

if __name__ == "__main__":
    django.setup()
    from django.core.management import call_command

    from sessions_app import engine
    from tests.chaos import points

    real_start = engine.Engine.start

    async def start(self: engine.Engine) -> None:
        # Armed when the engine starts, so that the points count work and not the start of the process.
        points.install()
        await real_start(self)

    engine.Engine.start = start  # type: ignore[method-assign]
    call_command("serve")
