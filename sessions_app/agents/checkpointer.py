"""Where LangGraph keeps its checkpoints: a SQLite file of its own, or the PostgreSQL of DATABASE_URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

#: The one type of ours that an agent's own checkpoint may hold; everything else in it is plain data.
SERDE = JsonPlusSerializer(allowed_msgpack_modules=[("sessions_app.agents.context", "Report")])


@asynccontextmanager
async def open_checkpointer() -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Yield the checkpointer of this installation, set up, for the running loop."""
    if connection.vendor == "postgresql":
        async with _postgres() as saver:
            yield saver
    else:
        async with _sqlite(settings.CLM_DATA_DIR / "checkpoints.sqlite3") as saver:
            yield saver


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

    parameters = connection.get_connection_params()
    wanted = {
        key: value
        for key, value in parameters.items()
        if key in {"dbname", "user", "password", "host", "port"} and value
    }
    pool: AsyncConnectionPool[AsyncConnection[dict[str, Any]]] = AsyncConnectionPool(
        kwargs={**wanted, "autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
        min_size=1,
        max_size=4,
        open=False,
    )
    async with pool:
        saver = AsyncPostgresSaver(pool, serde=SERDE)
        await saver.setup()
        yield saver
