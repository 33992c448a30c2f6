"""How the rows of a transaction reach workers: by jobs of Procrastinate that are written in that same transaction.

A job only says "look at this row". Its arguments are row numbers, never content; what it finds there is the truth.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Exists, OuterRef
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

if TYPE_CHECKING:
    from sessions_app.models import Run

log = logging.getLogger("clm.engine")

#: The two queues: drives, of which a worker takes as many as it has room for; and what must not wait behind them.
RUNS, BESIDE = "runs", "beside"
#: The names under which workers know what to do.
DRIVE, DO_BESIDE, SWEEP, RECOVER = "clm.drive", "clm.beside", "clm.sweep", "clm.recover"

#: A person who has decided waits; who submits or asks again, less so.
PRIORITY = {"resume": 20, "start": 10, "rerun": 10}


def offer(run: Run) -> None:
    """Write the job that has a worker look at the run; one session's runs are looked at one after the other."""
    _defer(DRIVE, queue=RUNS, lock=run.session_id, priority=PRIORITY[run.kind], arguments={"run_id": run.pk})


def beside(name: str, number: int) -> None:
    """Write the job that has a worker do the named work for a row, unless one is waiting or under way."""
    lock = f"{name}:{number}"
    if not _live().filter(task_name=DO_BESIDE, lock=lock).exists():
        _defer(DO_BESIDE, queue=BESIDE, lock=lock, priority=0, arguments={"name": name, "number": number})


def cancel(run_id: int) -> None:
    """Tell the worker that drives the run to stop: Procrastinate notifies it, and its next poll would find it too."""
    from procrastinate.contrib.django import app

    for job_id in _live().filter(task_name=DRIVE, run_id=run_id).values_list("pk", flat=True):
        app.job_manager.cancel_job_by_id(job_id, abort=True, delete_job=True)


def offer_forgotten() -> int:
    """Offer pending runs that have no job: from before the switch was turned, or whose job was lost. Return how many.

    Asked by each sweep, so that the jobs may be thrown away at any time and nothing is lost.
    """
    from sessions_app.models import Run

    told = _live().filter(task_name=DRIVE, lock=OuterRef("session_id"), run_id=OuterRef("pk"))
    forgotten = list(Run.objects.claimable().filter(~Exists(told)))
    for run in forgotten:
        offer(run)
    return len(forgotten)


def _live() -> Any:
    from procrastinate.contrib.django.models import ProcrastinateJob

    run_id = Cast(KeyTextTransform("run_id", "args"), models.BigIntegerField())
    return ProcrastinateJob.objects.filter(status__in=["todo", "doing"]).annotate(run_id=run_id)


def _defer(name: str, *, queue: str, lock: str, priority: int, arguments: dict[str, Any]) -> None:
    from procrastinate.contrib.django import app

    app.configure_task(name, queue=queue, lock=lock, priority=priority).defer(**arguments)
