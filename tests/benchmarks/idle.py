"""What the server takes when nothing happens: its memory after one page, and how soon it first answers.

The floor is a process that has only imported what CLM stands on.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.benchmarks import server
from tests.benchmarks.figure import Figure
from tests.serving.server import ROOT

BAR_MB = 180.0
BAR_SECONDS = 15.0
REPETITIONS = 2

_FLOOR = """
import channels.layers, daphne.server, django.contrib.auth, django.core.asgi, django.db.models, ninja
import langchain.agents, langchain.agents.middleware, langgraph.checkpoint.sqlite.aio, langgraph.graph
print("ready", flush=True)
input()
"""


def figures() -> list[Figure]:
    """Return the figures of this module."""
    memory, floors, seconds, imports = [], [], [], []
    for _ in range(REPETITIONS):
        took, floor = _floor()
        imports.append(took)
        floors.append(floor)
        with (
            TemporaryDirectory(prefix="clm-bench-") as directory,
            server.serving(Path(directory), [sys.executable, "manage.py", "serve"]) as running,
        ):
            seconds.append(running.seconds_to_answer)
            httpx.get(f"{running.url}/approvals/", headers={"Cookie": running.cookie}, timeout=20).raise_for_status()
            time.sleep(2)
            memory.append(running.memory_mb())
    return [
        Figure(
            name="idle memory of the server (PSS)",
            value=min(memory),
            unit="MB",
            floor=min(floors),
            judged=min(memory),
            bar=BAR_MB,
            better="lower",
            spread=(min(memory), max(memory)),
        ),
        Figure(
            name="start to the first answer",
            value=min(seconds),
            unit="s",
            floor=min(imports),
            judged=min(seconds),
            bar=BAR_SECONDS,
            better="lower",
            spread=(min(seconds), max(seconds)),
        ),
    ]


def _floor() -> tuple[float, float]:
    """Return how long the imports alone take, and the memory they need."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _FLOOR], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        took = time.perf_counter() - began
        memory = server.memory_mb(process.pid)
        process.stdin.write(b"\n")
        process.stdin.close()
    return took, memory
