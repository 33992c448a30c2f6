"""How long `POST /api/v1/sessions` takes while eight sessions are driven beside it, against the same in quiet.

A real server in its own process. In quiet: each session has come to its question before the next is submitted. Under
load: so many wait that the engine always drives as many as it may, while clients submit one after the other.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.benchmarks import server
from tests.benchmarks.figure import Figure

QUIET = 40
BACKLOG = 24
CLIENTS = 2
LOADED = 300
BAR = 10.0

#: Nothing can be read in this environment, so every session soon asks a person.
_BODY: dict[str, Any] = {"query": "is it well?", "environment": "local", "submitter": {"id": "bench"}}
_CONFIG = """
[limits]
concurrent_runs = 8
max_queued_sessions = 100000
"""


async def _submit(http: httpx.AsyncClient) -> tuple[float, str]:
    """Submit one session; return the milliseconds until the answer, and the session's id."""
    began = time.perf_counter()
    answer = await http.post("/api/v1/sessions", json=_BODY)
    took = 1000 * (time.perf_counter() - began)
    return took, str(answer.raise_for_status().json()["session_id"])


async def _quiet(http: httpx.AsyncClient) -> list[float]:
    times = []
    for _ in range(QUIET):
        took, session = await _submit(http)
        times.append(took)
        while (await http.get(f"/api/v1/sessions/{session}")).json()["status"] != "awaiting_input":
            await asyncio.sleep(0.05)
    return times


async def _loaded(http: httpx.AsyncClient) -> list[float]:
    for _ in range(BACKLOG):
        await _submit(http)

    async def client() -> list[float]:
        return [(await _submit(http))[0] for _ in range(LOADED // CLIENTS)]

    return [took for times in await asyncio.gather(*(client() for _ in range(CLIENTS))) for took in times]


async def _measure(url: str) -> tuple[list[float], list[float]]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        await _submit(http)
        return await _quiet(http), await _loaded(http)


def figures() -> list[Figure]:
    """Return the figures of this module."""
    with TemporaryDirectory(prefix="clm-bench-") as name:
        directory = Path(name)
        config = directory / "bench.toml"
        config.write_text(_CONFIG)
        command = [sys.executable, "-m", "tests.benchmarks.serve"]
        with server.serving(directory, command, CLM_CONFIG=str(config)) as running:
            quiet, loaded = asyncio.run(_measure(running.url))
    unloaded = statistics.median(quiet)
    p99 = statistics.quantiles(loaded, n=100)[98]
    return [
        Figure(
            name="POST of a session, p99 under load",
            value=p99,
            unit="ms",
            floor=unloaded,
            judged=p99 / unloaded,
            bar=BAR,
            better="lower",
            notes={"quiet": quiet, "loaded": loaded, "loaded_median": statistics.median(loaded)},
        )
    ]
