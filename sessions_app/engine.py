"""The in-process engine: an asyncio loop that claims pending runs and drives them beside the web server.

`wake` is a hint; the Run rows are the queue, and the loop polls them anyway.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from channels.db import database_sync_to_async
from django.conf import settings

from sessions_app import feed
from sessions_app.steps import connected, in_database

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from sessions_app.agents import registry
    from sessions_app.models import Run

log = logging.getLogger("clm.engine")

_engine: Engine | None = None


def wake() -> None:
    """Tell this process's engine, if it has one, that a run is waiting. Safe from any thread."""
    if _engine is not None:
        _engine.wake()


def cancel(run_id: int) -> None:
    """Stop driving this run now, if this process drives it; its row says cancelled already.

    By the run, never by its session: heard late, it must not stop a rerun that was asked for since.
    """
    if _engine is not None:
        _engine.cancel(run_id)


def beside(work: Callable[[registry.Saver], Awaitable[None]]) -> None:
    """Let this process's engine do `work` on its loop, beside the drives; nothing where it has no engine.

    For what a person waits for and no run does, such as a model's answer to a question. It may be cut off at any time.
    """
    if _engine is not None:
        _engine.beside(work)


def running() -> Engine | None:
    """Return this process's engine while it runs."""
    return _engine


def worker_name() -> str:
    """Return a name that tells the host, the process and this start of it."""
    return f"{socket.gethostname()}:{os.getpid()}:{_START}"


_START = secrets.token_hex(4)


class Engine:
    """Claims and drives runs, at most `limit` at a time; sweeps; follows the log for other processes' events."""

    def __init__(self, *, limit: int | None = None) -> None:
        from sessions_app import recovery
        from sessions_app.agents import config

        self.limit = limit or config.current().limits.concurrent_runs
        self.worker = worker_name()
        self.beat = time.monotonic()
        self._driving: dict[int, asyncio.Task[None]] = {}
        self._beside: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._resources = AsyncExitStack()
        self._stopping = False
        self._round = recovery.Round()

    # Life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the checkpointer, and begin to claim and to sweep: nobody waits for what the last process left."""
        global _engine
        from sessions_app.agents.checkpointer import open_checkpointer

        feed.bind_loop()
        await self._resources.enter_async_context(connected())
        self._saver: BaseCheckpointSaver[str] = await self._resources.enter_async_context(open_checkpointer())
        _engine = self
        self._sweeping = asyncio.create_task(self._sweep_for_ever(), name="clm-sweep")
        self._claiming = asyncio.create_task(self._claim_for_ever(), name="clm-engine")

    async def stop(self) -> None:
        """Stop claiming, give every running run back for whoever starts next, and close."""
        global _engine
        self._stopping = True
        self._stopped.set()
        self._claiming.cancel()
        with suppress(asyncio.CancelledError):
            await self._claiming
        drives = [*self._driving.values(), *self._beside]
        for drive in drives:
            drive.cancel()
        await asyncio.gather(*drives, return_exceptions=True)
        # It ends by itself: what it does in its thread cannot be cut off, and is soon over.
        await self._sweeping
        if _engine is self:
            _engine = None
        await self._resources.aclose()

    def wake(self) -> None:
        """Look for pending runs now."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake.set)

    @property
    def driving(self) -> int:
        """How many runs it drives now."""
        return len(self._driving)

    def cancel(self, run_id: int) -> None:
        """Cancel the run's drive on the engine's own loop."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel, run_id)

    def _cancel(self, run_id: int) -> None:
        if drive := self._driving.get(run_id):
            drive.cancel()

    def beside(self, work: Callable[[registry.Saver], Awaitable[None]]) -> None:
        """Begin `work` on the engine's own loop, with its checkpointer."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin_beside, work)

    def _begin_beside(self, work: Callable[[registry.Saver], Awaitable[None]]) -> None:
        if self._stopping:
            return

        async def do() -> None:
            try:
                await work(self._saver)
            except Exception:
                log.exception("What was done beside the drives failed")

        doing = self._loop.create_task(do(), name="clm-beside")
        self._beside.add(doing)
        doing.add_done_callback(self._beside.discard)

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
                self._driving[run.pk] = asyncio.create_task(self._drive(run), name=f"clm-run-{run.pk}")
            if not more:
                return

    async def _drive(self, run: Run) -> None:
        from sessions_app import runner

        try:
            await runner.execute(run, self._saver)
        except asyncio.CancelledError:
            if self._stopping:
                await in_database(run.release, cause="server stopped", counts=False)
        except Exception:
            # The row stays running; its lease runs out and the sweep takes it up again.
            log.exception("%s was left to the sweep", run)
        finally:
            self._driving.pop(run.pk, None)
            self._wake.set()

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
    from sessions_app.models import Run

    pending = list(Run.objects.claimable().select_related("session")[:room])
    claimed = [run for run in pending if run.claim(worker)]
    return claimed, bool(claimed) and len(pending) == room
