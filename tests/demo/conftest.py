"""A real demo service for the whole suite, with a window so short that a whole illness fits into two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Interrupt

from sessions_app.agents.context import Report, RunContext, Usage
from sessions_app.agents.incident.graph import build
from sessions_app.agents.offline import OfflineInvestigator
from sessions_app.agents.tools import CATALOGUE, ToolSpec, incident
from sessions_app.demo.supervisor import DemoError, DemoService

WINDOW = 0.4
FIXES: dict[str, tuple[str, dict[str, Any]]] = {
    "pool_exhausted": ("resize_pool", {"size": 40}),
    "bad_deploy": ("roll_back", {}),
    "memory_leak": ("restart", {}),
    "disk_full": ("clean_up", {}),
}


#: The checks that each fault must fail.
SIGNS = {
    "pool_exhausted": ("pool", "errors"),
    "bad_deploy": ("errors",),
    "memory_leak": ("memory", "latency"),
    "disk_full": ("disk", "errors"),
}


class Clinic:
    """The running service, with the few things that tests do to it."""

    def __init__(self, directory: Path) -> None:
        self.demo = DemoService(directory, rate=24, window=WINDOW)
        self.demo.start()

    def status(self) -> dict[str, Any]:
        return self.demo.status()

    def change(self, verb: str, **body: Any) -> dict[str, Any]:
        return self.demo._ask(self.demo._address(), "POST", f"/admin/{verb}", body)

    def wait_until(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 6) -> dict[str, Any]:
        until = time.monotonic() + seconds
        now: dict[str, Any] = {}
        while time.monotonic() < until:
            # It is away for a moment while it restarts.
            with contextlib.suppress(DemoError):
                if holds(now := self.status()):
                    return now
            time.sleep(0.03)
        raise AssertionError(f"never came to be; last {now}")

    def make_sick(self, fault: str) -> dict[str, Any]:
        """Bring in a fault, and wait until the window is of that time and shows everything that it does."""
        self.change("break", fault=fault)
        time.sleep(WINDOW)
        return self.wait_until(lambda now: all(now["checks"][sign] != "ok" for sign in SIGNS[fault]))

    def make_well(self) -> None:
        self.change("heal")
        self.settle()
        self.wait_until(lambda now: now["status"] == "healthy")

    def settle(self) -> None:
        """Wait until no reading from before a change is left in the window."""
        time.sleep(WINDOW + 0.25)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    clinic = Clinic(tmp_path_factory.mktemp("data") / "demo")
    yield clinic
    clinic.demo.stop()


@pytest.fixture
def clinic(running: Clinic, settings: Any) -> Clinic:
    """The service, found by the tools through the data directory."""
    settings.CLM_DATA_DIR = running.demo.directory.parent
    settings.CLM_SERVICES = {}
    return running


class Notes:
    """A journal that remembers, once per key, as the real one does."""

    def __init__(self) -> None:
        self.started: dict[str, str] = {}
        self.finished: dict[str, tuple[Report, Usage]] = {}
        self.routes: dict[str, tuple[str, str, str]] = {}

    async def agent_started(self, context: RunContext, *, agent: str, key: str) -> None:
        self.started[key] = agent

    async def agent_finished(self, context: RunContext, *, agent: str, key: str, report: Report, usage: Usage) -> None:
        assert key in self.started
        self.finished[key] = (report, usage)

    async def route_decided(self, context: RunContext, *, key: str, source: str, target: str, why: str) -> None:
        self.routes[key] = (source, target, why)

    def report(self, agent: str) -> Report:
        return next(report for key, (report, _) in self.finished.items() if key.startswith(f"{agent}:"))


def asks_before_fixes(agent: str, tools: Sequence[ToolSpec]) -> list[AgentMiddleware[Any, Any]]:
    gated = {
        tool.wire_name: {"allowed_decisions": ["approve", "edit", "reject"]}
        for tool in tools
        if tool.original_name == "apply_fix"
    }
    return [HumanInTheLoopMiddleware(interrupt_on=gated, interrupt_mode="per_call")] if gated else []  # type: ignore[arg-type]


class Drive:
    """One session of the incident graph, driven by hand."""

    def __init__(self, query: str, environment: str = "dev", **overrides: Any) -> None:
        self.notes = Notes()
        self.graph = build(
            models=lambda agent: OfflineInvestigator(),
            middleware=asks_before_fixes,
            checkpointer=InMemorySaver(),
            may_gate=lambda tool: tool.endswith(":apply_fix"),
        )
        self.context = RunContext(
            session_id="INC-20260516-061", run_id=1, attempt=1, environment=environment, query=query, journal=self.notes
        )
        self.input = {"query": query, "environment": environment, "state_overrides": overrides}
        self.values: dict[str, Any] = {}

    async def _go(self, given: Any) -> Interrupt | None:
        config: Any = {"configurable": {"thread_id": "t"}}
        self.values = await self.graph.ainvoke(given, config, context=self.context, durability="sync")
        json.dumps({k: v for k, v in self.values.items() if k != "__interrupt__"})
        state = await self.graph.aget_state(config)
        return state.interrupts[0] if state.interrupts else None

    async def start(self) -> Interrupt | None:
        return await self._go(self.input)

    async def answer(self, interrupt: Interrupt, answer: dict[str, Any]) -> Interrupt | None:
        return await self._go(Command(resume={interrupt.id: answer}))

    @property
    def outcome(self) -> dict[str, Any]:
        return dict(self.values["outcome"])


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the agents wrote into the incident, kept out of the database."""
    fields: list[dict[str, Any]] = []

    async def kept_out(step: Any, session_id: str, given: dict[str, Any]) -> None:
        fields.append(given)

    monkeypatch.setattr(incident, "in_database", kept_out)
    return fields


def call(name: str, environment: str = "dev", **args: Any) -> dict[str, Any]:
    """Run a tool outside any graph."""
    context = SimpleNamespace(session_id="INC-20260516-061", environment=environment)
    coroutine: Any = CATALOGUE[name].tool.coroutine  # type: ignore[attr-defined]
    runtime = {"runtime": SimpleNamespace(context=context)} if "runtime" in coroutine.__annotations__ else {}
    answer: dict[str, Any] = json.loads(asyncio.run(coroutine(**runtime, **args)))
    return answer
