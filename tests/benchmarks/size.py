"""Every page and list of the API with many sessions, held against the same with 1,000.

python -m tests.benchmarks size [--sessions N] [--database URL] [--keep DIR]

`manage.py loaddemo`'s filler makes both installations, a tenth of their sessions waiting. `--database` measures on that
PostgreSQL server (the databases NAME_1000 and NAME_N are made there, and stay), `--keep` on SQLite files in a directory
that are found again the next time. Without either it is a SQLite file that goes afterwards.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals_app import sizing
from approvals_app.sizing.life import Cast
from approvals_app.states import QueueTab
from clm_site.settings import database
from sessions_app.models import Session
from tests.benchmarks.figure import Figure

FEW = 1_000
ROUNDS = 5
MOST_QUERIES = 8
BAR = 1.5


@dataclass(frozen=True)
class Address:
    """One page or list: its name in the table, and how its address is found in the database that is open."""

    name: str
    path: Callable[[Client], str]


def _page(path: str) -> Callable[[Client], str]:
    return lambda client: path


def _session(suffix: str, prefix: str = "") -> Callable[[Client], str]:
    return lambda client: f"{prefix}/sessions/{_ended()}{suffix}"


def _ended() -> str:
    """Return a session with a gate that was approved and carried out; every size has the same kind of one."""
    rows = Session.objects.filter(status="resolved", gates__status="approved", tool_calls__status="executed")
    return str(rows.order_by("-created_at").values_list("pk", flat=True)[0])


def _second(path: str) -> Callable[[Client], str]:
    def find(client: Client) -> str:
        joined = "&" if "?" in path else "?"
        return f"{path}{joined}cursor={client.get(path).json()['next_cursor']}"

    return find


ADDRESSES = (
    *(Address(f"queue, {tab.label}", _page(f"/approvals/?tab={tab}")) for tab in QueueTab),
    Address("queue, production, high risk", _page("/approvals/?environment=production&risk=high")),
    Address("queue, by session", _page("/approvals/?group=session")),
    Address("queue, by identical call", _page("/approvals/?group=call")),
    Address("sessions page", _page("/sessions/")),
    Address("sessions page, resolved", _page("/sessions/?status=resolved")),
    Address("session page", _session("/")),
    Address("insight", _page("/insight/")),
    Address("/full", _session("/full", "/api/v1")),
    Address("/full, events after one", _session("/full?since=1&limit=5", "/api/v1")),
    Address("API, sessions", _page("/api/v1/sessions")),
    Address("API, sessions, next page", _second("/api/v1/sessions")),
    Address("API, sessions, awaiting", _page("/api/v1/sessions?status=awaiting_input")),
    Address("API, gates", _page("/api/v1/gates")),
    Address("API, gates, next page", _second("/api/v1/gates")),
    Address("API, decided gates", _page("/api/v1/gates?status=decided")),
    Address("API, executed gates", _page("/api/v1/gates?tab=executed")),
    Address("metrics", _page("/metrics")),
)


def figures(given: argparse.Namespace) -> list[Figure]:
    """Return the figures of this module."""
    before = dict(connection.settings_dict)
    sizes = (FEW, given.sessions)
    try:
        places = {size: _place(size, given) for size in sizes}
        clients = {size: _fill(places[size], size) for size in sizes}
        paths = {}
        for size in sizes:
            _switch_to(places[size])
            paths[size] = [address.path(clients[size]) for address in ADDRESSES]
        times = {size: [list[float]() for _ in ADDRESSES] for size in sizes}
        queries = {address.name: 0 for address in ADDRESSES}
        for round_ in range(ROUNDS + 1):
            for size in sizes if round_ % 2 else reversed(sizes):
                _switch_to(places[size])
                clients[size].get("/approvals/")
                for place, address in enumerate(ADDRESSES):
                    path = paths[size][place]
                    with CaptureQueriesContext(connection) as captured:
                        _timed(clients[size], path)
                    queries[address.name] = max(queries[address.name], len(captured))
                    took = min(_timed(clients[size], path) for _ in range(5))
                    if round_:
                        times[size][place].append(took)
    finally:
        connection.close()
        connection.settings_dict.update(before)
    where = "PostgreSQL" if given.database else "SQLite"
    most = max(queries[f"queue, {tab.label}"] for tab in QueueTab)
    return [
        Figure(
            name=f"{where}, {given.sessions:,} sessions: queries of a tab",
            value=most,
            unit="queries",
            judged=most,
            bar=MOST_QUERIES,
            better="lower",
            notes=dict(queries),
        ),
        *(
            Figure.paired(
                f"{where}: {address.name}",
                times[given.sessions][place],
                times[FEW][place],
                unit="ms",
                bar=BAR,
                better="lower",
            )
            for place, address in enumerate(ADDRESSES)
        ),
    ]


def _clock() -> float:
    return time.perf_counter() if connection.vendor == "postgresql" else time.process_time()


def _timed(client: Client, path: str) -> float:
    began = _clock()
    answer = client.get(path)
    took = _clock() - began
    assert answer.status_code == 200, (path, answer.status_code)
    return 1000 * took


# Where they are ----------------------------------------------------------------------------------------------------


def _place(size: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the database with that many sessions; on PostgreSQL it is made where it is not there."""
    if not given.database:
        directory = given.keep or Path(settings.CLM_DATA_DIR)
        directory.mkdir(parents=True, exist_ok=True)
        return {"NAME": str(directory / f"clm-{size}.sqlite3")}
    from psycopg import connect, sql

    entry = database(given.database, Path())
    name = f"{entry['NAME']}_{size}"
    with connect(given.database, autocommit=True) as server:
        if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return {**entry, "NAME": name, "CONN_MAX_AGE": None}


def _switch_to(place: dict[str, Any]) -> None:
    connection.close()
    connection.settings_dict.update(place)


def _fill(place: dict[str, Any], size: int) -> Client:
    """Bring the database to that many sessions where it has none, and return somebody who is signed in there."""
    _switch_to(place)
    call_command("migrate", verbosity=0, skip_checks=True)
    if (found := Session.objects.count()) not in {0, size}:
        raise SystemExit(f"{place['NAME']} has {found:,} sessions and not {size:,}: drop it, and it is made anew.")
    if not found:
        sizing.fill(sessions=size, pending=size // 10, seed=1, cast=Cast.assemble())
    person, _ = User.objects.get_or_create(username="bench-reader")
    person.groups.set(Group.objects.all())
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(person)
    return client
