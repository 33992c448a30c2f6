"""Checkpoints on PostgreSQL: made by `migrate`, once, and read and written side by side."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import connection

from sessions_app.agents import checkpointer
from sessions_app.agents.checkpointer import open_checkpointer
from sessions_app.exceptions import Unavailable

pytestmark = [
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="DATABASE_URL is not PostgreSQL"),
    pytest.mark.django_db(transaction=True),
]


async def test_drives_of_one_process_do_not_wait_for_each_others_checkpoints() -> None:
    async with open_checkpointer() as saver, asyncio.timeout(20):
        cursor: Any = saver._cursor  # type: ignore[attr-defined]
        async with cursor() as one, cursor() as other:
            assert one.connection is not other.connection


def _drop() -> None:
    with connection.cursor() as cursor:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations"):
            cursor.execute(f"DROP TABLE IF EXISTS {table}")


def _make(_: int) -> None:
    try:
        checkpointer.make_tables()
    finally:
        connection.close()


async def test_a_server_refuses_a_database_without_the_tables_and_says_what_to_do() -> None:
    await database_sync_to_async(_drop)()
    try:
        with pytest.raises(Unavailable, match=r"manage\.py migrate"):
            async with open_checkpointer():
                pass
    finally:
        await database_sync_to_async(checkpointer.make_tables)()


def test_several_that_migrate_at_once_make_the_tables_once() -> None:
    _drop()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_make, range(4)))
    assert checkpointer.tables_are_there()
