"""A worker: drives the runs that Procrastinate's jobs point to, and in its turn sweeps. `manage.py worker` runs one.

A job says "look at run N". The claim decides (compare-and-swap, lease): a job whose run cannot be claimed ends quietly,
so it does no harm when one comes twice or late. Jobs are removed when they end; the record is the Run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path

import procrastinate
from channels.db import database_sync_to_async
from django.conf import settings
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.worker import Worker as JobWorker

from sessions_app import deferred, engine, garbage, postgres, recovery
from sessions_app.drives import Drives
from sessions_app.models import Run
from sessions_app.steps import in_database

log = logging.getLogger("clm.worker")

#: Questions, the sweep and the recovery of jobs that are done at once, beside the drives.
BESIDE_AT_ONCE = 4
#: Seconds between two looks for jobs. A lock that falls free notifies nobody, so what waited for it is found by these.
LOOK_EVERY = 0.2
#: Seconds after which a worker that cannot reach its queue gives up, and seconds between two tries.
PATIENCE = 60.0
PAUSE = 1.0
#: Seconds that jobs may take to be written off once their drives have been cut off.
WRITING_OFF = 5.0


class WorkerGone(Exception):
    """The worker cannot work any more; the text says why."""


class Worker(Drives):
    """Drives at most `limit` runs at a time until it is stopped."""

    def __init__(self, *, limit: int | None = None, beat: Path | None = None) -> None:
        super().__init__(limit=limit)
        self._beat_file = beat
        self._room = asyncio.Semaphore(self.limit)
        self._app = procrastinate.App(connector=postgres.connector(max_size=6))
        self._ends: asyncio.Future[None] = self._loop.create_future()
        self._job_workers: dict[str, JobWorker] = {}
        every = max(1, round(settings.CLM_SWEEP_SECONDS))
        cron = f"* * * * * */{every}"
        self._app.task(name=deferred.DRIVE, pass_context=True)(self._look_at)
        self._app.task(name=deferred.DO_BESIDE)(self._do_named)
        sweep = self._app.task(name=deferred.SWEEP, queue=deferred.BESIDE, lock="clm:sweep", priority=5)(self._sweep)
        self._app.periodic(cron=cron)(sweep)
        # Without a lock: it is what frees the locks of the dead.
        recover = self._app.task(name=deferred.RECOVER, queue=deferred.BESIDE, priority=9)(self._recover)
        self._app.periodic(cron=cron)(recover)

    # Life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the checkpointer and the queue, and begin; raises what keeps it from beginning."""
        await self._open()
        await self._resources.enter_async_context(self._app.open_async())
        engine.started(self)
        garbage.leave_what_stays()
        self._beating = asyncio.create_task(self._beat_for_ever(), name="clm-beat")
        self._fetching = [
            asyncio.create_task(self._fetch_for_ever(deferred.RUNS, self.limit), name="clm-runs"),
            asyncio.create_task(self._fetch_for_ever(deferred.BESIDE, BESIDE_AT_ONCE), name="clm-beside"),
        ]

    async def wait(self) -> None:
        """Return when it has been stopped; raises WorkerGone when it cannot go on."""
        await asyncio.shield(self._ends)

    async def stop(self) -> None:
        """Take no more, give every running run back for another worker, and close."""
        if self._stopping:
            return
        self._stopping = True
        for worker in self._job_workers.values():
            worker.stop()  # type: ignore[no-untyped-call]
        await self._give_back()
        await asyncio.wait(self._fetching, timeout=2 * WRITING_OFF)
        for task in [*self._fetching, self._beating]:
            task.cancel()
        await asyncio.gather(*self._fetching, self._beating, return_exceptions=True)
        engine.stopped(self)
        await self._resources.aclose()
        if not self._ends.done():
            self._ends.set_result(None)

    def wake(self) -> None:
        """Do nothing: the queue notifies."""

    async def _fetch_for_ever(self, queue: str, at_once: int) -> None:
        """Take jobs from one queue; a database that is away for a while ends neither this nor the drives."""
        down_since = None
        while not self._stopping:
            began = time.monotonic()
            worker = self._job_workers[queue] = JobWorker(
                app=self._app,
                queues=[queue],
                name=f"{self.worker}:{queue}",
                concurrency=at_once,
                fetch_job_polling_interval=LOOK_EVERY,
                abort_job_polling_interval=max(1.0, settings.CLM_LEASE_SECONDS / 3),
                shutdown_graceful_timeout=WRITING_OFF,
                listen_notify=postgres.can_listen(),
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=settings.CLM_LEASE_SECONDS / 3,
                stalled_worker_timeout=settings.CLM_LEASE_SECONDS,
            )
            try:
                await worker.run()  # type: ignore[no-untyped-call]
            except Exception as error:  # noqa: BLE001 - each part of it raises its own; all mean the same
                why = f"{type(error).__name__}: {error}"
            else:
                why = "a part of it ended; see the log"
            if self._stopping:
                return
            if time.monotonic() - began > PATIENCE:
                down_since = None
            down_since = down_since or time.monotonic()
            log.error("The queue %r cannot be worked (%s); trying again", queue, why.strip())
            if time.monotonic() - down_since > PATIENCE:
                if not self._ends.done():
                    self._ends.set_exception(WorkerGone(f"The queue cannot be worked: {why.strip()}"))
                return
            await asyncio.sleep(PAUSE)

    async def _beat_for_ever(self) -> None:
        while True:
            self.beat = time.monotonic()
            if self._beat_file is not None:
                try:
                    self._beat_file.touch()
                except OSError:
                    log.exception("%s cannot be touched", self._beat_file)
            await asyncio.sleep(settings.CLM_POLL_SECONDS)

    # What jobs ask for ------------------------------------------------------------------------------------------

    async def _look_at(self, context: JobContext, run_id: int) -> None:
        """Claim the run and drive it to its pause or end; where it cannot be claimed, there is nothing to do.

        When Procrastinate cuts the job off because its own loop failed, the drive goes on: it is held by its lease.
        """
        async with self._room:
            run = None if self._stopping else await in_database(_claim, run_id, self.worker)
            if run is None:
                return
            if self._stopping:
                await in_database(run.release, cause="server stopped", counts=False)
                return
            drive = self._begin(run)
            try:
                await asyncio.wait([drive])
            except asyncio.CancelledError:
                if context.abort_reason() == AbortReason.USER_REQUEST:
                    drive.cancel()
                raise

    async def _do_named(self, name: str, number: int) -> None:
        if doing := self._do_beside(engine.work_named(name), number):
            await asyncio.wait([doing])

    async def _sweep(self, timestamp: int) -> None:
        """Sweep once for all workers: the queue gives each tick to one of them."""
        if time.time() - timestamp > 2 * max(1.0, settings.CLM_SWEEP_SECONDS):
            # A tick that waited while another sweep took long; the next one is due already.
            return
        await database_sync_to_async(recovery.sweep, thread_sensitive=False)()
        await in_database(deferred.offer_forgotten)
        seen = await recovery.read(await in_database(recovery.slice_of, timestamp), self._saver)
        await in_database(recovery.judge, seen)

    async def _recover(self, timestamp: int) -> None:
        """Put the jobs of dead workers back: a kill leaves them `doing`, with their locks held."""
        for job in await self._app.job_manager.get_stalled_jobs(seconds_since_heartbeat=settings.CLM_LEASE_SECONDS):
            log.warning("Job %s (%s) was left by a worker that is gone; it is put back", job.id, job.task_name)
            with suppress(procrastinate.exceptions.ConnectorException):
                await self._app.job_manager.retry_job(job)


def _claim(run_id: int, worker: str) -> Run | None:
    run = Run.objects.select_related("session").filter(pk=run_id).first()
    return run if run is not None and run.claim(worker) else None
