"""The graph that chaos drives: it looks, nudges, then wants to strike twice in one turn, then strikes once more.

Every strike is gated; the nudge is of medium risk and runs unasked. None of them is idempotent, and each leaves a line
in a file outside of every database: what a tool did to the world cannot be rolled back, so that file is the truth that
the ledger is held against. The model samples anew whenever it is asked, as real ones do: the same turn comes with other
words and other call ids, so nothing is recognised that CLM has not kept itself.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from langchain.tools import ToolRuntime
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool

from sessions_app.agents.registry import GraphSpec
from sessions_app.agents.tools import ToolSpec, wire_name
from tests.chaos import points
from tests.fakes import agent_graph, calling


def effects_file() -> Path:
    """Return where strikes leave their mark: CLM_EFFECTS where several hosts strike, or a file of this server's."""
    return Path(os.environ.get("CLM_EFFECTS") or Path(os.environ["CLM_DATA_DIR"]) / "effects.log")


async def _strike(target: str, runtime: ToolRuntime[Any, Any]) -> str:
    points.reach("tool.before")
    mark = os.open(effects_file(), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(mark, f"{runtime.context.session_id} {target}\n".encode())
    finally:
        os.close(mark)
    points.reach("tool.after")
    return f"struck {target}"


async def _look(target: str) -> str:
    await asyncio.sleep(float(os.environ.get("CLM_LOOK_SECONDS", "0")))
    return f"{target} is there"


def _tool(name: str, run: object, *, idempotent: bool) -> ToolSpec:
    tool = StructuredTool.from_function(coroutine=run, name=wire_name(name), description=name)  # type: ignore[arg-type]
    return ToolSpec(name=name, description=name, category="chaos", server="chaos", idempotent=idempotent, tool=tool)


def _wanting(tool: str, *targets: str) -> Callable[[], Awaitable[AIMessage]]:
    """Return a turn that calls the tool on each target, in words and under ids that come once."""

    async def turn() -> AIMessage:
        sample = uuid.uuid4().hex[:12]
        calls = [(tool, {"target": target}, f"call-{target}-{sample}") for target in targets]
        return calling(*calls, text=f"I would do this, for reason {sample}.")

    return turn


def spec() -> GraphSpec:
    """Return the spec that CLM_GRAPHS names."""
    return agent_graph(
        [
            _wanting("chaos:look", "it"),
            _wanting("chaos:nudge", "nudged"),
            _wanting("chaos:strike", "left", "right"),
            _wanting("chaos:strike", "last"),
            AIMessage("All struck."),
        ],
        [
            _tool("chaos:look", _look, idempotent=True),
            _tool("chaos:nudge", _strike, idempotent=False),
            _tool("chaos:strike", _strike, idempotent=False),
        ],
    )()
