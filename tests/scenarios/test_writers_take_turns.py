"""On SQLite the threads of one process wait for each other's transactions, and not in SQLite's growing sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from sessions_app.models import Session, SessionEvent, log_transaction

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL's writers wait for an advisory lock"),
]

#: Starts a step in a thread of its own, whose connection gives up at once where SQLite says "locked".
Beside = Callable[[Callable[[], Any]], threading.Thread]


@pytest.fixture
def beside() -> Iterator[Beside]:
    """Run steps in impatient threads; what one raises fails the test."""
    raised: list[Exception] = []
    begun: list[threading.Thread] = []

    def start(step: Callable[[], Any]) -> threading.Thread:
        def run() -> None:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("PRAGMA busy_timeout = 0")
                step()
            except Exception as error:  # noqa: BLE001  handed to the test's own thread
                raised.append(error)
            finally:
                connection.close()

        begun.append(threading.Thread(target=run))
        begun[-1].start()
        return begun[-1]

    yield start
    for thread in begun:
        thread.join(20)
    assert raised == []


def _append(session: Session) -> SessionEvent:
    return SessionEvent.append(session.pk, "agent_started", {"agent": "triage"})


def test_a_thread_that_wants_to_write_waits_until_the_other_has_committed(make_session: Any, beside: Beside) -> None:
    session = make_session()
    with log_transaction():
        _append(session)
        waiting = beside(lambda: _append(session))
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(20)
    assert list(session.events.filter(kind="agent_started").values_list("position", flat=True)) == [2, 3]


def test_one_that_has_the_database_already_waits_for_nobody(make_session: Any, beside: Beside) -> None:
    """Else each would wait for the other: one for the turn, one for the database."""
    session = make_session()
    has_it, wanted = threading.Event(), threading.Event()

    def write_within_a_transaction_of_its_own() -> None:
        with transaction.atomic():
            has_it.set()
            assert wanted.wait(20)
            _append(session)

    writer = beside(write_within_a_transaction_of_its_own)
    assert has_it.wait(20)
    # This thread takes the turn and then waits for SQLite, as long as its connection is patient.
    threading.Timer(0.1, wanted.set).start()
    _append(session)
    writer.join(20)
    assert session.events.filter(kind="agent_started").count() == 2
