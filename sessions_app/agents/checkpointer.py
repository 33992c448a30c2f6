"""Where LangGraph keeps its checkpoints: a SQLite file of its own, or the PostgreSQL of DATABASE_URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from django.conf import settings
from django.db import connection
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from sessions_app import postgres
from sessions_app.exceptions import Unavailable
from sessions_app.lease import still_held
from sessions_app.steps import in_database

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: The one type of ours that an agent's own checkpoint may hold; everything else in it is plain data.
SERDE = JsonPlusSerializer(allowed_msgpack_modules=[("sessions_app.agents.context", "Report")])
#: Connections that the drives of one process share on PostgreSQL.
AT_ONCE = 8
#: The advisory lock of the set-up ("CLMc" in ASCII).
_SETTING_UP = 0x434C4D63


@asynccontextmanager
async def open_checkpointer() -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Yield the checkpointer of this installation for the running loop.

    On PostgreSQL its tables must be there: `migrate` makes them, once for all processes. Raises Unavailable without.
    A drive that has lost its run writes nothing with it: that raises LeaseLost.
    """
    here = _postgres() if connection.vendor == "postgresql" else _sqlite(settings.CLM_DATA_DIR / "checkpoints.sqlite3")
    async with here as saver:
        yield fenced(saver)


def fenced(saver: BaseCheckpointSaver[str]) -> BaseCheckpointSaver[str]:
    """Return the same checkpointer, with which a drive writes only while it holds its run (lease.py)."""
    for name in ("aput", "aput_writes"):
        setattr(saver, name, _while_held(getattr(saver, name)))
    return saver


def _while_held(write: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
    @wraps(write)
    async def held(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        await still_held()
        return await write(*args, **kwargs)

    return held


@asynccontextmanager
async def _sqlite(path: Path) -> AsyncIterator[BaseCheckpointSaver[str]]:
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    path.parent.mkdir(parents=True, exist_ok=True)
    async with aiosqlite.connect(path) as file:
        saver = AsyncSqliteSaver(file, serde=SERDE)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=20000"):
            await file.execute(f"PRAGMA {pragma}")
        await saver.setup()
        yield saver


@asynccontextmanager
async def _postgres() -> AsyncIterator[BaseCheckpointSaver[str]]:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg import AsyncConnection
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    pool: AsyncConnectionPool[AsyncConnection[dict[str, Any]]] = AsyncConnectionPool(
        kwargs={**postgres.parameters(), "autocommit": True, "row_factory": dict_row},
        min_size=1,
        max_size=AT_ONCE,
        timeout=10.0,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
    async with pool:
        if not await in_database(tables_are_there):
            raise Unavailable("The tables of the checkpoints are not up to date. Run: python manage.py migrate")
        saver = AsyncPostgresSaver(pool, serde=SERDE)
        # Its lock keeps drives from sharing one connection. Each takes its own from the pool, so it would only make
        # them wait for each other.
        saver.lock = cast("asyncio.Lock", nullcontext())
        yield saver


def tables_are_there() -> bool:
    """Say whether PostgreSQL has the checkpointer's tables, as new as the installed package wants them."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('checkpoint_migrations') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return False
        cursor.execute("SELECT max(v) FROM checkpoint_migrations")
        latest = cursor.fetchone()[0]
    return latest is not None and int(latest) >= len(AsyncPostgresSaver.MIGRATIONS) - 1


def make_tables(**kwargs: Any) -> None:
    """Make or update the checkpointer's tables on PostgreSQL; `migrate` calls it when everything else is there.

    Several that run at once do it one after the other: the set-up fails when it meets another on an empty database.
    """
    if connection.vendor != "postgresql" or tables_are_there():
        return
    import psycopg
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg.rows import dict_row

    # The lock is a transaction's, on a connection of its own, so that it also holds through a pooler. The set-up builds
    # indexes concurrently: that cannot be in a transaction, and waits for every statement that is under way. So whoever
    # waits for the lock looks again and again instead of standing in a statement, and the holder's has ended.
    with psycopg.connect(**postgres.parameters(direct=True)) as locked:
        # Written out: a statement with parameters would keep its snapshot to the end of the transaction.
        while locked.execute(f"SELECT pg_try_advisory_xact_lock({_SETTING_UP:d})").fetchone() != (True,):
            locked.rollback()
            time.sleep(0.2)
        with psycopg.connect(**postgres.parameters(direct=True), autocommit=True, row_factory=dict_row) as own:
            PostgresSaver(own).setup()
