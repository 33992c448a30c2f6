"""Sessions a second to the gate, and from its approval to the end: CLM against the same graph driven bare.

Bare is LangGraph with LangChain's own gate middleware, the same checkpointer in a file of its own, the same
offline investigator and the same tools, except that nothing is written about the session anywhere. It is driven twice:
with CLM's durability, which is what the bar is for, and with LangGraph's default, which saves less surely.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models.signals import post_save
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Durability

from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app import garbage, signals
from sessions_app.agents import config, models, risk
from sessions_app.agents.checkpointer import _sqlite
from sessions_app.agents.context import Report, RunContext, Usage
from sessions_app.agents.incident import graph
from sessions_app.agents.registry import Graph
from sessions_app.agents.tools import ToolSpec, incident
from sessions_app.inprocess import Engine
from sessions_app.models import Session
from sessions_app.runner import DURABILITY, RECURSION_LIMIT
from tests.benchmarks.figure import Figure
from tests.benchmarks.stub import ENVIRONMENT, SERVICE, StubService

AT_ONCE = 8
SESSIONS = 24
REPETITIONS = 5
#: What LangGraph does when nobody says: a step's checkpoint is written while the next one runs.
LANGGRAPHS_OWN: Durability = "async"
QUERY = f"{SERVICE} answers slowly and some requests time out"


class Null:
    """A journal that writes nothing."""

    async def agent_started(self, context: RunContext, *, agent: str, key: str) -> None:
        """Drop it."""

    async def agent_finished(self, context: RunContext, *, agent: str, key: str, report: Report, usage: Usage) -> None:
        """Drop it."""

    async def route_decided(self, context: RunContext, *, key: str, source: str, target: str, why: str) -> None:
        """Drop it."""


def _plain_gate(agent: str, tools: Sequence[ToolSpec]) -> list[AgentMiddleware[Any, Any]]:
    """Return LangChain's own gate before the tools that CLM's rules gate, and nothing else."""
    rules = config.current().risk.rules
    gated = [tool.wire_name for tool in tools if risk.may_gate(tool.name, rules)]
    return [HumanInTheLoopMiddleware(dict.fromkeys(gated, True), interrupt_mode="per_call")] if gated else []


class Bare:
    """The graph, driven by nobody."""

    def __init__(self, saver: Any, durability: Durability) -> None:
        rules = config.current().risk.rules
        self._graph: Graph = graph.build(
            models=models.chat_model,
            middleware=_plain_gate,
            checkpointer=saver,
            may_gate=lambda tool: risk.may_gate(tool, rules),
        )
        self._durability = durability
        self._room = asyncio.Semaphore(AT_ONCE)
        self._threads = 0

    async def to_gate(self) -> list[tuple[str, Any]]:
        """Drive `SESSIONS` threads to their gate; return each with its interrupt's id."""
        names = [f"{self._durability}-{self._threads + n}" for n in range(SESSIONS)]
        self._threads += SESSIONS
        given = {"query": QUERY, "environment": ENVIRONMENT, "state_overrides": {}}
        with _no_incident_record():
            ended = await asyncio.gather(*(self._drive(name, given) for name in names))
        return [(name, values["__interrupt__"][0].id) for name, values in zip(names, ended, strict=True)]

    async def to_end(self, waiting: list[tuple[str, Any]]) -> None:
        """Approve and drive to the end."""
        with _no_incident_record():
            ended = await asyncio.gather(
                *(self._drive(name, Command(resume={gate: {"type": "approve"}})) for name, gate in waiting)
            )
        ends = [values["outcome"] for values in ended]
        assert all(end["status"] == "resolved" for end in ends), ends[0]

    async def _drive(self, thread: str, given: Any) -> dict[str, Any]:
        about: RunnableConfig = {
            "configurable": {"thread_id": thread},
            "recursion_limit": RECURSION_LIMIT,
        }
        context = RunContext(
            session_id=thread, run_id=0, attempt=0, environment=ENVIRONMENT, query=QUERY, journal=Null()
        )
        async with self._room:
            values: dict[str, Any] = await self._graph.ainvoke(
                given, about, context=context, durability=self._durability
            )
            return values


@contextmanager
def _no_incident_record() -> Iterator[None]:
    """Let `update_incident` write nothing: without CLM there is no session to write it to."""
    with mock.patch.object(incident, "annotate", new=_drop):
        yield


def _drop(session_id: str, fields: dict[str, Any]) -> None:
    """Write nothing."""


