"""A graph for workers that are stopped and killed: what it did is in files, and it waits until a file lets it go on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from sessions_app.agents.registry import GraphSpec
from tests.fakes import RESOLVED, graph_of


def _here() -> Path:
    return Path(os.environ["CLM_TEST_FILES"])


def _note(name: str) -> None:
    with (_here() / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


async def _first(state: Any) -> Any:
    _note("first")
    return {"log": ["first"]}


async def _waits(state: Any) -> Any:
    _note("waits")
    while not (_here() / "go").exists():
        await asyncio.sleep(0.05)
    return {"outcome": RESOLVED}


def waiting() -> GraphSpec:
    """Return a graph that notes its first step, then waits in the second."""
    return graph_of(("first", _first), ("waits", _waits))()
