"""How connections to PostgreSQL are made: pooled, past a pooler, and what counts as lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import OperationalError

from clm_site import settings as product
from sessions_app import postgres

URL = "postgresql://clm:p%40ss@db.internal:6432/clm?sslmode=require"


def test_a_pool_leaves_no_connection_to_a_thread_and_a_pooler_gets_no_server_side_cursors() -> None:
    entry = product.database(URL, Path("/nowhere"), pool=7, pgbouncer=True)
    assert entry["OPTIONS"]["pool"]["max_size"] == 7
    assert (entry["CONN_MAX_AGE"], entry["DISABLE_SERVER_SIDE_CURSORS"]) == (0, True)
    assert (entry["PASSWORD"], entry["OPTIONS"]["sslmode"]) == ("p@ss", "require")

    without = product.database(URL, Path("/nowhere"))
    assert "pool" not in without["OPTIONS"]
    assert (without["CONN_MAX_AGE"], without["DISABLE_SERVER_SIDE_CURSORS"]) == (60, False)


def test_queries_are_not_compiled_but_where_the_address_says_so_or_a_pooler_would_refuse_the_word() -> None:
    assert "jit=off" in product.database(URL, Path("/nowhere"))["OPTIONS"]["options"]
    assert "options" not in product.database(URL, Path("/nowhere"), pgbouncer=True)["OPTIONS"]
    assert product.database(f"{URL}&options=-c%20jit%3Don", Path("/nowhere"))["OPTIONS"]["options"] == "-c jit=on"


@pytest.mark.parametrize(
    ("pgbouncer", "direct", "listens"), [(False, "", True), (True, "", False), (True, "postgresql://db/clm", True)]
)
def test_a_worker_listens_where_notifications_arrive(
    settings: Any, pgbouncer: bool, direct: str, listens: bool
) -> None:
    settings.CLM_PGBOUNCER, settings.CLM_DIRECT_DATABASE_URL = pgbouncer, direct
    assert postgres.can_listen() is listens


def _from(cause: Exception) -> Exception:
    error = OperationalError("it failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (psycopg.OperationalError("consuming input failed: server closed the connection"), True),
        (psycopg.errors.AdminShutdown("terminating connection due to administrator command"), True),
        (psycopg.errors.DeadlockDetected("deadlock detected"), False),
        (psycopg.errors.UniqueViolation("duplicate key"), False),
    ],
)
def test_a_lost_connection_is_told_from_a_refusal(error: Exception, away: bool) -> None:
    assert postgres.is_away(_from(error)) is away
    assert postgres.is_away(ValueError("no database at all")) is False
