"""Every list of the queue is found by an index, on SQLite and on PostgreSQL: no tab reads all gates there ever were."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals_app.models import Gate
from approvals_app.states import COUNTED, MOST_URGENT_FIRST, QueueTab, order_of
from tests.plans import nothing_is_small, plan_of, read_whole, sorts

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_small(db: None) -> None:
    nothing_is_small()


@pytest.mark.parametrize("cursor", [False, True])
@pytest.mark.parametrize("tab", QueueTab.values)
def test_every_query_of_a_tab_uses_an_index(client: Client, bob: Any, make_gate: Any, tab: str, cursor: bool) -> None:
    client.force_login(bob)
    query = {"tab": tab}
    if cursor:
        make_gate()
        gates = Gate.objects.all()
        gates._raw_update(status="rejected", decided_at=Gate.objects.get().created_at)
        query["cursor"] = _cursor_after(Gate.objects.get(), order_of(QueueTab(tab)))
    with CaptureQueriesContext(connection) as captured:
        assert client.get("/approvals/", query).status_code == 200
    asked = [one["sql"] for one in captured if "approvals_app_gate" in one["sql"]]
    assert len(asked) == 2
    for sql in asked:
        plan = plan_of(sql)
        assert not read_whole(plan), plan


@pytest.mark.parametrize("tab", sorted(set(QueueTab.values) - {"executing", "unknown"}))
def test_a_long_tab_is_read_in_its_order_and_not_sorted(tab: str) -> None:
    rows = Gate.objects.in_tab(tab, walk=True).order_by(*order_of(QueueTab(tab)))
    assert not sorts(rows.values("pk")[:51].explain())


def test_a_plan_that_sorts_is_seen() -> None:
    assert sorts(Gate.objects.order_by("headline").values("pk")[:51].explain())


def test_the_order_by_urgency_has_an_index_of_its_own() -> None:
    plan = Gate.objects.pending().order_by(*MOST_URGENT_FIRST).values("pk")[:51].explain()
    assert "gate_urgency" in plan


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_the_few_gates_of_groups_are_found_by_what_they_have_in_common() -> None:
    # In the queue's order, all that wait would be walked through.
    alike = Gate.objects.pending().filter(call_digest__in=["one", "other"])
    assert "gate_same_call" in alike.few(MOST_URGENT_FIRST).explain()


def test_only_tabs_that_somebody_empties_are_counted_to_the_end() -> None:
    assert set(COUNTED) == {"pending", "executing", "unknown"}


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_a_plan_that_reads_everything_is_seen() -> None:
    assert read_whole(plan_of("SELECT id FROM approvals_app_gate WHERE headline = 'x'")) == ["approvals_app_gate"]


def _cursor_after(gate: Gate, order: tuple[str, ...]) -> str:
    from sessions_app.querysets import _write_cursor

    return _write_cursor([getattr(gate, name.removeprefix("-")) for name in order])
