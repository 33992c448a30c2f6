"""What a server runs for its pages where workers drive: it follows the log, and drives and sweeps nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress

from django.conf import settings

from sessions_app import engine, feed
from sessions_app.steps import connected

log = logging.getLogger("clm.engine")


class Follower:
    """Rings for this process's pages what other processes wrote, in case the channel layer did not."""

    drives = False
    driving = 0

    def __init__(self) -> None:
        self.beat = time.monotonic()
        self._resources = AsyncExitStack()

    async def start(self) -> None:
        """Begin to follow."""
        feed.bind_loop()
        await self._resources.enter_async_context(connected())
        engine.started(self)
        self._following = asyncio.create_task(self._follow_for_ever(), name="clm-follower")

    async def stop(self) -> None:
        """End."""
        self._following.cancel()
        with suppress(asyncio.CancelledError):
            await self._following
        engine.stopped(self)
        await self._resources.aclose()

    def wake(self) -> None:
        """Do nothing: workers are told by the job that stands beside the run."""

    def cancel(self, run_id: int) -> None:
        """Do nothing: it drives nothing."""

    def begin_beside(self, work: engine.Work, number: int) -> None:
        """Do nothing: workers do it."""

    async def _follow_for_ever(self) -> None:
        tail = feed.Tail()
        while True:
            try:
                await tail.ring_for_news()
                self.beat = time.monotonic()
            except Exception:
                log.exception("The log could not be followed; trying again")
            await asyncio.sleep(settings.CLM_POLL_SECONDS)
