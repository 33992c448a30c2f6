"""A full disk: a clear 503, nothing half-written, and everything goes on when there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import InterfaceError, OperationalError, connection

from approvals_app.models import Decision, Gate
from sessions_app import disk, runner
from sessions_app.models import Run, Session, SessionEvent
from tests import fakes
from tests.api.conftest import error_of

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def full() -> Iterator[None]:
    """Let SQLite's file grow no further, which is what a full disk is to it."""
    with connection.cursor() as cursor:
        # What earlier tests left empty would be room.
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA page_count")
        (pages,) = cursor.fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        try:
            yield
        finally:
            cursor.execute("PRAGMA max_page_count = 1073741823")


@pytest.fixture
def only_sqlite() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("The limit is SQLite's own; PostgreSQL's error is tried by its number.")


#: Larger than the room that may be left in pages that exist.
LONG = "x" * 15_000


def rows() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (Session, Run, SessionEvent, Gate, Decision))


@pytest.mark.usefixtures("only_sqlite")
def test_a_submission_gets_a_503_in_the_contracts_shape_and_leaves_nothing(as_alice):
    before = rows()
    body = {"query": LONG, "environment": "dev"}
    with full():
        response = as_alice.post("/api/v1/sessions", body)
    error = error_of(response, 503, "service_unavailable")
    assert error["message"].startswith("CLM cannot write: its disk is full.")
    assert response["Retry-After"] == "30"
    assert rows() == before
    assert as_alice.post("/api/v1/sessions", body).status_code == 201


@pytest.mark.usefixtures("only_sqlite")
def test_a_decision_is_not_half_taken(as_bob, make_gate):
    gate = make_gate()
    before = rows()
    url, body = f"/api/v1/gates/{gate.pk}/decisions", {"type": "reject", "digest": gate.digest, "message": LONG[:4000]}
    with full():
        error_of(as_bob.post(url, body), 503, "service_unavailable")
    gate.refresh_from_db()
    assert gate.pending
    assert rows() == before
    assert as_bob.post(url, body).status_code == 201


@pytest.mark.usefixtures("only_sqlite")
def test_a_page_says_so_too(client, bob, make_gate):
    gate = make_gate()
    client.force_login(bob)
    with full():
        form = {"decision": "reject", "digest": gate.digest, "message": LONG[:4000]}
        response = client.post(f"/approvals/{gate.pk}/decide/", form)
        assert client.get("/approvals/").status_code == 200
    assert response.status_code == 503
    assert "its disk is full" in response.content.decode()
    gate.refresh_from_db()
    assert gate.pending


def test_a_database_that_is_away_is_no_crash_either(as_alice, monkeypatch):
    def gone(*args, **kwargs):
        raise InterfaceError("connection already closed")

    monkeypatch.setattr(Session, "submit", gone)
    response = as_alice.post("/api/v1/sessions", {"query": "q", "environment": "dev"})
    assert "does not answer" in error_of(response, 503, "service_unavailable")["message"]


class PostgresSays(Exception):
    """What psycopg raises on a full disk, as far as anybody looks."""

    sqlstate = "53100"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("database or disk is full"), True),
        (OperationalError("disk I/O error"), True),
        (PostgresSays("could not extend file"), True),
        (OSError(28, "No space left on device"), True),
        (OperationalError("database is locked"), False),
        (ValueError("the disk is full of surprises"), False),
    ],
)
def test_what_means_a_full_disk(error, expected):
    assert disk.is_full(error) is expected
    outer = RuntimeError("over it")
    outer.__cause__ = error
    assert disk.is_full(outer) is expected


async def test_a_run_that_meets_a_full_disk_is_tried_again_and_not_failed(engine, monkeypatch):
    from channels.db import database_sync_to_async

    monkeypatch.setattr(runner, "BREATH", 0.01)
    times = []

    def node(state: fakes.FakeState) -> fakes.FakeState:
        times.append(1)
        if len(times) < 5:
            raise OSError(28, "No space left on device")
        return {"outcome": fakes.RESOLVED}

    name = fakes.register("full-disk", fakes.graph_of(("node", node)))
    await engine()
    session = await database_sync_to_async(Session.submit)(query="q", environment="dev", graph=name)
    run = await database_sync_to_async(session.runs.get)()
    while run.status in ("pending", "running"):
        await database_sync_to_async(run.refresh_from_db)()
    assert (run.status, run.losses) == ("succeeded", 0)
    assert len(times) == 5
