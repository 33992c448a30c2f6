"""What the server takes when nothing happens: its memory after one page, how soon it first answers, what it imports.

The floor is a process that has only imported what CLM stands on. These are the figures that are kept over releases.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx

from tests.benchmarks import server
from tests.benchmarks.figure import Figure
from tests.serving.server import ROOT

BAR_MB = 180.0
BAR_SECONDS = 15.0
REPETITIONS = 3
#: The imports of CLM may take so many times those of its libraries.
BAR_IMPORTS = 1.6

_LIBRARIES = """
import channels.layers, daphne.server, django.contrib.auth, django.core.asgi, django.db.models, ninja
import langchain.agents, langchain.agents.middleware, langgraph.checkpoint.sqlite.aio, langgraph.graph
"""
_FLOOR = f"""{_LIBRARIES}
print("ready", flush=True)
input()
"""
_CLM = """
import django
django.setup()
import clm_site.asgi, clm_site.server, clm_site.urls
"""
OURS = frozenset({"approvals_app", "clm_site", "sessions_app"})


def figures() -> list[Figure]:
    """Return the figures of this module."""
    # An installation has its compiled modules beside the sources; the first round writes them where they lack.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    _imported(_CLM)
    memory, seconds, work, floors = [], [], [], []
    for _ in range(REPETITIONS):
        floors.append(_floor())
        with (
            TemporaryDirectory(prefix="clm-bench-") as directory,
            server.serving(Path(directory), [sys.executable, "manage.py", "serve"]) as running,
        ):
            seconds.append(running.seconds_to_answer)
            work.append(running.cpu_seconds())
            httpx.get(f"{running.url}/approvals/", headers={"Cookie": running.cookie}, timeout=20).raise_for_status()
            time.sleep(2)
            memory.append(running.memory_mb())
    floor = _Floor(*map(min, zip(*floors, strict=True)))
    return [
        _least("idle memory of the server (PSS)", "MB", memory, floor.memory_mb, bar=BAR_MB),
        _least("start to the first answer", "s", seconds, floor.seconds, bar=BAR_SECONDS),
        # Kept over releases in place of the seconds, which say what else the computer does.
        _least("processor time to the first answer", "s", work, floor.cpu_seconds, bar=BAR_SECONDS),
        _imports(),
    ]


def _least(name: str, unit: str, values: list[float], floor: float, *, bar: float) -> Figure:
    return Figure(
        name=name,
        value=min(values),
        unit=unit,
        floor=floor,
        judged=min(values),
        bar=bar,
        better="lower",
        spread=(min(values), max(values)),
    )


def _imports() -> Figure:
    """Return what importing all of CLM takes; the notes say how much of it is in CLM's own modules."""
    totals = [_imported(_CLM) for _ in range(REPETITIONS)]
    floors = [_imported(_LIBRARIES) for _ in range(REPETITIONS)]
    times = _import_times(_CLM)
    ours = sum(took for name, took in times.items() if name.split(".")[0] in OURS)
    return Figure(
        name="imports, processor time",
        value=min(totals),
        unit="s",
        floor=min(floors),
        judged=min(totals) / min(floors),
        bar=BAR_IMPORTS,
        better="lower",
        spread=(min(totals) / min(floors), max(totals) / min(floors)),
        notes={"share_of_clm": ours / sum(times.values())},
    )


def _imported(code: str) -> float:
    """Return the processor time of a process that does nothing but import."""
    ending = "\nimport time; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", code + ending], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _import_times(code: str) -> dict[str, float]:
    """Return the seconds that each module's own lines took, without what it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    times = {}
    for line in done.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdecimal():
            times[parts[2].strip()] = int(parts[0]) / 1e6
    return times


class _Floor(NamedTuple):
    """What a process takes that has only the libraries."""

    seconds: float
    cpu_seconds: float
    memory_mb: float


def _floor() -> _Floor:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _FLOOR], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        took = time.perf_counter() - began
        found = _Floor(took, server.cpu_seconds(process.pid), server.memory_mb(process.pid))
        process.stdin.write(b"\n")
        process.stdin.close()
    return found
