from __future__ import annotations

import re

import pytest
from django.test import Client

from approvals_app.models import Decision, Gate
from approvals_app.states import Channel
from sessions_app.agents.incident.graph import ANSWER_SCHEMA
from tests.conftest import question_interrupt, tool_interrupt
from tests.pages.conftest import HTMX

pytestmark = pytest.mark.django_db


def decide(client: Client, gate: Gate, *, headers=None, **fields):
    data = {"decision": "approve", "digest": gate.digest, **fields}
    return client.post(f"/approvals/{gate.pk}/decide/", data, headers=headers or {})


def test_the_gate_says_in_a_sentence_what_would_happen(as_bob, make_gate, alice):
    gate = make_gate(requester=alice)
    text = as_bob.get(f"/approvals/{gate.pk}/").content.decode()
    assert "wants to restart <strong>checkout</strong> in dev." in " ".join(text.split())
    assert "Can be undone: <strong>no</strong>." in text
    assert "local_remediation:apply_fix" in text
    assert "The pool is full; a restart frees it." in text
    assert "One approver, not alice" in text
    assert f'name="digest" value="{gate.digest}"' in text


def test_reading_a_gate_or_its_decision_address_decides_nothing(as_bob, make_gate):
    """S14: a link scanner that opens every link approves nothing."""
    gate = make_gate()
    for path in (f"/approvals/{gate.pk}/", f"/approvals/{gate.pk}/decide/", f"/approvals/{gate.pk}/?decision=approve"):
        as_bob.get(path)
        as_bob.head(path)
        as_bob.options(path)
    assert as_bob.get(f"/approvals/{gate.pk}/decide/").status_code == 405
    gate.refresh_from_db()
    assert gate.pending
    assert not Decision.objects.exists()


def test_approving_without_scripts_leads_back_to_the_gate_which_says_who_did(as_bob, make_gate):
    gate = make_gate()
    response = decide(as_bob, gate, preset="The evidence supports this fix.")
    assert response.status_code == 302
    assert response["Location"] == f"/approvals/{gate.pk}/"
    text = as_bob.get(response["Location"]).content.decode()
    assert "<strong>bob</strong> approved this" in " ".join(text.split())
    assert "The evidence supports this fix." in text
    assert 'name="decision"' not in text
    assert Decision.objects.get().channel == Channel.PAGE


def test_htmx_gets_the_decided_card_back(as_bob, make_gate):
    response = decide(as_bob, make_gate(), headers=HTMX)
    assert response.status_code == 200
    assert response.content.lstrip().startswith(b'<article id="gate"')
    assert b"approved this" in response.content


def test_a_reason_is_asked_for_before_anything_is_rejected(as_bob, make_gate):
    gate = make_gate()
    response = decide(as_bob, gate, decision="reject", headers=HTMX)
    assert response.status_code == 422
    assert b"Say why" in response.content
    gate.refresh_from_db()
    assert gate.pending
    assert decide(as_bob, gate, decision="reject", message="not now").status_code == 302
    assert Decision.objects.get().message == "not now"


def test_a_ready_made_reason_and_own_words_go_together(as_bob, make_gate):
    gate = make_gate()
    decide(as_bob, gate, decision="reject", preset="Not now.", message="Ask ops first.")
    assert Decision.objects.get().message == "Not now.\nAsk ops first."


def test_an_unknown_decision_gets_the_form_back_with_what_was_typed(as_bob, make_gate):
    response = decide(as_bob, make_gate(), decision="wave", message="half a thought")
    assert response.status_code == 422
    assert b"half a thought" in response.content


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_who_comes_too_late_is_told_who_decided_what_and_keeps_the_typed_text(as_bob, admin, make_gate, headers):
    gate = make_gate()
    gate.decide("reject", actor=admin, channel=Channel.API, digest=gate.digest, message="wrong service")
    response = decide(as_bob, gate, message="I had <b>typed</b> this", headers=headers)
    text = response.content.decode()
    assert response.status_code == 409
    assert "admin rejected this" in text
    assert "wrong service" in text
    assert "I had &lt;b&gt;typed&lt;/b&gt; this" in text
    assert 'name="decision"' not in text
    assert Decision.objects.count() == 1


def test_a_gate_of_a_stopped_session_says_that_nothing_was_run(as_bob, make_gate):
    gate = make_gate()
    gate.session.stop()
    response = decide(as_bob, gate)
    assert response.status_code == 409
    assert b"nothing was run" in response.content


def test_what_was_shown_must_be_what_would_run(as_bob, make_gate):
    gate = make_gate()
    response = decide(as_bob, gate, digest="0" * 64, message="kept in the form")
    assert response.status_code == 409
    text = response.content.decode()
    assert "look again" in text
    assert f'value="{gate.digest}"' in text
    assert ">kept in the form</textarea>" in text


