"""What the in-process engine and a worker have in common: the drives under way, and what is done beside them."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from sessions_app import engine, feed
from sessions_app.steps import connected, in_database

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from sessions_app.models import Run

log = logging.getLogger("clm.engine")


class Drives:
    """Drives claimed runs on the running loop, with the installation's checkpointer."""

    drives = True

    def __init__(self, *, limit: int | None = None) -> None:
        from sessions_app.agents import config

        self.limit = limit or config.current().limits.concurrent_runs
        self.worker = engine.worker_name()
        self.beat = time.monotonic()
        self._driving: dict[int, asyncio.Task[None]] = {}
        self._beside: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._resources = AsyncExitStack()

    async def _open(self) -> None:
        from sessions_app.agents.checkpointer import open_checkpointer

        feed.bind_loop()
        await self._resources.enter_async_context(connected())
        self._saver: BaseCheckpointSaver[str] = await self._resources.enter_async_context(open_checkpointer())

    async def _give_back(self) -> None:
        """Cut off every drive; each gives its run back for whoever claims it next."""
        drives = [*self._driving.values(), *self._beside]
        for drive in drives:
            drive.cancel()
        await asyncio.gather(*drives, return_exceptions=True)

    @property
    def driving(self) -> int:
        """How many runs it drives now."""
        return len(self._driving)

    def _begin(self, run: Run) -> asyncio.Task[None]:
        drive = self._driving[run.pk] = asyncio.create_task(self._drive(run), name=f"clm-run-{run.pk}")
        return drive

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
            self._room_again()

    def _room_again(self) -> None:
        """A drive has ended."""

    def cancel(self, run_id: int) -> None:
        """Cancel the run's drive on the engine's own loop."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel, run_id)

    def _cancel(self, run_id: int) -> None:
        if drive := self._driving.get(run_id):
            drive.cancel()

    def begin_beside(self, work: engine.Work, number: int) -> None:
        """Begin `work` on the engine's own loop, with its checkpointer."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._do_beside, work, number)

    def _do_beside(self, work: engine.Work, number: int) -> asyncio.Task[None] | None:
        if self._stopping:
            return None

        async def do() -> None:
            try:
                await work(number, self._saver)
            except Exception:
                log.exception("What was done beside the drives failed")

        doing = self._loop.create_task(do(), name="clm-beside")
        self._beside.add(doing)
        doing.add_done_callback(self._beside.discard)
        return doing
