"""Find what a crash left behind and put it right. The engine does it all the time, `manage.py recover` on demand."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import cast

from sessions_app import engine, signals
from sessions_app.models import Run
from sessions_app.states import RunStatus

log = logging.getLogger("clm.sweep")


@dataclass(frozen=True)
class Repair:
    """One thing that was found and put right (or would be)."""

    session_id: str
    text: str


def sweep(*, dry_run: bool = False) -> list[Repair]:
    """Take up the runs whose worker died or whose lease ran out, then let approvals do their part.

    With `dry_run`, say what would be done and change nothing.
    """
    repairs: list[Repair] = []
    for run in Run.objects.stalled(workers=dead_workers()).select_related("session"):
        try:
            taken_up = dry_run or run.release(cause=f"worker {run.worker or 'unknown'} died or lost its lease")
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
