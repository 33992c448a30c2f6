"""The graph that chaos drives: it looks, then wants to strike twice in one turn, then strikes once more.

Every strike is gated, is not idempotent, and leaves a line in a file outside of every database: what a tool did to
the world cannot be rolled back, so that file is the truth that the ledger is held against.
"""

from __future__ import annotations

import os
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
    """Return where strikes leave their mark."""
    return Path(os.environ["CLM_DATA_DIR"]) / "effects.log"


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
    return f"{target} is there"


def _tool(name: str, run: object, *, idempotent: bool) -> ToolSpec:
    tool = StructuredTool.from_function(coroutine=run, name=wire_name(name), description=name)  # type: ignore[arg-type]
    return ToolSpec(name=name, description=name, category="chaos", server="chaos", idempotent=idempotent, tool=tool)


def spec() -> GraphSpec:
    """Return the spec that CLM_GRAPHS names."""
    return agent_graph(
        [
            calling(("chaos:look", {"target": "it"}, "call-look")),
            calling(
                ("chaos:strike", {"target": "left"}, "call-left"), ("chaos:strike", {"target": "right"}, "call-right")
            ),
            calling(("chaos:strike", {"target": "last"}, "call-last")),
            AIMessage("All struck."),
        ],
        [_tool("chaos:look", _look, idempotent=True), _tool("chaos:strike", _strike, idempotent=False)],
    )()
