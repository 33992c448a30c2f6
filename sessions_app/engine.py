"""The switch: how a run gets to whoever drives it, and how one that is under way is reached. CLM_ENGINE says which.

`inprocess`: the server that runs drives, beside its pages (`inprocess.py`). `procrastinate`: any number of
`manage.py worker`, which Procrastinate tells where to look (`deferred.py`, `worker.py`); servers drive nothing.
Either way the Run row is the request and its lease the truth; whatever is said here is a hint.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from django.conf import settings
from django.db import transaction

if TYPE_CHECKING:
    from sessions_app.agents import registry
    from sessions_app.models import Run

#: What can be done beside the drives: it takes the number of a row, and the checkpointer.
Work = Callable[[int, "registry.Saver"], Awaitable[None]]

_START = secrets.token_hex(4)
_works: dict[str, Work] = {}
_engine: Engine | None = None


class Engine(Protocol):
    """What a process has running for the sake of runs."""

    beat: float
    drives: bool

    @property
    def driving(self) -> int:
        """How many runs it drives now."""

    def wake(self) -> None:
        """Look for pending runs now."""

    def cancel(self, run_id: int) -> None:
        """Stop driving the run, if it is driven here."""

    def begin_beside(self, work: Work, number: int) -> None:
        """Do `work` beside the drives."""


def scaled() -> bool:
    """Say whether runs are driven by workers, and not by the servers."""
    return bool(settings.CLM_ENGINE == "procrastinate")


def offer(run: Run) -> None:
    """Have a pending run looked at once the surrounding transaction commits.

    With Procrastinate its job is part of that transaction: both are there or neither.
    """
    if scaled():
        from sessions_app import deferred

        deferred.offer(run)
    else:
        transaction.on_commit(wake, robust=True)


def wake() -> None:
    """Tell this process's engine, if it has one, that a run is waiting. Safe from any thread."""
    if _engine is not None:
        _engine.wake()


def cancel(run_id: int) -> None:
    """Stop driving this run now, wherever it is driven; its row says cancelled already.

    By the run, never by its session: heard late, it must not stop a rerun that was asked for since.
    """
    if scaled():
        from sessions_app import deferred

        deferred.cancel(run_id)
    elif _engine is not None:
        _engine.cancel(run_id)


def does_beside(name: str, work: Work) -> None:
    """Let `beside` know `work` by a name, in every process alike."""
    _works[name] = work


def work_named(name: str) -> Work:
    """Return what `does_beside` was given under the name."""
    return _works[name]


def beside(name: str, number: int) -> None:
    """Have the named work done for a row, beside the drives, once the surrounding transaction commits.

    For what a person waits for and no run does, such as a model's answer to a question. Done by this process's engine
    or, with Procrastinate, by any worker; by nobody where there is neither. It may be cut off at any time.
    """
    if scaled():
        from sessions_app import deferred

        deferred.beside(name, number)
    else:
        transaction.on_commit(partial(_begin_beside, name, number), robust=True)


def _begin_beside(name: str, number: int) -> None:
    if _engine is not None:
        _engine.begin_beside(_works[name], number)


def running() -> Engine | None:
    """Return what runs in this process, or None."""
    return _engine


def started(engine: Engine) -> None:
    """Let this process's callers reach `engine`."""
    global _engine
    _engine = engine


def stopped(engine: Engine) -> None:
    """Forget `engine`, unless another has taken its place."""
    global _engine
    if _engine is engine:
        _engine = None


def worker_name() -> str:
    """Return a name that tells the host, the process and this start of it."""
    return f"{socket.gethostname()}:{os.getpid()}:{_START}"
