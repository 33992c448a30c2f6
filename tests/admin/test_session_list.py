"""The list of sessions in the admin: what a row says, how it is found, what it costs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.utils import timezone

from sessions_app.admin import span_text
from sessions_app.models import Session

LIST = "/admin/sessions_app/session/"


def rows(response: Any) -> list[Any]:
    return [session.pk for session in response.context["cl"].result_list]


def test_a_row_says_what_somebody_on_call_asks_first(oncall, make_session, alice, worked_on, aged):
    session = worked_on(make_session(requester=alice, query="payments are slow"))
    aged(session, timedelta(minutes=12, seconds=5))
    page = oncall.get(LIST).content.decode()
    for text in (session.pk, ">new<", "dev", "alice", "12 min", "payments are slow", "triage"):
        assert text in page


def test_s1_a_session_at_a_gate_says_awaiting_input_without_ever_being_opened(oncall, make_gate):
    gate = make_gate()
    for _ in range(2):
        page = oncall.get(LIST)
        assert '<td class="field-stored_status">awaiting_input</td>' in page.content.decode()
        assert [row.status for row in page.context["cl"].result_list] == ["awaiting_input"]
    assert gate.session.status == "awaiting_input"


@pytest.mark.parametrize("words", ["{id}", "melts", "cached", "alice"])
def test_a_session_is_found_by_id_query_summary_and_requester(oncall, make_session, alice, words):
    make_session(query="something else")
    session = make_session(query="the disk melts", requester=alice)
    type(session).objects.filter(pk=session.pk).update(summary="cached too much")
    assert rows(oncall.get(LIST, {"q": words.format(id=session.pk)})) == [session.pk]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status__exact": "error"}, "failed"),
        ({"environment": "staging"}, "failed"),
        ({"graph": "incident"}, "both"),
        ({"environment": "production"}, "none"),
    ],
)
def test_the_list_is_filtered_by_status_environment_and_graph(oncall, make_session, ended, filters, expected):
    waiting, failed = make_session(), ended("error", environment="staging")
    wanted = {"failed": {failed.pk}, "both": {waiting.pk, failed.pk}, "none": set()}[expected]
    assert set(rows(oncall.get(LIST, filters))) == wanted


def test_the_list_is_filtered_by_age(oncall, make_session, aged):
    ages = {"now": timedelta(0), "hours": timedelta(hours=23), "days": timedelta(days=3), "old": timedelta(days=8)}
    made = {name: aged(make_session(), by).pk for name, by in ages.items()}
    assert set(rows(oncall.get(LIST, {"age": "24h"}))) == {made["now"], made["hours"]}
    assert set(rows(oncall.get(LIST, {"age": "7d"}))) == {made["now"], made["hours"], made["days"]}
    assert rows(oncall.get(LIST, {"age": "older"})) == [made["old"]]
    today = rows(oncall.get(LIST, {"age": "today"}))
    assert made["now"] in today
    assert (made["hours"] in today) == (timezone.now().hour >= 23)
    assert len(rows(oncall.get(LIST, {"age": "nonsense"}))) == 4


def test_the_list_can_be_walked_by_date(oncall, make_session):
    session = make_session()
    day = session.created_at
    assert rows(oncall.get(LIST, {"created_at__year": day.year, "created_at__month": day.month})) == [session.pk]


def test_the_newest_session_stands_first(oncall, make_session):
    first, second = make_session(), make_session()
    assert rows(oncall.get(LIST)) == [second.pk, first.pk]


@pytest.mark.parametrize("count", [5, 50])
def test_the_list_costs_the_same_whatever_its_length(
    oncall, make_session, worked_on, alice, django_assert_num_queries, count
):
    for number in range(count):
        session = make_session(requester=alice if number % 2 else None, submitter_id="a client")
        if number < 5:
            worked_on(session)
    # Who it is: the cookie's session and the person. What they may do.
    # The count; the rows with requester and agent; the two ends of the date hierarchy, and the days between.
    with django_assert_num_queries(7):
        page = oncall.get(LIST)
    assert len(page.context["cl"].result_list) == count


def test_a_page_has_a_maximum():
    model_admin = admin.site._registry[Session]
    assert model_admin.list_per_page == 50
    assert model_admin.list_max_show_all == 200


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=12, seconds=59), "12 min"),
        (timedelta(hours=3, minutes=59), "3 h"),
        (timedelta(days=5, hours=23), "5 d"),
    ],
)
def test_a_span_is_written_in_its_largest_whole_unit(span, text):
    assert span_text(span) == text