def test_four_eyes_are_explained_before_and_enforced_after(client, admin, make_gate):
    client.force_login(admin)
    gate = make_gate(requester=admin)
    page = client.get(f"/approvals/{gate.pk}/").content.decode()
    assert "Four eyes: admin requested this session" in page
    assert 'name="decision"' not in page
    response = decide(client, gate)
    assert response.status_code == 403
    assert b"Four eyes" in response.content
    gate.refresh_from_db()
    assert gate.pending


def test_an_operator_sees_the_gate_and_why_they_may_not_decide(client, alice, make_gate):
    client.force_login(alice)
    gate = make_gate()
    assert b"alice is not in the approver group" in client.get(f"/approvals/{gate.pk}/").content
    assert decide(client, gate).status_code == 403


def test_a_question_is_answered_in_words(as_bob, make_gate):
    gate = make_gate(interrupts=[question_interrupt("Which of the two?")])
    page = as_bob.get(f"/approvals/{gate.pk}/").content.decode()
    assert "Which of the two?" in page
    assert "Approve and run" not in page
    assert "Hand it to the on-call engineer" not in page
    assert decide(as_bob, gate, decision="respond").status_code == 422
    assert decide(as_bob, gate, decision="approve").status_code == 422
    assert decide(as_bob, gate, decision="hand_over").status_code == 422
    assert decide(as_bob, gate, decision="respond", message="the second").status_code == 302
    gate.refresh_from_db()
    assert gate.answer == {"type": "respond", "message": "the second"}


def test_a_question_that_offers_it_hands_the_incident_over(as_bob, make_gate):
    gate = make_gate(interrupts=[{**question_interrupt(), "response_schema": ANSWER_SCHEMA}])
    assert b"Hand it to the on-call engineer" in as_bob.get(f"/approvals/{gate.pk}/").content
    assert decide(as_bob, gate, decision="hand_over").status_code == 302
    gate.refresh_from_db()
    assert gate.answer["action"] == "escalate"


def test_several_calls_of_one_gate_are_all_shown(as_bob, make_gate):
    actions = [
        {"name": "local_remediation__apply_fix", "args": {"service": name, "action": "restart"}, "description": name}
        for name in ("cart", "mail")
    ]
    interrupt = {"id": "batch", "value": {"action_requests": actions}, "response_schema": None}
    gate = make_gate(interrupts=[interrupt])
    text = as_bob.get(f"/approvals/{gate.pk}/").content.decode()
    assert "Approve and run all 2" in text
    assert "&quot;cart&quot;" in text
    assert "&quot;mail&quot;" in text
    assert decide(as_bob, gate).status_code == 302


HOSTILE = "</td><script>alert(1)</script><hx-partial hx-target=body>\u202egnp.exe"


def test_what_an_agent_writes_is_shown_and_never_obeyed(as_bob, make_gate):
    interrupt = tool_interrupt(service=HOSTILE, action="restart", nested={"deep": [HOSTILE]})
    interrupt["value"]["description"] = HOSTILE
    gate = make_gate(interrupts=[interrupt], query=HOSTILE)
    for path in (f"/approvals/{gate.pk}/", "/approvals/", f"/sessions/{gate.session_id}/", "/sessions/"):
        text = as_bob.get(path).content.decode()
        assert "<script>alert" not in text, path
        assert "<hx-partial hx-target=body" not in text, path
        assert "\u202e" not in text, path
    assert "\\u202e" in as_bob.get(f"/approvals/{gate.pk}/").content.decode()


def test_an_unknown_gate_is_not_found(as_bob):
    assert as_bob.get("/approvals/424242/").status_code == 404


def test_the_gate_takes_a_bounded_number_of_queries(as_bob, bob, make_gate, django_assert_max_num_queries):
    gate = make_gate(interrupts=[tool_interrupt() for _ in range(6)])
    # Browser session, person, permissions; the gate with session, requester and run; what was decided before; questions
    # to the agent, comments, how many, who is there; the badge; the strip in the foot; preferences: 12.
    with django_assert_max_num_queries(12):
        as_bob.get(f"/approvals/{gate.pk}/")
    gate.decide("approve", actor=bob, channel=Channel.PAGE, digest=gate.digest)
    # And the decision, the ledger's rows and the events of their dispatch.
    with django_assert_max_num_queries(12):
        as_bob.get(f"/approvals/{gate.pk}/")


def test_a_form_without_its_token_is_refused(bob, make_gate):
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)
    gate = make_gate()
    assert decide(client, gate).status_code == 403
    page = client.get(f"/approvals/{gate.pk}/").content.decode()
    token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
    assert decide(client, gate, csrfmiddlewaretoken=token).status_code == 302
