"""Many open pages in a process of their own, which time their frames, come back to a new server, and catch up.

python -m tests.benchmarks.browsers URL COOKIE  (nothing of Django, nothing of CLM)

It takes one command a line and answers each with one line of JSON: `open N`, `stall N` (pages that stop reading),
`told GATE` (when each page was told of it), `ping`, `storm` (the server comes back: when has each page caught up),
`wait TEXT` (when each page got a frame with that text).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from typing import Any
from urllib.parse import urlsplit

#: As in templates/base.html and hx-ws: seconds of the first delay and of the longest, and how far chance moves them.
FIRST, LONGEST, JITTER = 0.5, 5.0, 0.8
PATIENCE = 120.0
#: A browser opens few connections to one host; all of them together here stand for many computers.
AT_ONCE = 100
_GATE = re.compile(rb"gate-(\d+)")


class Page(asyncio.Protocol):
    """One socket: the handshake, and as much of RFC 6455 as a page needs."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.transport: asyncio.Transport | None = None
        self.greeted = asyncio.get_running_loop().create_future()
        self.closed = asyncio.get_running_loop().create_future()
        self.pong: asyncio.Future[float] | None = None
        self._data = bytearray()
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.fleet.handshake)

    def connection_lost(self, exc: Exception | None) -> None:
        for one in (self.greeted, self.closed):
            if not one.done():
                one.set_result(False)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._upgraded:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._data.startswith(b"HTTP/1.1 101"):
                self._close()
                return
            del self._data[: end + 4]
            self._upgraded = True
        while self._frame():
            pass

    def _frame(self) -> bool:
        if len(self._data) < 2:
            return False
        length, start = self._data[1] & 127, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(self._data) < start:
                return False
            length = int.from_bytes(self._data[2:start])
        if len(self._data) < start + length:
            return False
        opcode, payload = self._data[0] & 15, bytes(self._data[start : start + length])
        del self._data[: start + length]
        if opcode == 1:
            if not self.greeted.done():
                self.greeted.set_result(True)
            self.fleet.heard(payload)
        elif opcode == 8:
            self._close()
        elif opcode == 9:
            self._send(10, payload)
        elif opcode == 10 and self.pong is not None and not self.pong.done():
            self.pong.set_result(time.perf_counter())
        return True

    def ping(self) -> asyncio.Future[float]:
        """Send a ping and return when its answer came."""
        self.pong = asyncio.get_running_loop().create_future()
        self._send(9, b"")
        return self.pong

    def stall(self) -> None:
        """Read no more."""
        assert self.transport
        self.transport.pause_reading()

    def _send(self, opcode: int, payload: bytes) -> None:
        # A mask of zeros is a mask.
        assert self.transport
        self.transport.write(bytes([128 | opcode, 128 | len(payload), 0, 0, 0, 0]) + payload)

    def _close(self) -> None:
        assert self.transport
        self.transport.close()


