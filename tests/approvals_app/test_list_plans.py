"""Every query of every page and list is found by an index, with and without statistics, on both databases.

The queries are those that the pages and the API really send, on a small lawful installation.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals_app import sizing
from approvals_app.models import Gate, Inquiry
from approvals_app.sizing.life import Cast
from approvals_app.states import GateStatus, QueueTab
from sessions_app.models import Session, SessionEvent
from sessions_app.states import SessionStatus
from tests.plans import nothing_is_small, plan_of, read_whole

pytestmark = pytest.mark.django_db

#: Queries that may read a table from end to end, and why.
ALLOWED = {
    'SELECT "approvals_app_decision"."type" AS "type", COUNT': "a scrape of /metrics counts every decision. An index "
    "on the type alone would mislead SQLite where a page asks for the answers of a few sessions.",
}

PATHS = {
    **{f"queue, {tab}": f"/approvals/?tab={tab}" for tab in QueueTab},
    **{f"API gates, {tab}": f"/api/v1/gates?tab={tab}" for tab in QueueTab},
    **{f"API gates, {status}": f"/api/v1/gates?status={status}" for status in [*GateStatus.values, "decided"]},
    **{f"API sessions, {status}": f"/api/v1/sessions?status={status}" for status in SessionStatus.values},
    "queue, filtered": "/approvals/?environment=production&risk=high&tool=local_remediation:apply_fix&mine=1",
    "queue, requester": "/approvals/?requester=ada.loaddemo",
    "queue, claimed": "/approvals/?claimed=me",
    "queue, by session": "/approvals/?group=session",
    "queue, by call": "/approvals/?group=call",
    "repairs": "/approvals/repairs/",
    "gate": "/approvals/{waiting}/",
    "gate, decided": "/approvals/{decided}/",
    "gate, peek": "/approvals/{waiting}/peek/",
    "sessions": "/sessions/",
    "sessions, filtered": "/sessions/?status=resolved&environment=production",
    "session": "/sessions/{session}/",
    **{f"session, {show}": "/sessions/{session}/?show=" + show for show in ("agents", "calls", "gates", "changes")},
    "session, earlier": "/sessions/{session}/?before={seq}",
    "insight": "/insight/",
    "insight, list": "/insight/gates/?status=approved",
    "insight, approver": "/insight/gates/?approver=marit.loaddemo",
    "insight, file": "/insight/gates.csv",
    "API sessions": "/api/v1/sessions",
    "API sessions, filtered": "/api/v1/sessions?environment=production&graph=incident&since=2020-01-01",
    "API recent sessions": "/api/v1/sessions/recent",
    "API session": "/api/v1/sessions/{session}",
    "API full": "/api/v1/sessions/{session}/full",
    "API full, since": "/api/v1/sessions/{session}/full?since={seq}",
    "API lessons": "/api/v1/sessions/{session}/lessons",
    "API approvals": "/api/v1/sessions/{session}/approvals",
    "API gate": "/api/v1/gates/{decided}",
    "metrics": "/metrics",
}
#: Lists that are gone through page by page; the key of the cursor in the answer.
PAGED = {
    "API sessions": "/api/v1/sessions?limit=3",
    "API gates": "/api/v1/gates?limit=3",
    "API decided gates": "/api/v1/gates?status=decided&limit=3",
    "API executed gates": "/api/v1/gates?tab=executed&limit=3",
}


@pytest.fixture(scope="module")
def loaded(django_db_setup: Any, django_db_blocker: Any) -> Any:
    """Forty sessions of every kind, for all tests of this module; taken back at its end."""
    from django.db import transaction

    with django_db_blocker.unblock(), transaction.atomic():
        sizing.fill(sessions=40, pending=8, seed=1, cast=Cast.assemble())
        yield
        transaction.set_rollback(True)


@pytest.fixture(params=["with statistics", "without"])
def client(loaded: Any, db: None, request: pytest.FixtureRequest, bob: Any) -> Client:
    """Somebody with every role, on a database that knows how its rows are spread, and on one that does not."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
            if request.param == "without":
                cursor.execute("DELETE FROM sqlite_stat1")
            else:
                cursor.execute("SELECT rowid, stat FROM sqlite_stat1")
                as_many = [(_as_if_many(stat), row) for row, stat in cursor.fetchall()]
                cursor.executemany("UPDATE sqlite_stat1 SET stat = %s WHERE rowid = %s", as_many)
            cursor.execute("ANALYZE sqlite_master")
    elif request.param == "without":
        pytest.skip("autovacuum gathers them")
    nothing_is_small()
    bob.groups.set(Group.objects.all())
    client = Client()
    client.force_login(bob)
    return client


def _as_if_many(stat: str) -> str:
    """Return what SQLite would know of a table with 10,000 times the rows; of forty it rightly reads all."""
    rows, *each = stat.split()
    return " ".join([f"{rows}0000", *(number if int(number) < 3 else f"{number}0000" for number in each)])


def path_of(template: str) -> str:
    session = Session.objects.filter(gates__status="approved").latest("pk")
    return template.format(
        session=session.pk,
        seq=session.events.order_by("seq")[3].seq,
        waiting=Gate.objects.pending().latest("pk").pk,
        decided=Gate.objects.decided().latest("pk").pk,
    )


def refuse_whole_reads(asked: CaptureQueriesContext) -> None:
    seen = 0
    for sql in [one["sql"] for one in asked if re.match(r"\(?SELECT", one["sql"])]:
        seen += 1
        whole = read_whole(plan := plan_of(sql), sql)
        assert not whole or any(known in sql for known in ALLOWED), f"{whole}\n{sql}\n{plan}"
    assert seen


@pytest.mark.parametrize("name", PATHS)
def test_every_query_of_a_page_or_list_uses_an_index(client: Client, name: str) -> None:
    path = path_of(PATHS[name])
    with CaptureQueriesContext(connection) as asked:
        answer = client.get(path, headers={"HX-Request": "true"} if "peek" in path else {})
    assert answer.status_code == 200, path
    refuse_whole_reads(asked)


@pytest.mark.parametrize("name", PAGED)
def test_so_does_every_query_of_a_further_page_and_none_skips_rows(client: Client, name: str) -> None:
    cursor = client.get(PAGED[name]).json()["next_cursor"]
    assert cursor
    with CaptureQueriesContext(connection) as asked:
        assert client.get(f"{PAGED[name]}&cursor={cursor}").status_code == 200
    refuse_whole_reads(asked)
    assert not any(re.search(r"\bOFFSET [1-9]", one["sql"]) for one in asked)


def test_the_log_is_followed_from_a_cursor_by_its_key(client: Client) -> None:
    for rows in (SessionEvent.objects.since(5), SessionEvent.objects.filter(session_id="x").since(5)):
        plan = rows[:100].explain()
        assert "Seq Scan" not in plan
        assert not re.search(r"SCAN \w+(?! USING)", plan), plan


def test_a_query_that_reads_everything_is_seen(client: Client) -> None:
    for model, column in ((Gate, "headline"), (Session, "query"), (Inquiry, "text")):
        sql = str(model._default_manager.filter(**{column: "x"}).order_by().query).replace("= x", "= 'x'")
        assert read_whole(plan_of(sql), sql), sql
