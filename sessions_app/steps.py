"""The database steps of the engine and of its drives: how they cross from the event loop into the database's thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from threading import get_ident
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import close_old_connections, connection

log = logging.getLogger("clm.steps")

_P = ParamSpec("_P")
_R = TypeVar("_R")


async def in_database(step: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Run one step of a drive in the database's thread, as database_sync_to_async does, and return what it returns.

    A drive takes many small steps, and crossing into a thread and opening a connection cost more than most of
    them. So the connection stays open while anything is driven (`connected`), those that wait while the thread is
    busy cross together, and on SQLite the loop waits a moment for the thread instead of fighting it for the
    interpreter (`_AT_ONCE`). Each step is still a transaction of its own, and fails alone. A thread for the drives
    alone would be slower: two writers of one process wait for each other in SQLite's coarse sleeps.
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


#: Seconds that the loop stands still for a step on SQLite. Most take a fraction of a millisecond there, several
#: times as long when the loop goes on meanwhile, because each statement then waits for the interpreter's lock.
_AT_ONCE = 0.005

#: A step that waits, and what became of one: whose it was, what it returned, what it raised.
_Step = tuple[asyncio.Future[Any], Callable[[], Any]]
_Ended = tuple[asyncio.Future[Any], Any, Exception | None]


class _Crossing:
    """The steps of one event loop that wait for the thread."""

    def __init__(self) -> None:
        self.drives = 0
        self._waiting: list[_Step] = []
        self._under_way: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._sought = False

    async def take(self, step: Callable[[], Any]) -> Any:
        """Let the step cross with whatever else waits; one that is cancelled before that does not run."""
        if not self._sought:
            self._thread, self._sought = await _thread_to_wait_for(), True
        done = asyncio.get_running_loop().create_future()
        if self._under_way is None and self._thread is not None:
            begun = self._thread.submit(copy_context().run, self._run, [(done, step)])
            try:
                ended = begun.result(_AT_ONCE)
            except TimeoutError:
                self._under_way = asyncio.create_task(self._cross([(done, step)], asyncio.wrap_future(begun)))
            else:
                _deliver(ended)
        else:
            self._waiting.append((done, step))
            if self._under_way is None:
                self._under_way = asyncio.create_task(self._cross())
        return await done

    async def _cross(self, steps: Sequence[_Step] = (), begun: asyncio.Future[list[_Ended]] | None = None) -> None:
        try:
            if begun is not None:
                _deliver(await begun)
            while self._waiting:
                steps, self._waiting = self._waiting, []
                _deliver(await sync_to_async(self._run)(steps))
        finally:
            self._under_way = None
            # Cancelled with its loop: whoever waits is, too.
            for done, _ in [*steps, *self._waiting]:
                done.cancel()
            self._waiting = []

    def _run(self, steps: Sequence[_Step]) -> list[_Ended]:
        ended: list[_Ended] = []
        for done, step in steps:
            if done.cancelled():
                continue
            try:
                # Where connections have an age, Django's own rules say when this one is too old or broken.
                if not self.drives or connection.settings_dict["CONN_MAX_AGE"] != 0:
                    _close_old()
                ended.append((done, step(), None))
            except Exception as error:  # noqa: BLE001 - whatever it raises belongs to whoever asked for the step
                ended.append((done, None, error))
                if connection.errors_occurred:
                    # It may be the connection that is broken: the next step is not to meet it again.
                    _close_old()
        if not self.drives:
            try:
                _close_old()
            except Exception:
                # The steps are done all the same.
                log.exception("A connection could not be closed")
        return ended


def _close_old() -> None:
    """Close what is too old or broken; never a connection whose transaction the caller stands in."""
    if not connection.in_atomic_block:
        close_old_connections()


def _deliver(ended: list[_Ended]) -> None:
    for done, result, error in ended:
        if done.cancelled():
            continue
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


async def _thread_to_wait_for() -> ThreadPoolExecutor | None:
    """Return the thread of Django's synchronous code, where this loop may stand still for it.

    It may on SQLite, whose statements are work and not waiting; and not when that thread is another than asgiref's
    own, as under `async_to_sync`, where it waits for this loop.
    """
    if connection.vendor != "sqlite":
        return None
    thread = SyncToAsync.single_thread_executor
    own = await asyncio.wrap_future(thread.submit(get_ident))
    return thread if await sync_to_async(get_ident)() == own else None


_crossings: WeakKeyDictionary[asyncio.AbstractEventLoop, _Crossing] = WeakKeyDictionary()


def _crossing() -> _Crossing:
    loop = asyncio.get_running_loop()
    if loop not in _crossings:
        _crossings[loop] = _Crossing()
    return _crossings[loop]
