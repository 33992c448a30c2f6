"""The in-process engine: an asyncio loop that claims pending runs and drives them beside the web server.

`wake` is a hint; the Run rows are the queue, and the loop polls them anyway.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from channels.db import database_sync_to_async
from django.conf import settings

from sessions_app import engine, feed
from sessions_app.drives import Drives
from sessions_app.models import Run
from sessions_app.steps import in_database

log = logging.getLogger("clm.engine")


class Engine(Drives):
    """Claims and drives runs, at most `limit` at a time; sweeps; follows the log for other processes' events."""

    def __init__(self, *, limit: int | None = None) -> None:
        from sessions_app import recovery

        super().__init__(limit=limit)
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._round = recovery.Round()

    # Life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the checkpointer, and begin to claim and to sweep: nobody waits for what the last process left."""
        await self._open()
        engine.started(self)
        self._sweeping = asyncio.create_task(self._sweep_for_ever(), name="clm-sweep")
        self._claiming = asyncio.create_task(self._claim_for_ever(), name="clm-engine")

    async def stop(self) -> None:
        """Stop claiming, give every running run back for whoever starts next, and close."""
        self._stopping = True
        self._stopped.set()
        self._claiming.cancel()
        with suppress(asyncio.CancelledError):
            await self._claiming
        await self._give_back()
        # It ends by itself: what it does in its thread cannot be cut off, and is soon over.
        await self._sweeping
        engine.stopped(self)
        await self._resources.aclose()

    def wake(self) -> None:
        """Look for pending runs now."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake.set)

    def _room_again(self) -> None:
        self._wake.set()

    # Work -------------------------------------------------------------------------------------------------------

    async def _claim_for_ever(self) -> None:
        tail = feed.Tail()
        read = time.monotonic()
        while not self._stopping:
            self._wake.clear()
            try:
                await self._claim_what_fits()
                if time.monotonic() - read >= settings.CLM_POLL_SECONDS:
                    read = time.monotonic()
                    await tail.ring_for_news()
                self.beat = time.monotonic()
            except Exception:
                # A database that is away for a moment must not end the engine: the next poll tries again.
                log.exception("The engine's poll failed; trying again")
            with suppress(TimeoutError):
                # Not wait_for: on Python 3.11 it loses a cancellation that meets a wake.
                async with asyncio.timeout(settings.CLM_POLL_SECONDS):
                    await self._wake.wait()

    async def _claim_what_fits(self) -> None:
        while room := self.limit - len(self._driving):
            claimed, more = await in_database(_claim, self.worker, room)
            for run in claimed:
                self._begin(run)
            if not more:
                return

    async def _sweep_for_ever(self) -> None:
        while not self._stopping:
            try:
                await self._sweep()
            except Exception:
                log.exception("The sweep failed; trying again")
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.CLM_SWEEP_SECONDS):
                    await self._stopped.wait()

    async def _sweep(self) -> None:
        from sessions_app import recovery

        # In a thread of its own: after a long night it takes seconds, and the drives' steps are not to wait so long.
        await database_sync_to_async(recovery.sweep, thread_sensitive=False)()
        # Reading checkpoints is no step of the database's thread, so it stands between two of them.
        seen = await recovery.read(await in_database(self._round.next), self._saver)
        await in_database(recovery.judge, seen)


def _claim(worker: str, room: int) -> tuple[list[Run], bool]:
    """Claim as many pending runs as there is room for; say also whether another look may find more."""
    pending = list(Run.objects.claimable().select_related("session")[:room])
    claimed = [run for run in pending if run.claim(worker)]
    return claimed, bool(claimed) and len(pending) == room
