"""A thousand open pages and more: how soon all of them know, what they weigh, who waits for one that does not read.

The pages are in a process of their own (`browsers.py`) and still share the computer with the server, so the floor is
in the same place: the same number of the same pages, told by a server that only writes one frame to all of them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.benchmarks import server
from tests.benchmarks.figure import Figure
from tests.serving.server import ROOT, free_port

GATES = 5
MANY, FEWER, IDLE = 1000, 500, 2000
STALLED = 5
BAR_MANY_MS, BAR_FEWER_MS, BAR_MB = 500.0, 1000.0, 400.0
#: With stalled pages among them the others are told as soon as without, within the noise of a shared computer.
BAR_STALLED = 1.5
BAR_STORM_S = 60.0
#: What one gate's frame weighs, for the floor's frame.
FRAME_BYTES = 4000


class Browsers:
    """The other process, which has the pages."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self, command: str) -> None:
        """Give a command and do not wait for its answer."""
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer of the command that was begun."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the pages are gone")
        return dict(json.loads(line))

    def do(self, command: str) -> dict[str, Any]:
        """Give a command and return its answer."""
        self.begin(command)
        return self.answer()


@contextmanager
def browsing(url: str, cookie: str) -> Iterator[Browsers]:
    """Start the process of the pages; ended at the end."""
    command = [sys.executable, "-m", "tests.benchmarks.browsers", url, cookie]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Browsers(process)
        finally:
            process.kill()


def figures() -> list[Figure]:
    """Return the figures of this module."""
    return [*_told(), *_idle(), *_storm()]


# How soon all are told ----------------------------------------------------------------------------------------------


def _told() -> list[Figure]:
    found = []
    floors = {number: _floor(number) for number in (FEWER, MANY)}
    with _served() as running, browsing(running.url, running.cookie) as browsers:
        gate = 0
        for number, bar in ((FEWER, BAR_FEWER_MS), (MANY, BAR_MANY_MS)):
            opened = browsers.do("open 500")
            assert opened["open"] == number, opened
            told = _gates(running, browsers, gate)
            gate += GATES
            found.append(
                _figure(f"gate's commit to its row in all of {number:,} open pages", told, bar, floors[number])
            )
        alone: float = statistics.median(found[-1].notes["lasts_ms"])
        browsers.do(f"stall {STALLED}")
        # Enough gates that the stalled pages' buffers fill up and they are let go.
        told = _gates(running, browsers, gate, GATES * 3)
        last = statistics.median(told["last"])
        found.append(
            Figure(
                name=f"the same, with {STALLED} stalled pages among them",
                value=last,
                unit="ms",
                floor=alone,
                judged=last / alone,
                bar=BAR_STALLED,
                better="lower",
                spread=(min(told["last"]) / alone, max(told["last"]) / alone),
            )
        )
    return found


def _gates(running: server.Server, browsers: Browsers, known: int, number: int = GATES) -> dict[str, list[float]]:
    """Open so many gates, one after the other, and return in ms when the pages were told of each."""
    told: dict[str, list[float]] = {"first": [], "median": [], "last": []}
    with httpx.Client(base_url=running.url, timeout=60) as http:
        for gate in range(known + 1, known + number + 1):
            # Nothing can be read in this environment, so the session soon asks a person, which is a gate.
            body = {"query": "is it well?", "environment": "local", "submitter": {"id": "bench"}}
            http.post("/api/v1/sessions", json=body).raise_for_status()
            times = browsers.do(f"told {gate}")
            committed = running.commits()[gate]
            for which, when in times.items():
                told[which].append(1000 * (when - committed))
            # What else the session brings is pushed too: let it pass.
            time.sleep(0.5)
    return told


def _figure(name: str, told: dict[str, list[float]], bar: float, floor: float) -> Figure:
    last = statistics.median(told["last"])
    return Figure(
        name=name,
        value=last,
        unit="ms",
        floor=floor,
        judged=last,
        bar=bar,
        better="lower",
        spread=(min(told["last"]), max(told["last"])),
        notes={
            "median_page_ms": statistics.median(told["median"]),
            "first_page_ms": statistics.median(told["first"]),
            "lasts_ms": told["last"],
        },
    )


