"""How a database would run a query: which tables it would read from end to end."""

from __future__ import annotations

import re

from django.db import connection

#: Tables that grow for as long as CLM is used.
LARGE = frozenset(
    {
        "sessions_app_session",
        "sessions_app_run",
        "sessions_app_sessionevent",
        "sessions_app_agentrun",
        "sessions_app_toolcall",
        "approvals_app_gate",
        "approvals_app_gatecall",
        "approvals_app_decision",
        "approvals_app_inquiry",
        "approvals_app_reply",
        "approvals_app_comment",
        "approvals_app_factsacknowledgement",
        "approvals_app_repaircard",
    }
)


def nothing_is_small() -> None:
    """Let PostgreSQL plan for an empty table as for a large one: read it whole, or sort it, only where it must."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for way in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin"):
                cursor.execute(f"SET LOCAL enable_{way} = off")


def plan_of(sql: str) -> str:
    """Return the database's plan, a step a line."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{sql}".replace("%", "%%"))
        return "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())


def read_whole(plan: str, sql: str = "") -> list[str]:
    """Return the large tables that a plan reads from end to end; `sql` says which table an alias stands for."""
    if connection.vendor != "sqlite":
        return [name for name in re.findall(r"Seq Scan on (\w+)", plan) if name in LARGE]
    # SQLite calls a table that is read through an alias by the alias.
    aliases = {alias: table for table, alias in re.findall(r'"(\w+)" ([A-Z]\d+)\b', sql)}
    scanned = re.findall(r"SCAN (\w+)(?! USING)(?:$|\n| )", plan)
    return [name for name in scanned if aliases.get(name, name) in LARGE or re.fullmatch(r"[UVW]\d", name)]


def sorts(plan: str) -> bool:
    """Whether a plan, from Django's `explain`, sorts what it found; a sort inside a subquery of each row is another."""
    if connection.vendor == "postgresql":
        return "Sort" in plan.partition("SubPlan")[0]
    return bool(re.search(r"^\d+ 0 \d+ USE TEMP B-TREE", plan, re.MULTILINE))
