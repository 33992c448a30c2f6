"""The journal that writes into the database; the graph's nodes know only its protocol (context.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from sessions_app.agents.context import Report, RunContext, Usage
from sessions_app.models import AgentRun, SessionEvent

_P = ParamSpec("_P")
_R = TypeVar("_R")


async def in_database(step: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Run one step of a drive in the database's thread and return what it returns.

    Like `database_sync_to_async`, for the many small steps of many drives at once: those that wait while the
    thread is busy cross together, because crossing and opening a connection cost more than most steps do. Each
    is still a transaction of its own, and fails alone.
    """
    loop = asyncio.get_running_loop()
    crossing = _crossings.get(loop)
    if crossing is None:
        crossing = _crossings[loop] = _Crossing()
    result: _R = await crossing.take(partial(step, *args, **kwargs))
    return result


class _Crossing:
    """The steps of one event loop that wait for the database's thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []
        self._under_way: asyncio.Task[None] | None = None

    async def take(self, step: Callable[[], Any]) -> Any:
        """Let the step cross with whatever else waits; cancelled before that, it is not taken."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((done, step))
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._cross())
        return await done

    async def _cross(self) -> None:
        try:
            while self._waiting:
                steps, self._waiting = self._waiting, []
                for done, result, error in await sync_to_async(self._run)(steps):
                    if done.cancelled():
                        continue
                    if error is None:
                        done.set_result(result)
                    else:
                        done.set_exception(error)
        finally:
            self._under_way = None

    def _run(
        self, steps: list[tuple[asyncio.Future[Any], Callable[[], Any]]]
    ) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        ended: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        for done, step in steps:
            if done.cancelled():
                continue
            try:
                ended.append((done, step(), None))
            except Exception as error:  # noqa: BLE001 - whatever it raises belongs to whoever asked for the step
                ended.append((done, None, error))
        if not self._waiting:
            close_old_connections()
        return ended


_crossings: WeakKeyDictionary[asyncio.AbstractEventLoop, _Crossing] = WeakKeyDictionary()


class DatabaseJournal:
    """Writes agents' turns and routes as rows and events, once each however often a node is replayed."""

    async def agent_started(self, context: RunContext, *, agent: str, key: str) -> None:
        """Record that `agent` began."""
        await in_database(
            AgentRun.start, session_id=context.session_id, run_id=context.run_id, agent=agent, key=key
        )

    async def agent_finished(
        self, context: RunContext, *, agent: str, key: str, report: Report, usage: Usage
    ) -> None:
        """Record an agent's report and what it cost."""
        await in_database(
            AgentRun.finish, session_id=context.session_id, agent=agent, key=key, report=report, usage=usage
        )

    async def route_decided(self, context: RunContext, *, key: str, source: str, target: str, why: str) -> None:
        """Record which way the graph went; `key` makes a replay of the same step write nothing."""
        payload = {"source": source, "target": target, "why": why}
        await in_database(_append_once, context.session_id, "route_decided", payload)


def _append_once(session_id: str, kind: str, payload: dict[str, str]) -> None:
    last = SessionEvent.objects.filter(session_id=session_id, kind=kind).order_by("-seq").first()
    if last is None or last.payload != payload:
        SessionEvent.append(session_id, kind, payload)
