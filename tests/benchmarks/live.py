"""From a gate's commit to its row in open pages: a real server in a process of its own, real sockets.

The floor is a WebSocket ping through the same server while it is idle: what any frame costs there and back.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.benchmarks import server
from tests.benchmarks.figure import Figure

GATES = 15
SOCKETS = (1, 100)
BAR_MS = 50.0
#: The gate that a frame brings; here one comes at a time.
_GATE = re.compile(r"gate-(\d+)")


class Pages:
    """Open sockets of the queue, and when each was told of which gate."""

    def __init__(self) -> None:
        self.told: dict[int, list[float]] = {}
        self._sockets: list[ClientConnection] = []
        self._stack = AsyncExitStack()
        self._listening: list[asyncio.Task[None]] = []

    async def open(self, number: int, running: server.Server) -> None:
        """Open pages until there are `number` of them."""
        address = running.url.replace("http", "ws") + "/ws/queue/"
        headers = {"Cookie": running.cookie, "Origin": running.url}
        while len(self._sockets) < number:
            socket = await self._stack.enter_async_context(connect(address, additional_headers=headers))
            await asyncio.wait_for(socket.recv(), 10)
            self._sockets.append(socket)
            self._listening.append(asyncio.create_task(self._listen(socket)))

    async def ping(self) -> float:
        """Return the seconds of one ping there and back."""
        began = time.perf_counter()
        await (await self._sockets[0].ping())
        return time.perf_counter() - began

    async def hear(self, gate: int) -> None:
        """Wait until every page was told of the gate."""
        async with asyncio.timeout(60):
            while len(self.told.get(gate, ())) < len(self._sockets):
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Close them all."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        await self._stack.aclose()

    async def _listen(self, socket: ClientConnection) -> None:
        async for frame in socket:
            now = time.time()
            if isinstance(frame, str) and "hx-upsert" in frame and (found := _GATE.search(frame)):
                self.told.setdefault(int(found[1]), []).append(now)


async def _measure(running: server.Server) -> list[Figure]:
    figures: list[Figure] = []
    pages = Pages()
    gate = 0
    try:
        async with httpx.AsyncClient(base_url=running.url, timeout=20) as http:
            for number in SOCKETS:
                await pages.open(number, running)
                pings = [await pages.ping() for _ in range(50)]
                first = gate + 1
                for _ in range(GATES):
                    # Nothing can be read in this environment, so the session soon asks a person, which is a gate.
                    body = {"query": "is it well?", "environment": "local", "submitter": {"id": "bench"}}
                    (await http.post("/api/v1/sessions", json=body)).raise_for_status()
                    gate += 1
                    await pages.hear(gate)
                figures.append(_figure(number, pages, running.commits(), range(first, gate + 1), pings))
    finally:
        await pages.close()
    return figures


def _figure(number: int, pages: Pages, commits: dict[int, float], gates: range, pings: list[float]) -> Figure:
    middles = [1000 * (statistics.median(pages.told[gate]) - commits[gate]) for gate in gates]
    lasts = [1000 * (max(pages.told[gate]) - commits[gate]) for gate in gates]
    return Figure(
        name=f"gate's commit to its row, {number} open page{'s' if number > 1 else ''}",
        value=statistics.median(middles),
        unit="ms",
        floor=1000 * statistics.median(pings),
        judged=statistics.median(middles),
        bar=BAR_MS,
        better="lower",
        spread=(min(middles), max(middles)),
        notes={"median_of_the_last_page_ms": statistics.median(lasts)},
    )


@contextmanager
def _served() -> Iterator[server.Server]:
    with (
        TemporaryDirectory(prefix="clm-bench-") as directory,
        server.serving(Path(directory), [sys.executable, "-m", "tests.benchmarks.serve"]) as running,
    ):
        yield running


def figures() -> list[Figure]:
    """Return the figures of this module."""
    with _served() as running:
        return asyncio.run(_measure(running))
