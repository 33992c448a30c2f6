"""The database steps of the engine and of its drives: how they cross from the event loop into the database's thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection

_P = ParamSpec("_P")
_R = TypeVar("_R")


async def in_database(step: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Run one step of a drive in the database's thread, as database_sync_to_async does, and return what it returns.

    A drive takes many small steps, and crossing into a thread and opening a connection cost more than most of
    them. So those that wait while the thread is busy cross together, on a connection that stays open while
    anything is driven (`connected`). Each is still a transaction of its own, and fails alone. A thread for the
    drives alone would be slower: two writers of one process wait for each other in SQLite's coarse sleeps.
    """
    result: _R = await _crossing().take(partial(step, *args, **kwargs))
    return result


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """Keep the connection open from step to step for the block; the last block to end closes it."""
    crossing = _crossing()
    crossing.drives += 1
    try:
        yield
    finally:
        crossing.drives -= 1
        if not crossing.drives:
            await in_database(close_old_connections)


#: A step that waits, and what became of one: whose it was, what it returned, what it raised.
_Step = tuple[asyncio.Future[Any], Callable[[], Any]]
_Ended = tuple[asyncio.Future[Any], Any, Exception | None]


class _Crossing:
    """The steps of one event loop that wait for the thread."""

    def __init__(self) -> None:
        self.drives = 0
        self._waiting: list[_Step] = []
        self._under_way: asyncio.Task[None] | None = None

    async def take(self, step: Callable[[], Any]) -> Any:
        """Let the step cross with whatever else waits; one that is cancelled before that does not run."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((done, step))
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._cross())
        return await done

    async def _cross(self) -> None:
        steps: list[_Step] = []
        try:
            while self._waiting:
                steps, self._waiting = self._waiting, []
                try:
                    ended = await sync_to_async(self._run)(steps)
                except Exception as broke:  # noqa: BLE001 - whoever waits is told, and not left waiting
                    ended = [(done, None, broke) for done, _ in steps]
                for done, result, error in ended:
                    if done.cancelled():
                        continue
                    if error is None:
                        done.set_result(result)
                    else:
                        done.set_exception(error)
        finally:
            self._under_way = None
            # Cancelled with its loop: whoever waits is, too.
            for done, _ in [*steps, *self._waiting]:
                done.cancel()
            self._waiting = []

    def _run(self, steps: list[_Step]) -> list[_Ended]:
        # Where connections have an age, Django's own rules say when this one is too old or broken.
        if not self.drives or connection.settings_dict["CONN_MAX_AGE"] != 0:
            close_old_connections()
        ended: list[_Ended] = []
        for done, step in steps:
            if done.cancelled():
                continue
            try:
                ended.append((done, step(), None))
            except Exception as error:  # noqa: BLE001 - whatever it raises belongs to whoever asked for the step
                ended.append((done, None, error))
        if not self.drives:
            close_old_connections()
        return ended


_crossings: WeakKeyDictionary[asyncio.AbstractEventLoop, _Crossing] = WeakKeyDictionary()


def _crossing() -> _Crossing:
    loop = asyncio.get_running_loop()
    if loop not in _crossings:
        _crossings[loop] = _Crossing()
    return _crossings[loop]
