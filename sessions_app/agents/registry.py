"""Graph name -> how to build it, start it and read its outcome. CLM_GRAPHS adds graphs of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.utils.module_loading import import_string
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph

from sessions_app.exceptions import NotFound
from sessions_app.states import OUTCOMES, SessionStatus

Graph = CompiledStateGraph[Any, Any, Any, Any]
Saver = BaseCheckpointSaver[Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a session ends: one of OUTCOMES, and in words."""

    status: SessionStatus
    resolution: str = ""


def read_outcome(values: dict[str, Any]) -> Outcome:
    """Return the outcome that the graph's last values name; without one, a person must look (S30)."""
    named = values.get("outcome") if isinstance(values, dict) else None
    if isinstance(named, dict) and named.get("status") in set(OUTCOMES):
        return Outcome(status=SessionStatus(named["status"]), resolution=str(named.get("resolution") or ""))
    return Outcome(status=SessionStatus.NEEDS_REVIEW, resolution="The graph ended without saying how; please look.")


def flat_input(given: dict[str, Any]) -> dict[str, Any]:
    """Return a first input whose overrides stand beside the query, as most graphs take it."""
    overrides = given.pop("state_overrides")
    return {**overrides, **given}


def read_contents(values: Any) -> str:
    """Return in words what a checkpoint of any graph knows: the names of its values that are not empty."""
    known = values if isinstance(values, dict) else {}
    names = [str(name).replace("_", " ") for name, value in known.items() if value not in (None, "", [], {})]
    return f"Has {', '.join(names)}." if names else "Has nothing yet."


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One graph that sessions may run.

    `build(checkpointer)` compiles it; `initial` makes its first input from `{query, environment, session_id,
    state_overrides}`; `nodes` are its steps in the order that a person would draw them; `says` puts the values of a
    checkpoint into words. `outline(checkpointer)`, where given, compiles the same nodes and edges to read checkpoints
    by, which must work without a model's key: it is never driven.
    """

    name: str
    build: Callable[[Saver], Graph]
    initial: Callable[[dict[str, Any]], dict[str, Any]] = flat_input
    outcome: Callable[[dict[str, Any]], Outcome] = read_outcome
    outline: Callable[[Saver], Graph] | None = None
    says: Callable[[Any], str] = read_contents
    nodes: tuple[str, ...] = ()


def _incident() -> GraphSpec:
    from sessions_app.agents.incident.spec import spec

    return spec()


@cache
def _specs() -> dict[str, Callable[[], GraphSpec]]:
    own = {name: import_string(path) for name, path in settings.CLM_GRAPHS.items()}
    return {"incident": _incident, **own}


def names() -> list[str]:
    """Return the names of every graph that a session may ask for."""
    return sorted(_specs())


def get(name: str) -> GraphSpec:
    """Return the graph's spec, or raise NotFound."""
    try:
        return _specs()[name]()
    except KeyError:
        raise NotFound(f"There is no graph {name!r}; there are {', '.join(names())}.") from None


def register(name: str, make: Callable[[], GraphSpec]) -> None:
    """Add a graph to this process; CLM_GRAPHS does the same for all of them."""
    _specs()[name] = make
    _outlined.cache_clear()


@cache
def _outlined(name: str) -> Graph:
    spec = get(name)
    return (spec.outline or spec.build)(InMemorySaver())


def outline(name: str, saver: Saver) -> Graph:
    """Return the graph to read the checkpoints of `saver` by; it is compiled once, and never driven."""
    return _outlined(name).copy({"checkpointer": saver})


_compiled: WeakKeyDictionary[Saver, dict[str, Graph]] = WeakKeyDictionary()


def compiled(name: str, saver: Saver) -> Graph:
    """Return the graph compiled with `saver`, once per checkpointer: compiling costs more than a run's start."""
    graphs = _compiled.setdefault(saver, {})
    if name not in graphs:
        graphs[name] = get(name).build(saver)
    return graphs[name]
