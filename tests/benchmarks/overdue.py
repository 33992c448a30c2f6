"""How long the first sweep takes after a night with everything down (S8): 1,000 gates that nobody decided in time."""

from __future__ import annotations

import statistics
import time

from approvals_app import expiry
from approvals_app.models import Gate
from sessions_app.models import SessionEvent
from tests.benchmarks.figure import Figure
from tests.overdue import overdue_gates

GATES = 1000
REPETITIONS = 3
BAR_SECONDS = 10.0


def figures() -> list[Figure]:
    """Return the figures of this module."""
    wall, processor = [], []
    for turn in range(REPETITIONS):
        overdue_gates(GATES, first=turn * GATES + 1)
        before = SessionEvent.objects.filter(kind="gate_expired").count()
        began, worked = time.perf_counter(), time.process_time()
        assert len(expiry.expire_gates()) == GATES
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - worked)
        assert not Gate.objects.overdue().exists()
        assert SessionEvent.objects.filter(kind="gate_expired").count() == before + GATES
    took = statistics.median(wall)
    return [
        Figure(
            name=f"{GATES:,} overdue gates expired",
            value=took,
            unit="s",
            judged=took,
            bar=BAR_SECONDS,
            better="lower",
            spread=(min(wall), max(wall)),
            notes={"processor_seconds": processor},
        )
    ]