class Counter:
    """Counts commits of one kind, from whichever thread, until there are enough."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = 0
        self._reached = asyncio.Event()

    def expect(self, number: int) -> None:
        """Begin to count down from `number`."""
        self._left = number
        self._reached.clear()

    def commit(self, **_: Any) -> None:
        """Count one, once the transaction it is called in has committed."""
        transaction.on_commit(lambda: self._loop.call_soon_threadsafe(self._count), robust=True)

    def _count(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self._reached.set()

    async def reached(self) -> None:
        """Wait until all were counted."""
        await asyncio.wait_for(self._reached.wait(), 60)


class Clm:
    """The same graph, driven by the engine, decided through the gates."""

    def __init__(self, gates: Counter, ends: Counter) -> None:
        self._gates, self._ends = gates, ends

    async def to_gate(self) -> list[str]:
        """Submit `SESSIONS` sessions and wait until every one's gate is committed."""
        self._gates.expect(SESSIONS)
        names = [await database_sync_to_async(_submit)() for _ in range(SESSIONS)]
        await self._gates.reached()
        return names

    async def to_end(self, waiting: list[str]) -> None:
        """Approve every gate and wait until every session's end is committed."""
        self._ends.expect(len(waiting))
        for name in waiting:
            await database_sync_to_async(_approve)(name)
        await self._ends.reached()
        assert await database_sync_to_async(_all_resolved)(waiting)


def _submit() -> str:
    return Session.submit(query=QUERY, environment=ENVIRONMENT, submitter_id="bench").pk


def _approve(session_id: str) -> None:
    gate = Gate.objects.pending().get(session_id=session_id)
    gate.decide("approve", actor=_approver(), channel=Channel.API, digest=gate.digest)


def _approver() -> User:
    person, new = User.objects.get_or_create(username="bench-approver")
    if new:
        person.groups.set(Group.objects.filter(name="approver"))
    return person


def _all_resolved(names: list[str]) -> bool:
    return Session.objects.filter(pk__in=names, status="resolved").count() == len(names)


@asynccontextmanager
async def sides() -> AsyncIterator[tuple[Bare, Bare, Clm]]:
    """Yield the graph with CLM's durability, the graph with LangGraph's default, and CLM."""
    directory = Path(settings.CLM_DATA_DIR)
    gates, ends = Counter(), Counter()

    def gate_saved(created: bool, **_: Any) -> None:
        gates.commit()

    def session_ended(**_: Any) -> None:
        ends.commit()

    engine = Engine(limit=AT_ONCE)
    await engine.start()
    garbage.leave_what_stays()
    post_save.connect(gate_saved, sender=Gate, weak=False)
    signals.session_ended.connect(session_ended, weak=False)
    try:
        async with _sqlite(directory / "bare.sqlite3") as saver:
            yield Bare(saver, DURABILITY), Bare(saver, LANGGRAPHS_OWN), Clm(gates, ends)
    finally:
        post_save.disconnect(gate_saved, sender=Gate)
        signals.session_ended.disconnect(session_ended)
        await engine.stop()


async def _timed(doing: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = await doing
    return SESSIONS / (time.perf_counter() - began), result


async def measure(repetitions: int = REPETITIONS) -> list[Figure]:
    """Return the figures; the sides take turns, and change their order every time."""
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    service = StubService(Path(settings.CLM_DATA_DIR))
    with service.in_place():
        async with sides() as (same, default, clm):
            named: list[tuple[str, Any]] = [("same", same), ("default", default), ("clm", clm)]
            for repetition in range(repetitions + 1):
                waiting = {}
                seen: dict[tuple[str, str], float] = {}
                service.sick = True
                for name, side in named:
                    seen[name, "gate"], waiting[name] = await _timed(side.to_gate())
                service.sick = False
                for name, side in named:
                    seen[name, "end"], _ = await _timed(side.to_end(waiting[name]))
                # The first round compiles graphs and warms caches on every side.
                if repetition:
                    for key, rate in seen.items():
                        rates[key].append(rate)
                named.reverse()
    return [
        Figure.paired(name, rates["clm", phase], rates[floor, phase], unit="sessions/s", bar=bar, better="higher")
        for name, phase, floor, bar in (
            (f"to the gate, {AT_ONCE} at once", "gate", "same", 0.6),
            ("  against LangGraph's default durability", "gate", "default", None),
            (f"approval to the end, {AT_ONCE} at once", "end", "same", 0.5),
            ("  against LangGraph's default durability", "end", "default", None),
        )
    ]


def figures() -> list[Figure]:
    """Return the figures of this module."""
    return asyncio.run(measure())
