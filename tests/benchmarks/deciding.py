"""From a person's decision to the tool's first step: what somebody who approved waits for.

Measured from the call of `Gate.decide` to the request that reaches the service, one session at a time in an engine that
has nothing else to do. The floor is the bare graph's, from `Command(resume=…)` to that same request.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from django.conf import settings

from tests.benchmarks import throughput
from tests.benchmarks.figure import Figure
from tests.benchmarks.stub import StubService

BAR_MS = 60.0


async def measure() -> list[Figure]:
    """Return the figure; the two sides take turns."""
    service = StubService(Path(settings.CLM_DATA_DIR))
    waited: dict[str, list[float]] = {"bare": [], "clm": []}
    with service.in_place():
        async with throughput.sides() as (bare, _, clm):
            gated, paused = await clm.to_gate(), await bare.to_gate()
            service.sick = False
            for session, thread in zip(gated, paused, strict=True):
                began = time.perf_counter()
                await clm.to_end([session])
                waited["clm"].append(1000 * (service.acted[-1] - began))
                began = time.perf_counter()
                await bare.to_end([thread])
                waited["bare"].append(1000 * (service.acted[-1] - began))
    ours, floor = waited["clm"], statistics.median(waited["bare"])
    median = statistics.median(ours)
    return [
        Figure(
            name="decision to the tool's first step",
            value=median,
            unit="ms",
            floor=floor,
            judged=median,
            bar=BAR_MS,
            better="lower",
            spread=(min(ours), max(ours)),
            notes={"ours": ours, "floors": waited["bare"]},
        )
    ]


def figures() -> list[Figure]:
    """Return the figures of this module."""
    return asyncio.run(measure())