class Fleet:
    """All the pages."""

    def __init__(self, url: str, cookie: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        head = f"Host: {parts.netloc}\r\nCookie: {cookie}\r\n"
        self.handshake = (
            f"GET /ws/queue/ HTTP/1.1\r\n{head}Origin: {url}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        self.catch_up = f"GET /approvals/ HTTP/1.1\r\n{head}HX-Request: true\r\nConnection: close\r\n\r\n".encode()
        self.pages: list[Page] = []
        self.stalled: list[Page] = []
        self.told: dict[int, list[float]] = {}
        self.waited: list[float] = []
        self.waited_for = b""
        self._slots = asyncio.Semaphore(AT_ONCE)

    def heard(self, payload: bytes) -> None:
        """Note when a page was told of which gate; here one comes at a time."""
        if self.waited_for and self.waited_for in payload:
            self.waited.append(time.time())
        if b"hx-upsert" in payload and (found := _GATE.search(payload)):
            self.told.setdefault(int(found[1]), []).append(time.time())

    async def connect(self) -> Page | None:
        """Open one page; None when it was refused."""
        try:
            async with self._slots, asyncio.timeout(PATIENCE):
                _, page = await asyncio.get_running_loop().create_connection(lambda: Page(self), self.host, self.port)
                return page if await page.greeted else None
        except OSError:
            return None

    async def open(self, number: int) -> dict[str, Any]:
        """Open so many pages more."""
        began = time.perf_counter()
        opened = await asyncio.gather(*(self.connect() for _ in range(number)))
        self.pages += [page for page in opened if page is not None]
        return {"open": len(self.pages), "seconds": time.perf_counter() - began}

    async def stall(self, number: int) -> dict[str, Any]:
        """Let so many pages read no more."""
        for _ in range(number):
            page = self.pages.pop()
            page.stall()
            self.stalled.append(page)
        return {"open": len(self.pages)}

    async def wait_told(self, gate: int) -> dict[str, Any]:
        """Wait until every page was told of the gate, and return when."""
        async with asyncio.timeout(PATIENCE):
            while len(self.told.get(gate, ())) < len(self.pages):
                await asyncio.sleep(0.01)
        times = self.told.pop(gate)
        return {"first": min(times), "median": statistics.median(times), "last": max(times)}

    async def wait_text(self, text: str) -> dict[str, Any]:
        """Say `{}` at once; the next command gets when every page had a frame with the text."""
        self.waited, self.waited_for = [], text.encode()
        return {}

    async def wait_ended(self) -> dict[str, Any]:
        """Wait until every page got the frame of `wait`."""
        async with asyncio.timeout(PATIENCE):
            while len(self.waited) < len(self.pages):
                await asyncio.sleep(0.01)
        times, self.waited_for = self.waited, b""
        return {"first": min(times), "median": statistics.median(times), "last": max(times)}

    async def ping(self) -> dict[str, Any]:
        """Return the median of fifty pings on one page."""
        took = []
        for _ in range(50):
            began = time.perf_counter()
            took.append(await self.pages[0].ping() - began)
        return {"seconds": statistics.median(took)}

    async def storm(self) -> dict[str, Any]:
        """Wait until every page has lost its server, come back as htmx does, and ask for the list once."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(page.closed for page in self.pages))
        number, self.pages = len(self.pages), []
        came = await asyncio.gather(*(self._come_back() for _ in range(number)))
        return {
            "connected": max(connected for connected, _ in came),
            "caught_up": max(caught for _, caught in came),
            "median": statistics.median(caught for _, caught in came),
            "refused": self.refused,
        }

    refused = 0

    async def _come_back(self) -> tuple[float, float]:
        delay = FIRST
        while True:
            await asyncio.sleep(max(0.0, delay + random.uniform(-1, 1) * delay * JITTER))
            if (page := await self.connect()) is not None:
                break
            self.refused += 1
            delay = min(LONGEST, delay * 2)
        self.pages.append(page)
        connected = time.time()
        while not await self._ask():
            await asyncio.sleep(5)
        return connected, time.time()

    async def _ask(self) -> bool:
        try:
            async with self._slots, asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                writer.write(self.catch_up)
                answer = await reader.read()
                writer.close()
        except OSError:
            return False
        return answer.startswith(b"HTTP/1.1 200")


async def main() -> None:
    """Answer commands until the input ends."""
    fleet = Fleet(*sys.argv[1:3])
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        match line:
            case ["open", number]:
                answer = await fleet.open(int(number))
            case ["stall", number]:
                answer = await fleet.stall(int(number))
            case ["told", gate]:
                answer = await fleet.wait_told(int(gate))
            case ["wait", text]:
                answer = await fleet.wait_text(text)
            case ["waited"]:
                answer = await fleet.wait_ended()
            case ["ping"]:
                answer = await fleet.ping()
            case ["storm"]:
                answer = await fleet.storm()
            case _:
                answer = {"error": f"no such command: {line}"}
        os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(main())
