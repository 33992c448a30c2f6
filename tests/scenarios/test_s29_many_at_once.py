"""S29: many submissions at once, and most of them are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import connection

from approvals_app.models import Gate
from sessions_app.models import Run, Session
from tests.fakes import graph_of, pausing, register
from tests.scenarios.conftest import until

MANY = 200
LIMIT = 8


@pytest.mark.django_db(transaction=True)
async def test_s29_two_hundred_submissions_at_once_are_all_taken_and_reach_their_gates_in_order(
    engine: Any, alice: Any
) -> None:
    graph = register("s29", graph_of(("only", pausing)))
    started = await engine(limit=LIMIT)
    most = 0

    def submit(number: int) -> str:
        try:
            session = Session.submit(query=f"number {number}", environment="dev", graph=graph, requester=alice)
            return session.pk
        finally:
            connection.close()

    def all_waiting() -> bool:
        nonlocal most
        most = max(most, Run.objects.filter(status="running").count())
        return Gate.objects.pending().count() == MANY

    def submit_all() -> list[str]:
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(submit, range(MANY)))

    ids = await database_sync_to_async(submit_all, thread_sensitive=False)()
    assert len(set(ids)) == MANY
    await until(all_waiting, seconds=40)
    assert most <= LIMIT
    assert started.limit == LIMIT
    await database_sync_to_async(_check_order)()


def _check_order() -> None:
    assert set(Session.objects.values_list("status", flat=True)) == {"awaiting_input"}
    runs = list(Run.objects.order_by("pk"))
    assert [run.pk for run in Run.objects.order_by("started_at", "pk")] == [run.pk for run in runs]
    # They are driven side by side, so a gate may overtake those that were under way with it, and no other.
    submitted = {pk: place for place, pk in enumerate(Run.objects.order_by("pk").values_list("session", flat=True))}
    opened = Gate.objects.order_by("pk").values_list("session", flat=True)
    assert all(abs(submitted[pk] - place) <= 2 * LIMIT for place, pk in enumerate(opened))
