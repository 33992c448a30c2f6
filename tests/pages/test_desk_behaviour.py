"""What the server does for the keyboard: preferences, the second step, the next gate, the look beside the list."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from approvals_app.models import Decision, Gate, Preferences
from tests.conftest import question_interrupt, tool_interrupt
from tests.pages.conftest import HTMX

pytestmark = pytest.mark.django_db


def decide(client: Client, gate: Gate, *, headers=None, **fields):
    data = {"decision": "approve", "digest": gate.digest, **fields}
    return client.post(f"/approvals/{gate.pk}/decide/", data, headers=headers or {})


def switched(client: Client) -> str:
    found = re.search(r'<html lang="en" data-prefers="([^"]*)"', client.get("/approvals/").content.decode())
    assert found
    return found[1]


# Preferences ------------------------------------------------------------------------------------------------------


def test_keys_are_on_until_a_person_turns_them_off_for_themselves(as_bob, bob, alice):
    assert switched(as_bob) == "keys go_on"
    assert not Preferences.objects.exists()
    response = as_bob.post("/preferences/", {"notices": "on"}, follow=True)
    assert b"Kept." in response.content
    assert switched(as_bob) == "notices"
    assert b"Single keys are off for you" in as_bob.get("/approvals/").content
    as_bob.post("/preferences/", {"keys": "on"})
    assert switched(as_bob) == "keys"
    other = Client()
    other.force_login(alice)
    assert switched(other) == "keys go_on"


def test_everybody_who_is_signed_in_has_preferences_and_nobody_else(client, charlie):
    assert client.get("/preferences/").status_code == 302
    client.force_login(charlie)
    text = client.get("/preferences/").content.decode()
    assert 'id="keys-list"' in text
    assert 'name="keys"' in text


def test_the_sheet_of_keys_is_a_dialog_on_every_page_and_a_page_without_scripts(as_bob):
    text = as_bob.get("/sessions/").content.decode()
    assert '<dialog id="keys"' in text
    assert 'href="/preferences/#keys-list" data-sheet="keys"' in text


# The second step -----------------------------------------------------------------------------------------------------


def test_a_page_without_scripts_is_asked_once_more_before_high_risk_runs(as_bob, make_gate):
    gate = make_gate()
    assert 'name="confirm" value="ask"' in as_bob.get(f"/approvals/{gate.pk}/").content.decode()
    response = decide(as_bob, gate, confirm="ask", message="I looked", preset="Agreed.")
    text = response.content.decode()
    assert response.status_code == 422
    assert "Nothing is decided yet." in text
    assert "Yes, run it: restart checkout in dev" in text
    assert not Decision.objects.exists()
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text.partition('id="decide"')[2]))
    assert "confirm" not in fields
    assert as_bob.post(f"/approvals/{gate.pk}/decide/", fields).status_code == 302
    assert Decision.objects.get().message == "Agreed.\nI looked"


def test_rejecting_and_answering_take_one_step(as_bob, make_gate):
    gate, question = make_gate(), make_gate(interrupts=[question_interrupt()])
    assert decide(as_bob, gate, decision="reject", message="no", confirm="ask").status_code == 302
    assert 'name="confirm"' not in as_bob.get(f"/approvals/{question.pk}/").content.decode()


def test_the_armed_words_are_text_whatever_an_agent_writes(as_bob, make_gate):
    gate = make_gate(interrupts=[tool_interrupt(service='x" data-evil="1"><script>', action="restart")])
    text = as_bob.get(f"/approvals/{gate.pk}/").content.decode()
    assert "<script>" not in text.partition('id="arms"')[2].partition(">")[0]
    assert 'data-evil="1"' not in text


def test_calls_that_are_decided_each_are_asked_about_once_more_where_one_would_run(as_bob, make_gate):
    actions = [
        {"name": "local_remediation__apply_fix", "args": {"service": name, "action": "restart"}, "description": name}
        for name in ("cart", "mail")
    ]
    gate = make_gate(interrupts=[{"id": "each", "value": {"action_requests": actions}, "response_schema": None}])
    marks = {"decision": "each", "verdict-0": "approve", "verdict-1": "reject", "message": "one is enough"}
    response = decide(as_bob, gate, **marks, confirm="ask", headers=HTMX)
    assert response.status_code == 422
    text = response.content.decode()
    # What htmx takes out of an answer of 422, and what the second step says.
    assert '<article id="gate"' in text
    assert "Yes, decide each as I marked it" in text
    assert not Decision.objects.exists()
    fields = dict(re.findall(r'<input type="hidden" name="([\w-]+)" value="([^"]*)"', text.partition('id="decide"')[2]))
    assert as_bob.post(f"/approvals/{gate.pk}/decide/", fields).status_code == 302
    assert Decision.objects.count() == 1


# Decide and next -----------------------------------------------------------------------------------------------------


def test_a_decision_from_the_queue_leads_to_the_gate_behind_it_and_says_so(as_bob, make_gate):
    gates = [make_gate() for _ in range(3)]
    response = decide(as_bob, gates[1], queue="", headers=HTMX)
    assert response["HX-Redirect"] == f"/approvals/{gates[2].pk}/"
    text = " ".join(as_bob.get(response["HX-Redirect"]).content.decode().split())
    assert f'<p class="notice" data-said>Approved: <a href="/approvals/{gates[1].pk}/">' in text
    assert "</a>. Next: restart checkout in dev, 2 left.</p>" in text
    # At the end of the list it goes on from the top.
    assert decide(as_bob, gates[2], queue="", headers=HTMX)["HX-Redirect"] == f"/approvals/{gates[0].pk}/"


def test_the_last_one_stays_and_shows_what_became_of_it(as_bob, make_gate):
    response = decide(as_bob, make_gate(), queue="", headers=HTMX)
    assert "HX-Redirect" not in response
    assert b"approved this" in response.content


def test_the_next_one_fits_the_filters_of_the_list_and_is_ones_own_to_decide(client, admin, make_gate):
    client.force_login(admin)
    first = make_gate()
    make_gate(requester=admin)
    make_gate(environment="production")
    last = make_gate()
    response = decide(client, first, queue="environment=dev&status=decided&nonsense=1", headers=HTMX)
    assert response["HX-Redirect"] == f"/approvals/{last.pk}/"


def test_without_the_queue_or_without_scripts_one_stays_at_the_gate(as_bob, make_gate):
    gates = [make_gate() for _ in range(4)]
    assert "HX-Redirect" not in decide(as_bob, gates[0], headers=HTMX)
    assert decide(as_bob, gates[1], queue="")["Location"] == f"/approvals/{gates[1].pk}/"
    refused = decide(as_bob, gates[2], queue="", digest="0" * 64, headers=HTMX)
    assert refused.status_code == 409
    assert "HX-Redirect" not in refused


# The look beside the list ------------------------------------------------------------------------------------------


def test_a_look_tells_enough_and_has_nothing_to_decide_with(as_bob, bob, make_gate, django_assert_max_num_queries):
    gate = make_gate()
    # Browser session, person, permissions, the gate.
    with django_assert_max_num_queries(5):
        text = as_bob.get(f"/approvals/{gate.pk}/peek/", headers=HTMX).content.decode()
    assert "wants to restart <strong>checkout</strong> in dev" in text
    assert "<form" not in text
    assert 'id="gate"' not in text
    assert as_bob.get(f"/approvals/{gate.pk}/peek/")["Location"] == f"/approvals/{gate.pk}/"


def test_a_look_is_for_those_who_may_see_gates(client, charlie, make_gate):
    gate = make_gate()
    assert client.get(f"/approvals/{gate.pk}/peek/", headers=HTMX).status_code == 401
    client.force_login(charlie)
    assert client.get(f"/approvals/{gate.pk}/peek/", headers=HTMX).status_code == 403


def test_no_script_is_loaded_twice_or_in_two_ways(as_bob):
    scripts = re.findall(r'<script src="([^"]+)"[^>]*>', as_bob.get("/approvals/").content.decode())
    assert len(scripts) == len(set(scripts)), scripts
    assert '<script src="/static/js/clm.js" type="module">' in as_bob.get("/approvals/").content.decode()
