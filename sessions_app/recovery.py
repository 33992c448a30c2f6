"""Find what a crash left behind and put it right. The engine does it all the time, `manage.py recover` on demand."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from django.conf import settings
from django.utils import timezone
from langchain_core.runnables import RunnableConfig

from sessions_app import engine, signals
from sessions_app.agents import registry
from sessions_app.models import Run
from sessions_app.querysets import RunQuerySet
from sessions_app.states import RunStatus

log = logging.getLogger("clm.sweep")

#: Checkpoints that one sweep reads; the next one goes on from there, so that many open gates cost no more at once.
SLICE = 20
#: Sweep intervals that a pause rests before its checkpoint is read: what has just been written is not looked at.
REST = 3


@dataclass(frozen=True)
class Repair:
    """One thing that was found and put right (or would be); with `by_hand`, what a person can do about it instead."""

    session_id: str
    text: str
    by_hand: str = ""


@dataclass(frozen=True)
class Seen:
    """A run that paused, and what its checkpoint asks now: JSON-native, as `run_interrupted` carries it."""

    run: Run
    interrupts: list[dict[str, Any]]
    checkpoint_id: str


def sweep(*, dry_run: bool = False) -> list[Repair]:
    """Take up the runs whose worker died or whose lease ran out, then let approvals do their part.

    With `dry_run`, say what would be done and change nothing.
    """
    repairs: list[Repair] = []
    for run in Run.objects.stalled(workers=dead_workers()).select_related("session"):
        try:
            taken_up = dry_run or run.take_away(cause=f"worker {run.worker or 'unknown'} died or lost its lease")
        except Exception:
            log.exception("%s could not be taken up; the sweep goes on to the others", run)
        else:
            if taken_up:
                repairs.append(Repair(run.session_id, f"{run.kind} run {run.pk} taken up again"))
    for _receiver, more in signals.sweeping.send(sender=None, dry_run=dry_run):
        repairs += cast("list[Repair]", more)
    return repairs


def dead_workers() -> list[str]:
    """Return the workers of running runs that ran on this host and are gone."""
    names = Run.objects.filter(status=RunStatus.RUNNING).values_list("worker", flat=True).distinct()
    return [name for name in names if _is_dead(name)]


def _is_dead(worker: str) -> bool:
    host, _, rest = worker.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    pid = int(rest)
    if pid == os.getpid():
        return worker != engine.worker_name()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


# Checkpoints ----------------------------------------------------------------------------------------------------
# They are LangGraph's, and reading them is asynchronous; so the sweep chooses, reads and judges in three steps.


def at_rest(*, after: int = 0) -> list[Run]:
    """Return the next runs whose checkpoints to read."""
    return list(_readable().filter(pk__gt=after)[:SLICE])


def _readable() -> RunQuerySet:
    """Return the runs that paused a while ago and went no further, oldest first, with their sessions.

    One of a graph that this process does not have is left out: nothing here could read where it stands.
    """
    since = timezone.now() - timedelta(seconds=REST * settings.CLM_SWEEP_SECONDS)
    return Run.objects.at_rest(since=since).filter(session__graph__in=registry.names()).select_related("session")


async def read(runs: list[Run], saver: registry.Saver) -> list[Seen]:
    """Read where each run's graph stands, as the runner does; one that cannot be read is left out and logged."""
    from sessions_app.runner import as_json

    seen = []
    for run in runs:
        thread: RunnableConfig = {"configurable": {"thread_id": run.thread_id}}
        try:
            snapshot = await registry.compiled(run.session.graph, saver).aget_state(thread)
        except Exception:
            log.exception("The checkpoint of %s cannot be read; the sweep goes on to the others", run)
        else:
            asked = [as_json(found) for found in snapshot.interrupts]
            seen.append(Seen(run, asked, str(snapshot.config["configurable"].get("checkpoint_id", ""))))
    return seen


def judge(seen: list[Seen], *, dry_run: bool = False) -> list[Repair]:
    """Let approvals hold what the checkpoints ask against what they have open."""
    answers = signals.checkpoints_read.send(sender=None, seen=seen, dry_run=dry_run) if seen else []
    return [repair for _receiver, made in answers for repair in cast("list[Repair]", made)]


class Round:
    """Where this process stands on its way through the paused checkpoints; after the last it begins again."""

    def __init__(self) -> None:
        self._after = 0

    def next(self) -> list[Run]:
        """Return the next slice."""
        runs = at_rest(after=self._after)
        self._after = runs[-1].pk if len(runs) == SLICE else 0
        return runs


def slice_of(tick: int) -> list[Run]:
    """Return the slice that is due at the tick (seconds since 1970), whichever process asks.

    Workers take turns at the sweep, and so go round together without remembering anything.
    """
    runs = _readable()
    slices = -(-runs.count() // SLICE)
    if not slices:
        return []
    begin = int(tick // max(1.0, settings.CLM_SWEEP_SECONDS)) % slices * SLICE
    return list(runs[begin : begin + SLICE])


def all_at_rest() -> Iterator[list[Run]]:
    """Yield every slice once, for a look on demand."""
    runs = at_rest()
    while runs:
        yield runs
        runs = at_rest(after=runs[-1].pk)
