"""A gate among the others: those beside it in the list, the chart of what was read, the words of its row."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from approvals_app.models import Decision, Gate, Presence
from tests.pages.test_timeline import metrics, read

pytestmark = pytest.mark.django_db


def led(client: Client, gate: Gate, way: str = "next", **query: str) -> int:
    """Follow the way from a gate and return the number of the one that it leads to."""
    response = client.get(reverse(f"{way}_gate", args=[gate.pk]), query)
    assert response.status_code == 302
    return int(response["Location"].rstrip("/").rpartition("/")[2])


def test_one_walks_the_list_both_ways_and_stays_at_its_ends_with_a_word(as_bob, make_gate):
    first, second, third = (make_gate() for _ in range(3))
    assert led(as_bob, first) == second.pk
    assert led(as_bob, third, "previous") == second.pk
    assert led(as_bob, third) == third.pk
    assert "That is the last gate of the list." in as_bob.get(f"/approvals/{third.pk}/").content.decode()
    assert led(as_bob, first, "previous") == first.pk
    assert "That is the first gate of the list." in as_bob.get(f"/approvals/{first.pk}/").content.decode()
    assert not Decision.objects.exists()
    assert not Presence.objects.exists()


def test_the_walk_keeps_to_the_filters_and_passes_over_nothing(client, admin, make_gate):
    client.force_login(admin)
    first, of_the_admin = make_gate(), make_gate(requester=admin)
    elsewhere, last = make_gate(environment="production"), make_gate()
    assert led(client, first, queue="environment=dev") == of_the_admin.pk
    assert led(client, of_the_admin, queue="environment=dev") == last.pk
    # A gate that does not fit stands before the first one, and so does one that has ended.
    assert led(client, elsewhere, queue="environment=dev") == first.pk
    first.session.stop()
    assert led(client, first) != first.pk


def test_the_walk_is_for_those_who_may_see_gates_and_only_to_be_read(client, charlie, make_gate):
    gate = make_gate()
    assert client.get(f"/approvals/{gate.pk}/next/").status_code == 302
    assert "/sign-in/" in client.get(f"/approvals/{gate.pk}/next/")["Location"]
    client.force_login(charlie)
    assert client.get(f"/approvals/{gate.pk}/next/").status_code == 403
    assert client.post(f"/approvals/{gate.pk}/previous/").status_code in {403, 405}


def test_what_was_read_is_drawn_beside_the_evidence_for_one_query(
    as_bob, make_session, make_gate, django_assert_max_num_queries
):
    session = make_session(status="in_progress")
    read(session, metrics(0.4), key="1")
    read(session, metrics(0.48), key="2")
    gate = make_gate(session)
    # Those of a gate (tests/pages/test_gate.py), and one for the readings.
    with django_assert_max_num_queries(13):
        text = as_bob.get(f"/approvals/{gate.pk}/").content.decode()
    assert text.count('<svg class="panel-chart"') == 3
    assert "40 % → 48 %" in text
    # The first five seconds are the call's; the chart stands with the evidence below.
    places = [text.index(f'id="{name}"') for name in ("h-call", "h-why", "h-evidence", "chart-gate", "comments")]
    assert places == sorted(places)
    read(session, metrics(0.1), key="3")
    assert as_bob.get(f"/approvals/{gate.pk}/").content.decode().count("chart-dot") == 3 * 2


def test_a_row_of_several_calls_says_which_and_one_that_was_cut_off_says_what(as_bob, make_gate):
    calls = [
        {"name": "local_remediation__apply_fix", "args": {"service": name, "action": "restart"}} for name in "abcd"
    ]
    several = {"id": "several", "value": {"action_requests": calls}, "response_schema": None}
    cut_off = {
        "id": "cut-off",
        "value": {
            "type": "unknown_outcome",
            "tool_call_id": "call",
            "name": "local_remediation:apply_fix",
            "args": {"service": "checkout", "action": "restart"},
            "agent": "resolution",
            "description": "It was cut off.",
        },
        "response_schema": None,
    }
    make_gate(interrupts=[several])
    make_gate(interrupts=[cut_off])
    text = " ".join(as_bob.get("/approvals/").content.decode().split())
    said = "; ".join(f"restart <strong>{name}</strong> in dev" for name in "abc")
    assert f"4 calls: {said}; …" in text
    assert "did it run? restart <strong>checkout</strong> in dev" in text
