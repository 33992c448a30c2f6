"""Small graphs that pause, end and fail as told, shipped so that every test drives the same ones."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from sessions_app.agents import registry
from sessions_app.agents.context import RunContext
from sessions_app.agents.registry import GraphSpec


class FakeState(TypedDict, total=False):
    """What the fake graphs carry."""

    query: str
    environment: str
    session_id: str
    log: Annotated[list[Any], operator.add]
    outcome: dict[str, Any]


RESOLVED = {"status": "resolved", "resolution": "it is well again"}


def question(text: str) -> dict[str, Any]:
    """Return an interrupt value that asks for text."""
    return {"type": "question", "reason": "asked_by_agent", "agent": "fake", "question": text}


def approval(call_id: str, **args: Any) -> dict[str, Any]:
    """Return an interrupt value that asks whether a call may run."""
    return {
        "type": "tool_approval",
        "tool_call_id": call_id,
        "name": "local_remediation__apply_fix",
        "args": args or {"service": "checkout", "action": "restart"},
        "description": "because",
    }


def graph_of(*nodes: tuple[str, Callable[..., Any]], parallel: bool = False) -> Callable[[], GraphSpec]:
    """Return the spec of a graph whose nodes run one after the other, or all at once."""

    def build(saver: Any) -> Any:
        builder = StateGraph(FakeState, context_schema=RunContext)
        for name, node in nodes:
            builder.add_node(name, node)
        if parallel:
            for name, _ in nodes:
                builder.add_edge(START, name)
                builder.add_edge(name, END)
        else:
            names = [START, *(name for name, _ in nodes), END]
            for before, after in pairwise(names):
                builder.add_edge(before, after)
        return builder.compile(checkpointer=saver)

    return lambda: GraphSpec(name="fake", build=build, nodes=tuple(name for name, _ in nodes))


def register(name: str, make: Callable[[], GraphSpec]) -> str:
    """Put a fake graph in the registry and return its name."""
    registry.register(name, make)
    return name


def pausing(state: FakeState) -> FakeState:
    """Ask once, then end resolved, with the answer in the log."""
    answer = interrupt(approval("call-of-the-pausing-node"))
    return {"log": [answer], "outcome": RESOLVED}


def completing(state: FakeState) -> FakeState:
    """End resolved without asking."""
    return {"outcome": RESOLVED}


def silent(state: FakeState) -> FakeState:
    """End without an outcome."""
    return {"log": ["nothing to say"]}


def failing(state: FakeState) -> FakeState:
    """Raise."""
    raise RuntimeError("the model is away")