def _floor(number: int) -> float:
    """Return in ms how long the bare server takes to tell so many pages."""
    command = [sys.executable, "-m", "tests.benchmarks.bare_sockets", str(FRAME_BYTES)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bare:
        assert bare.stdin
        assert bare.stdout
        port = int(bare.stdout.readline())
        lasts = []
        with browsing(f"http://127.0.0.1:{port}", "none=none") as browsers:
            browsers.do(f"open {number}")
            for _ in range(GATES):
                browsers.do("wait frame")
                bare.stdin.write("\n")
                bare.stdin.flush()
                began = float(bare.stdout.readline())
                lasts.append(1000 * (float(browsers.do("waited")["last"]) - began))
        bare.kill()
    return statistics.median(lasts)


# What they weigh ----------------------------------------------------------------------------------------------------


def _idle() -> list[Figure]:
    with _served() as running, browsing(running.url, running.cookie) as browsers:
        httpx.get(f"{running.url}/approvals/", headers={"Cookie": running.cookie}, timeout=20).raise_for_status()
        time.sleep(1)
        before = running.memory_mb()
        opened = browsers.do(f"open {IDLE}")
        assert opened["open"] == IDLE, opened
        time.sleep(11)  # two heartbeats
        cpu = running.cpu_seconds()
        time.sleep(5)
        cpu = running.cpu_seconds() - cpu
        after = running.memory_mb()
    return [
        Figure(
            name=f"memory of the server with {IDLE:,} idle pages (PSS)",
            value=after,
            unit="MB",
            floor=before,
            judged=after,
            bar=BAR_MB,
            better="lower",
            notes={"kb_a_page": 1024 * (after - before) / IDLE, "cpu": cpu / 5, "seconds_to_open": opened["seconds"]},
        )
    ]


# When the server comes back -----------------------------------------------------------------------------------------


def _storm() -> list[Figure]:
    port = free_port()
    with TemporaryDirectory(prefix="clm-bench-") as directory:
        with server.serving(Path(directory), _SERVE, port=port) as running:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.browsers", running.url, running.cookie],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            browsers = Browsers(process)
            with httpx.Client(base_url=running.url, timeout=60) as http:
                for _ in range(20):
                    body = {"query": "is it well?", "environment": "local", "submitter": {"id": "bench"}}
                    http.post("/api/v1/sessions", json=body).raise_for_status()
            assert browsers.do(f"open {MANY}")["open"] == MANY
            browsers.begin("storm")
        try:
            with server.serving(Path(directory), _SERVE, port=port, cookie=running.cookie) as again:
                up = time.time()
                waits: list[float] = []
                asking = threading.Thread(target=_ask, args=(again.url, waits), daemon=True)
                asking.start()
                came = browsers.answer()
                asking_ended = list(waits)
        finally:
            process.kill()
            process.wait()
    return [
        Figure(
            name=f"{MANY:,} pages come back after a restart: until all have caught up",
            value=came["caught_up"] - up,
            unit="s",
            floor=None,
            judged=came["caught_up"] - up,
            bar=BAR_STORM_S,
            better="lower",
            notes={
                "all_connected_s": came["connected"] - up,
                "median_page_s": came["median"] - up,
                "refused": came["refused"],
                "healthz_median_ms": 1000 * statistics.median(asking_ended),
                "healthz_worst_ms": 1000 * max(asking_ended),
            },
        )
    ]


def _ask(url: str, waits: list[float]) -> None:
    while True:
        began = time.perf_counter()
        try:
            httpx.get(f"{url}/healthz", timeout=60).raise_for_status()
        except httpx.HTTPError:
            return
        waits.append(time.perf_counter() - began)
        time.sleep(0.1)


_SERVE = [sys.executable, "-m", "tests.benchmarks.serve"]


@contextmanager
def _served() -> Iterator[server.Server]:
    with TemporaryDirectory(prefix="clm-bench-") as directory, server.serving(Path(directory), _SERVE) as running:
        yield running
