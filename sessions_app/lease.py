"""A drive's hold on its run: whoever has lost it writes nothing any more, neither in the ledger nor in a checkpoint.

Records are fenced by the run's row itself (who has it, for which time). Checkpoints are written dozens of times a
session and by another library, so they are fenced by time: the drive knows until when nobody can have taken its run,
and asks the row only where that is over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from sessions_app.exceptions import LeaseLost
from sessions_app.steps import in_database

if TYPE_CHECKING:
    from sessions_app.models import Run

#: A clock that goes on while the machine sleeps, where there is one; nobody can set it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_held: ContextVar[Lease | None] = ContextVar("clm_lease", default=None)


class Lease:
    """The hold of this process on a run that it has just claimed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        left = (run.lease_until - timezone.now()).total_seconds() if run.lease_until else 0.0
        self._until = _now() + left

    async def renew(self) -> bool:
        """Hold it longer; False means that the run is somebody else's, or nobody's."""
        asked = _now()
        held = await in_database(self._run.renew)
        if held:
            self._until = asked + settings.CLM_LEASE_SECONDS
        return held

    async def check(self) -> None:
        """Return where nobody else can have the run. Raises LeaseLost."""
        if _now() >= self._until and not await self.renew():
            raise LeaseLost


@contextmanager
def holding(lease: Lease) -> Iterator[None]:
    """Let everything that the block writes, and what it starts, depend on the lease."""
    token = _held.set(lease)
    try:
        yield
    finally:
        _held.reset(token)


async def still_held() -> None:
    """Return where nothing is driven here, or the run is still this drive's. Raises LeaseLost."""
    if lease := _held.get():
        await lease.check()


def _now() -> float:
    return time.clock_gettime(_CLOCK)
