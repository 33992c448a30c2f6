"""The strip in the foot of every page: how things stand, as the sweep found them; open pages get it with a beat."""

from __future__ import annotations

import asyncio
import logging

from channels.db import database_sync_to_async
from django.db import DatabaseError
from django.template.loader import render_to_string

from approvals_app.models import Comparison

log = logging.getLogger("clm.pages")

#: Seconds for which one rendering is good enough for every page of this process.
FRESH = 2.0

_rendering: asyncio.Task[str] | None = None
_begun = 0.0


async def rendered() -> str:
    """Return the strip, read and rendered once for all who ask within a moment; empty while it cannot be read."""
    global _rendering, _begun
    loop = asyncio.get_running_loop()
    if _rendering is None or _rendering.get_loop() is not loop or loop.time() - _begun >= FRESH:
        _begun, _rendering = loop.time(), loop.create_task(_render())
    # One page that leaves must not take it away from the others.
    return await asyncio.shield(_rendering)


async def _render() -> str:
    try:
        text: str = await database_sync_to_async(render, thread_sensitive=False)()
    except DatabaseError:
        log.exception("The strip could not be rendered")
        return ""
    return text


def render() -> str:
    """Return the strip as every page includes it."""
    return render_to_string("_strip.html", {"comparison": Comparison.latest()})
