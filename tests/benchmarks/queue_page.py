"""The queue's page with 100 and with 5,000 pending gates: how many queries, and how much longer it takes.

The floor of the time is the shorter queue itself, so the ratio says what a longer one costs.
"""

from __future__ import annotations

import shutil
import statistics
import time
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from approvals_app.models import Gate
from sessions_app.models import Run, Session
from tests.benchmarks.figure import Figure

FEW, MANY = 100, 5000
ROUNDS = 15
MOST_QUERIES = 8
BAR = 1.5


def figures() -> list[Figure]:
    """Return the figures of this module."""
    here = Path(settings.CLM_DATA_DIR)
    real = connection.settings_dict["NAME"]
    few, many = here / "few.sqlite3", here / "many.sqlite3"
    try:
        _switch_to(few, copy_of=Path(real))
        client = _signed_in()
        _open_gates(0, FEW)
        _switch_to(many, copy_of=few)
        _open_gates(FEW, MANY)
        times: dict[Path, list[float]] = {few: [], many: []}
        queries: dict[Path, int] = {}
        for round_ in range(ROUNDS + 2):
            for database in (few, many) if round_ % 2 else (many, few):
                _switch_to(database)
                # The first answer on a fresh connection pays for opening it and for SQLite's cache.
                client.get("/approvals/")
                with CaptureQueriesContext(connection) as captured:
                    _timed(client)
                queries[database] = len(captured)
                took = min(_timed(client) for _ in range(3))
                if round_ >= 2:
                    times[database].append(1000 * took)
    finally:
        _switch_to(Path(real))
    ratios = [longer / shorter for longer, shorter in zip(times[many], times[few], strict=True)]
    return [
        Figure(
            name=f"queue page, {MANY:,} pending gates: queries",
            value=queries[many],
            unit="queries",
            floor=queries[few],
            judged=max(queries.values()),
            bar=MOST_QUERIES,
            better="lower",
        ),
        Figure(
            name=f"queue page, {MANY:,} pending gates: time",
            value=statistics.median(times[many]),
            unit="ms",
            floor=statistics.median(times[few]),
            judged=statistics.median(ratios),
            bar=BAR,
            better="lower",
            spread=(min(ratios), max(ratios)),
        ),
    ]


def _switch_to(database: Path, *, copy_of: Path | None = None) -> None:
    connection.close()
    if copy_of is not None:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        shutil.copyfile(copy_of, database)
    connection.settings_dict["NAME"] = str(database)


def _signed_in() -> Client:
    person = User.objects.create_user("bench-reader")
    person.groups.set(Group.objects.filter(name="approver"))
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(person)
    return client


def _timed(client: Client) -> float:
    began = time.perf_counter()
    answer = client.get("/approvals/")
    took = time.perf_counter() - began
    assert answer.status_code == 200, answer.status_code
    return took


def _open_gates(start: int, end: int) -> None:
    """Put pending gates into the database, past the verbs, which take their time with thousands."""
    now = timezone.now()
    numbers = range(start, end)
    sessions = Session.objects.bulk_create(
        Session(id=f"INC-20260101-{n:05d}", status="awaiting_input", query=f"incident {n}", environment="dev")
        for n in numbers
    )
    runs = Run.objects.bulk_create(
        Run(session=session, kind="start", status="interrupted", thread_id=session.pk) for session in sessions
    )
    gates = [
        Gate(
            session=session,
            run=run,
            interrupt_id=f"interrupt-{n}",
            kind="tool_approval",
            agent="resolution",
            tool="local_remediation:apply_fix",
            tool_call_id=f"call-{n:012d}",
            calls=[
                {
                    "tool_call_id": f"call-{n:012d}",
                    "tool": "local_remediation:apply_fix",
                    "args": {"service": "checkout", "action": "resize_pool", "size": 40, "reason": "x" * 200},
                }
            ],
            headline="resize the connection pool of checkout in dev to 40",
            reasoning="The pool is full and requests wait for a connection. " * 8,
            reason="high_risk",
            risk="high",
            rule="apply_fix",
            rule_version="0123456789abcdef",
            evidence={"reports": [], "readings": [{"tool": "t", "args": {}, "excerpt": "y" * 800}] * 8},
            allowed=["approve", "edit", "reject"],
            digest=f"{n:064x}",
            created_at=now + timedelta(milliseconds=n),
            expires_at=now + timedelta(hours=4),
        )
        for n, session, run in zip(numbers, sessions, runs, strict=True)
    ]
    # The gates' own manager refuses this, because no signal would move the sessions: here they have moved.
    refused: QuerySet[Gate] = QuerySet(Gate)
    refused.bulk_create(gates, batch_size=200)
