"""Gates and decisions in the admin: found, read, and linked to the desk, where they are decided."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.utils import timezone

from approvals_app.models import Gate
from approvals_app.states import Channel, GateStatus
from tests.conftest import question_interrupt, tool_interrupt

LIST = "/admin/approvals_app/gate/"


def rows(response: Any) -> list[Any]:
    return [gate.pk for gate in response.context["cl"].result_list]


def test_a_row_says_what_is_asked_where_and_for_how_long(oncall, make_gate):
    gate = make_gate()
    page = oncall.get(LIST).content.decode()
    for text in ("pending", gate.headline, "local_remediation:apply_fix", gate.risk, "dev", "in 3 h"):
        assert text in page
    assert f'<a href="/admin/sessions_app/session/{gate.session_id}/change/">{gate.session_id}</a>' in page
    assert f'<a href="{gate.get_absolute_url()}">decide</a>' in page


def test_time_left_is_only_said_while_it_matters(oncall, make_gate, bob):
    overdue, decided = make_gate(), make_gate()
    Gate.objects.swap(overdue.pk, GateStatus.PENDING, expires_at=timezone.now() - timedelta(minutes=1))
    decided.decide("reject", actor=bob, channel=Channel.API, digest=decided.digest, message="no")
    shown = {gate.pk: gate for gate in oncall.get(LIST).context["cl"].result_list}
    page: Any = admin.site._registry[Gate]
    assert page.expires(shown[overdue.pk]).startswith("expired at ")
    assert page.expires(shown[decided.pk]) == "–"
    assert "look" in page.on_desk(shown[overdue.pk])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status__exact": "rejected"}, {"rejected"}),
        ({"status__exact": "pending"}, {"asked"}),
        ({"kind__exact": "question"}, {"asked"}),
        ({"risk": "high"}, {"rejected"}),
        ({"environment": "staging"}, {"asked"}),
        ({"q": "apply_fix"}, {"rejected"}),
        ({"q": "cache"}, {"asked"}),
    ],
)
def test_gates_are_found_by_status_kind_risk_environment_and_words(oncall, make_gate, bob, filters, expected):
    rejected = make_gate(interrupts=[tool_interrupt()])
    asked = make_gate(interrupts=[question_interrupt("Is it the cache?")], environment="staging")
    rejected.decide("reject", actor=bob, channel=Channel.PAGE, digest=rejected.digest, message="no")
    names = {rejected.pk: "rejected", asked.pk: "asked"}
    assert {names[pk] for pk in rows(oncall.get(LIST, filters))} == expected


def test_a_gates_page_shows_its_decision_and_links_to_the_desk(oncall, make_gate, bob):
    gate = make_gate()
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message="not at noon")
    response = oncall.get(f"{LIST}{gate.pk}/change/")
    page = response.content.decode()
    for text in ("rejected", "bob", "not at noon", "the approvals queue", gate.digest):
        assert text in page
    assert f'href="{gate.get_absolute_url()}"' in page


def test_decisions_are_listed_with_who_what_and_why(oncall, make_gate, bob):
    gate = make_gate()
    gate.decide("reject", actor=bob, channel=Channel.API, digest=gate.digest, message="not at noon")
    page = oncall.get("/admin/approvals_app/decision/").content.decode()
    for text in ("reject", "bob", "the API", "not at noon", gate.session_id):
        assert text in page


@pytest.mark.parametrize("count", [5, 50])
def test_the_lists_cost_the_same_whatever_their_length(oncall, make_gate, bob, django_assert_num_queries, count):
    gates = [make_gate() for _ in range(count)]
    for gate in gates:
        gate.decide("reject", actor=bob, channel=Channel.API, digest=gate.digest, message="no")
    # Who it is: two. What they may: one. The count; the rows with what they name; the dates' ends, and the days.
    with django_assert_num_queries(7):
        assert len(rows(oncall.get(LIST))) == count
    with django_assert_num_queries(7):
        assert len(rows(oncall.get("/admin/approvals_app/decision/"))) == count


@pytest.mark.parametrize("count", [5, 50])
def test_the_event_list_costs_the_same_whatever_its_length(oncall, make_gate, django_assert_num_queries, count):
    while not count <= Gate.objects.count():
        make_gate()
    # Who it is: two. What they may: one. The count; the rows with session and actor.
    with django_assert_num_queries(5):
        assert oncall.get("/admin/sessions_app/sessionevent/").status_code == 200
