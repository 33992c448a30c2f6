"""The queue's page with 10,000 pending and 100,000 ended gates, tab by tab: how many queries, and how much longer.

The floor of the time is the page of a desk with 100 pending gates and nothing else, so the ratio says what a longer
history costs.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals_app.models import Decision, Gate, GateCall
from approvals_app.states import QueueTab
from sessions_app.models import Run, Session, ToolCall
from tests.benchmarks.figure import Figure

FEW, PENDING, ENDED = 100, 10_000, 100_000
ROUNDS = 9
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
        _fill(1, FEW, "pending")
        _switch_to(many, copy_of=few)
        _fill(FEW + 1, PENDING, "pending")
        _fill(PENDING + 1, PENDING + ENDED, "ended")
        floors: list[float] = []
        times: dict[QueueTab, list[float]] = {tab: [] for tab in QueueTab}
        queries: dict[QueueTab, int] = {}
        for round_ in range(ROUNDS + 1):
            _switch_to(few)
            floor = _best_of_three(client, QueueTab.PENDING)
            _switch_to(many)
            # The first answer on a fresh connection pays for opening it and for SQLite's cache.
            _timed(client, QueueTab.PENDING)
            for tab in QueueTab:
                with CaptureQueriesContext(connection) as captured:
                    _timed(client, tab)
                queries[tab] = len(captured)
                times[tab].append(_best_of_three(client, tab))
            floors.append(floor)
            if not round_:
                # The first round warms everything up.
                floors.clear()
                for readings in times.values():
                    readings.clear()
    finally:
        _switch_to(Path(real))
    return [
        Figure(
            name=f"queue page, {PENDING:,} pending, {ENDED:,} ended: queries",
            value=max(queries.values()),
            unit="queries",
            judged=max(queries.values()),
            bar=MOST_QUERIES,
            better="lower",
            notes={str(tab): number for tab, number in queries.items()},
        ),
        *(
            Figure.paired(f"queue page, {tab.label}: time", times[tab], floors, unit="ms", bar=BAR, better="lower")
            for tab in QueueTab
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


def _timed(client: Client, tab: QueueTab) -> float:
    began = time.perf_counter()
    answer = client.get("/approvals/", {"tab": tab})
    took = time.perf_counter() - began
    assert answer.status_code == 200, answer.status_code
    return 1000 * took


def _best_of_three(client: Client, tab: QueueTab) -> float:
    return min(_timed(client, tab) for _ in range(3))


# Filling -----------------------------------------------------------------------------------------------------------

#: Of a hundred ended gates, the number up to which they have that status, and their calls that one.
_ENDED_AS = (
    (82, "approved", "executed"),
    (85, "approved", "failed"),
    (91, "rejected", "rejected"),
    (95, "responded", ""),
    (98, "expired", "expired"),
    (100, "cancelled", "rejected"),
)


def _fill(first: int, last: int, which: str) -> None:
    """Put gates with those keys into the database, past the verbs: one of each row, and then copies of it in bulk."""
    evidence = {"reports": [], "readings": [{"tool": "t", "args": {}, "excerpt": "y" * 800}] * 8}
    model = _template(first, evidence)
    rows: list[tuple[Model, dict[str, str]]] = [
        (model["session"], {"id": "printf('INC-%%08d', i)", "query": "'incident ' || i"}),
        (model["run"], {"session_id": "printf('INC-%%08d', i)", "thread_id": "printf('INC-%%08d', i)"}),
        (model["gate"], {"session_id": "printf('INC-%%08d', i)", "run_id": "i", "interrupt_id": "'interrupt-' || i"}),
    ]
    if which == "ended":
        at = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', '2026-01-01', i || ' seconds')"
        gates = " ".join(f"WHEN i %% 100 < {to} THEN '{status}'" for to, status, _ in _ENDED_AS)
        calls = " ".join(f"WHEN i %% 100 < {to} THEN '{status}'" for to, _, status in _ENDED_AS if status)
        # Fifty of each of the two that somebody must look after, all of them approved.
        few = " ".join(
            f"WHEN i %% 100 = {number} AND i <= {first + 5000} THEN '{status}'"
            for number, status in enumerate(["executing", "unknown"])
        )
        rows[2][1].update(
            status=f"CASE {gates} END",
            decided_at=at,
            created_at=at,
            expires_at=at,
            # The long texts of nearly all of them would only make the file longer.
            evidence="CASE WHEN i %% 10 = 0 OR i %% 100 BETWEEN 82 AND 84 THEN t.evidence ELSE '{}' END",
        )
        approved = "CASE WHEN i %% 100 < 85 THEN " + at + " END"
        rows += [
            (model["call"], {"session_id": "printf('INC-%%08d', i)", "run_id": "i", "tool_call_id": "'call-' || i",
                             "status": f"CASE {few} {calls} ELSE 'executed' END", "approved_at": approved}),
            (model["link"], {"gate_id": "i", "call_id": "i"}),
            (model["decision"], {"gate_id": "i"}),
        ]  # fmt: skip
    for row, changes in rows:
        _copy(row, first + 1, last, changes)
    if which == "ended":
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE approvals_app_gate SET status = 'approved', decided_at = created_at WHERE id = %s", [first]
            )


def _template(key: int, evidence: dict[str, Any]) -> dict[str, Model]:
    session = Session(id=f"INC-{key:08d}", status="awaiting_input", query="incident", environment="dev")
    session.save()
    run = Run(id=key, session=session, kind="start", status="interrupted", thread_id=session.pk)
    run.save()
    args = {"service": "checkout", "action": "resize_pool", "size": 40, "reason": "x" * 200}
    tool = "local_remediation:apply_fix"
    call = ToolCall(
        id=key,
        session=session,
        run=run,
        thread_id=session.pk,
        tool_call_id=f"call-{key}",
        agent="resolution",
        tool=tool,
        args=args,
        digest="0" * 64,
        risk="high",
        reason="high_risk",
        rule="apply_fix",
        rule_version="0123456789abcdef",
        status="executed",
        approved_at=session.created_at,
        result="done",
    )
    call.save()
    gate = Gate(
        id=key,
        session=session,
        run=run,
        interrupt_id=f"interrupt-{key}",
        kind="tool_approval",
        agent="resolution",
        tool=tool,
        tool_call_id=call.tool_call_id,
        calls=[{"tool_call_id": call.tool_call_id, "tool": tool, "args": args}],
        headline="resize the connection pool of checkout in dev to 40",
        reasoning="The pool is full and requests wait for a connection. " * 8,
        reason="high_risk",
        risk="high",
        rule="apply_fix",
        rule_version="0123456789abcdef",
        evidence=evidence,
        allowed=["approve", "edit", "reject"],
        expires_at=session.created_at.replace(year=2099),
    )
    gate.save()
    decision = Decision(
        gate=gate, type="approve", actor=User.objects.get(username="bench-reader"), channel="page", digest=gate.digest
    )
    decision.save()
    return {
        "session": session,
        "run": run,
        "gate": gate,
        "call": call,
        "link": GateCall.objects.get(gate=gate),
        "decision": decision,
    }


def _copy(row: Model, first: int, last: int, changes: dict[str, str]) -> None:
    """Insert copies of a row with the keys `first` to `last`; `changes` are expressions over the number `i`."""
    meta = row._meta
    columns = [str(field.column) for field in meta.local_concrete_fields]
    key = str(meta.pk.column) if meta.pk else "id"
    values = {column: f"t.{column}" for column in columns} | {key: "i"} | changes
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE n(i) AS (SELECT %s UNION ALL SELECT i + 1 FROM n WHERE i < %s) "
            f"INSERT INTO {meta.db_table} ({', '.join(columns)}) "
            f"SELECT {', '.join(values[column] for column in columns)} FROM n, {meta.db_table} t WHERE t.{key} = %s",
            [first, last, row.pk],
        )
