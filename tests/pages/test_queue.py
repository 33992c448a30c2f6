from __future__ import annotations

import re
from datetime import timedelta
from unittest import mock

import pytest
from django.test import Client
from django.urls import reverse

from approvals_app.models import Gate
from approvals_app.states import Channel, QueueTab
from tests.conftest import question_interrupt, tool_interrupt
from tests.pages.conftest import HTMX

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk_of(client: Client):
    def sign_in(person):
        client.force_login(person)
        return client

    return sign_in


def rows(response) -> list[int]:
    return [int(number) for number in re.findall(r'id="gate-(\d+)" class="row', response.content.decode())]


def test_the_queue_lists_the_gates_that_wait_the_oldest_first(desk_of, bob, make_gate):
    first, second = make_gate(), make_gate()
    response = desk_of(bob).get("/approvals/")
    assert rows(response) == [first.pk, second.pk]
    assert b"restart <strong>checkout</strong> in dev" in response.content
    assert first.session_id.encode() in response.content


def test_the_badge_the_title_and_the_list_agree(desk_of, bob, make_gate):
    make_gate()
    make_gate(interrupts=[tool_interrupt(), tool_interrupt()])
    response = desk_of(bob).get("/approvals/")
    text = response.content.decode()
    assert len(rows(response)) == 3
    assert 'data-count="3"' in text
    assert "<title>(3) Approvals · CLM</title>" in text
    assert Gate.objects.visible_to(bob).pending().count() == 3


def test_a_decided_gate_stands_under_decided_with_who_decided(desk_of, bob, make_gate):
    gate = make_gate()
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message="no")
    client = desk_of(bob)
    assert rows(client.get("/approvals/")) == []
    response = client.get("/approvals/?status=decided")
    assert rows(response) == [gate.pk]
    assert b"by bob" in response.content


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("environment=dev", True),
        ("environment=production", False),
        ("risk=high", True),
        ("risk=low", False),
        ("tool=local_remediation:apply_fix", True),
        ("tool=local_inc:mark_resolved", False),
        ("q=checkout", True),
        ("q=nothing+like+it", False),
        ("risk=no-such-risk", True),
        ("status=no-such-status", True),
    ],
)
def test_the_filters_stand_in_the_address(desk_of, bob, make_gate, query, found):
    gate = make_gate()
    response = desk_of(bob).get(f"/approvals/?{query}")
    assert response.status_code == 200
    assert rows(response) == ([gate.pk] if found else [])


def test_a_filtered_list_asks_again_and_an_open_one_is_pushed(desk_of, bob, make_gate):
    make_gate()
    client = desk_of(bob)
    whole = client.get("/approvals/").content.decode()
    assert 'class="rows pushed"' in whole
    assert "desk:gates" not in whole
    for query in ("risk=high", "status=decided"):
        filtered = client.get(f"/approvals/?{query}").content.decode()
        assert 'class="rows pushed"' not in filtered
        assert "desk:gates from:body" in filtered


def test_a_long_queue_is_paged_by_keyset(desk_of, bob, make_gate):
    gates = [make_gate() for _ in range(5)]
    client = desk_of(bob)
    with mock.patch("approvals_app.views.PAGE_SIZE", 2):
        first = client.get("/approvals/")
        assert rows(first) == [gate.pk for gate in gates[:2]]
        assert 'class="rows pushed"' not in first.content.decode()
        link = re.findall(r'rel="next" href="([^"]+)"', first.content.decode())[0]
        second = client.get(link.replace("&amp;", "&"))
        assert rows(second) == [gate.pk for gate in gates[2:4]]


def test_a_cursor_that_is_not_ours_is_refused_with_a_page(desk_of, bob):
    response = desk_of(bob).get("/approvals/?cursor=nonsense")
    assert response.status_code == 400
    assert b"cursor" in response.content


def test_htmx_gets_the_fragment_of_the_same_address(desk_of, bob, make_gate):
    make_gate()
    response = desk_of(bob).get("/approvals/", headers=HTMX)
    assert response.content.lstrip().startswith(b'<section id="queue"')
    assert b"<html" not in response.content
    assert "HX-Request" in response["Vary"]
    assert "no-cache" in response["Cache-Control"]


def test_a_filter_pressed_by_htmx_puts_its_short_address_in_the_bar(desk_of, bob):
    response = desk_of(bob).get("/approvals/?tool=&risk=high&q=", headers={**HTMX, "HX-Source": "form#filters"})
    assert response["HX-Push-Url"] == "/approvals/?risk=high"


def test_an_empty_queue_says_what_would_be_here_and_how_to_make_it(desk_of, bob, alice):
    text = desk_of(bob).get("/approvals/").content.decode()
    assert "Nothing waits for a decision." in text
    assert "manage.py demo break" in text
    assert reverse("new_session") in desk_of(alice).get("/approvals/").content.decode()


def test_a_gate_that_runs_out_says_so_in_words(desk_of, bob, make_gate):
    gate = make_gate()
    late = gate.created_at + 0.9 * (gate.expires_at - gate.created_at)
    with mock.patch("django.utils.timezone.now", return_value=late):
        text = desk_of(bob).get("/approvals/").content.decode()
    assert "only 23 min left" in text
    with mock.patch("django.utils.timezone.now", return_value=gate.expires_at + timedelta(seconds=1)):
        assert ">expired</time>" in desk_of(bob).get("/approvals/").content.decode()


def test_the_queue_takes_at_most_nine_queries_whatever_its_length(
    desk_of, bob, make_gate, django_assert_max_num_queries
):
    for _ in range(3):
        make_gate(interrupts=[tool_interrupt(), question_interrupt()])
    client = desk_of(bob)
    # Browser session, person, the person's permissions; every number on the page, the rows
    # with their sessions, the person's views and preferences, and the strip in the foot: 9.
    with django_assert_max_num_queries(9):
        client.get("/approvals/")
    for gate in Gate.objects.filter(kind="tool_approval"):
        gate.decide("approve", actor=bob, channel=Channel.PAGE, digest=gate.digest)
    for tab in QueueTab:
        with django_assert_max_num_queries(9):
            client.get(f"/approvals/?tab={tab}&environment=dev&q=checkout&mine=1")
