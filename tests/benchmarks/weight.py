"""What one session with one gate weighs: processor time on both sides of its gate, rows, and bytes where they are kept.

It works on whichever database Django is set up with, and feeds the simulation (`tests/simulation`).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from channels.db import database_sync_to_async
from django.apps import apps
from django.conf import settings
from django.db import connection, connections

from tests.benchmarks import throughput
from tests.benchmarks.figure import Figure
from tests.benchmarks.stub import StubService

#: Kilobytes of records and checkpoints that a session may take.
BAR_KB = 400.0


async def measure() -> dict[str, float]:
    """Drive sessions to their gates and to their ends, and return what one of them took."""
    service = StubService(Path(settings.CLM_DATA_DIR))
    with service.in_place():
        async with throughput.sides() as (_, _, clm):
            await _round(service, clm)
            before, rows = await database_sync_to_async(_bytes)(), await database_sync_to_async(_rows)()
            took = await _round(service, clm)
            after, more = await database_sync_to_async(_bytes)(), await database_sync_to_async(_rows)()
    found = {f"{kind}_kb": (after[kind] - before[kind]) / 1024 / throughput.SESSIONS for kind in after}
    found |= {f"{table}_rows": (more[table] - rows[table]) / throughput.SESSIONS for table in more}
    return {**took, **{name: round(value, 2) for name, value in found.items() if value}}


async def _round(service: StubService, clm: throughput.Clm) -> dict[str, float]:
    service.sick = True
    began = time.process_time()
    waiting = await clm.to_gate()
    between = time.process_time()
    service.sick = False
    await clm.to_end(waiting)
    ended = time.process_time()
    number = throughput.SESSIONS
    return {
        "cpu_to_gate_ms": round(1000 * (between - began) / number, 1),
        "cpu_to_end_ms": round(1000 * (ended - between) / number, 1),
    }


def _rows() -> dict[str, int]:
    models = [*apps.get_app_config("sessions_app").get_models(), *apps.get_app_config("approvals_app").get_models()]
    return {model._meta.db_table: model._base_manager.count() for model in models}


def _bytes() -> dict[str, int]:
    """Return the bytes of the records, and those of the checkpoints."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT relname, pg_total_relation_size(relid) FROM pg_catalog.pg_statio_user_tables",
            )
            sizes = dict(cursor.fetchall())
        checkpoints = sum(size for name, size in sizes.items() if name.startswith("checkpoint"))
        return {"records": sum(sizes.values()) - checkpoints, "checkpoints": checkpoints}
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return {
        "records": Path(connection.settings_dict["NAME"]).stat().st_size,
        "checkpoints": sum(
            path.stat().st_size for path in Path(settings.CLM_DATA_DIR).glob("*checkpoint*") if path.is_file()
        ),
    }


def figures() -> list[Figure]:
    """Return the figures of this module."""
    found: dict[str, Any] = asyncio.run(measure())
    connections.close_all()
    kilobytes = found["records_kb"] + found["checkpoints_kb"]
    return [
        Figure(
            name="what a session with one gate keeps",
            value=kilobytes,
            unit="kB",
            judged=kilobytes,
            bar=BAR_KB,
            better="lower",
            notes=found,
        )
    ]
