"""The named points at which a process is killed: `CLM_CHAOS=commit.after:17` kills it at the 17th commit, just after.

The product knows none of this: `install` wraps its functions from outside, in the process that is to die.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

#: Each point, and up to which of its occurrences the harness draws.
POINTS = {
    "commit.before": 60,
    "commit.after": 60,
    "checkpoint.before": 25,
    "checkpoint.after": 25,
    "writes.before": 25,
    "writes.after": 25,
    "claim.before": 6,
    "claim.after": 6,
    "tool.before": 6,
    "tool.after": 6,
    "settle.before": 8,
    "settle.after": 8,
    "decide.before": 6,
    "decide.after": 6,
    "pause.before": 6,
    "pause.after": 6,
    "take.before": 6,
    "take.after": 6,
    "resume.before": 4,
    "resume.after": 4,
    "finish.before": 2,
    "finish.after": 2,
    "release.before": 2,
    "release.after": 2,
    "sweep.before": 3,
    "sweep.after": 3,
    "random": 2500,
}

_reached: Counter[str] = Counter()
_wanted, _, _nth = os.environ.get("CLM_CHAOS", "").partition(":")


def draw(randomly: random.Random) -> str:
    """Return a point and an occurrence, as CLM_CHAOS takes them; for `random` it is milliseconds."""
    point = randomly.choice(list(POINTS))
    return f"{point}:{randomly.randint(1, POINTS[point])}"


def reach(point: str) -> None:
    """Note that the process is at this point, and kill it if this is the one."""
    if point == _wanted:
        _reached[point] += 1
        if _reached[point] == int(_nth):
            die()


def die() -> None:
    """End the process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Wrap the functions around which this process may die."""
    from django.db.backends.base.base import BaseDatabaseWrapper
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    from approvals_app import consistency
    from approvals_app.models import Gate
    from sessions_app import runner
    from sessions_app.models import Run, Session, ToolCall

    _around(BaseDatabaseWrapper, "_commit", "commit")
    _around(ToolCall, "claim", "claim")
    _around(ToolCall, "settle", "settle")
    _around(Gate, "decide", "decide")
    _around(Run, "pause", "pause")
    _around(Run, "claim", "take")
    _around(Session, "resume", "resume")
    _around(Run, "finish", "finish")
    _around(Run, "take_away", "release")
    _around(consistency, "put_right", "sweep")
    for saver in (AsyncSqliteSaver, AsyncPostgresSaver):
        _around_async(saver, "aput", "checkpoint")
        _around_async(saver, "aput_writes", "writes")
    if durability := os.environ.get("CHAOS_DURABILITY"):
        runner.DURABILITY = durability  # type: ignore[assignment]
    if _wanted == "random":
        threading.Timer(int(_nth) / 1000, die).start()


def _around(owner: Any, name: str, point: str) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    @wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach(f"{point}.before")
        result = real(*args, **kwargs)
        reach(f"{point}.after")
        return result

    setattr(owner, name, wrapped)


def _around_async(owner: type, name: str, point: str) -> None:
    real: Callable[..., Awaitable[Any]] = getattr(owner, name)

    @wraps(real)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach(f"{point}.before")
        result = await real(*args, **kwargs)
        reach(f"{point}.after")
        return result

    setattr(owner, name, wrapped)
