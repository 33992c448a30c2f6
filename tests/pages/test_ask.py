"""Asking the agent from the gate's card, and over the API."""

from __future__ import annotations

import json

import pytest
from channels.db import database_sync_to_async
from django.test import Client

from approvals_app.models import Inquiry, Reply
from approvals_app.states import Channel
from sessions_app.models import ApiToken
from tests.pages.conftest import HTMX
from tests.pages.test_sockets import opened

pytestmark = pytest.mark.django_db


def asked(gate, bob, text="How full is the pool?", answer="20 of 20", **reply) -> Inquiry:
    inquiry = Inquiry.ask(gate, text, actor=bob, channel=Channel.PAGE)
    Reply.give(inquiry, **(reply or {"text": answer, "model": "offline"}))
    return inquiry


def test_the_card_offers_to_ask_and_shows_what_was_asked_and_answered(as_bob, bob, make_gate):
    gate = make_gate()
    assert b"Ask before you decide" in as_bob.get(gate.get_absolute_url()).content
    response = as_bob.post(f"/approvals/{gate.pk}/ask/", {"text": "How full is <b>it</b>?"}, headers=HTMX)
    text = response.content.decode()
    assert response.status_code == 200
    assert "How full is &lt;b&gt;it&lt;/b&gt;?" in text
    assert "The agent is answering from what it has read" in text
    Reply.give(Inquiry.objects.get(), text="20 of 20 <i>", model="offline")
    text = as_bob.get(f"/approvals/{gate.pk}/questions/", headers=HTMX).content.decode()
    assert text.startswith('<section id="ask"')
    assert "20 of 20 &lt;i&gt;" in text
    gate.refresh_from_db()
    assert gate.pending


def test_it_works_as_a_plain_form(as_bob, make_gate):
    gate = make_gate()
    response = as_bob.post(f"/approvals/{gate.pk}/ask/", {"text": "How full is the pool?"})
    assert (response.status_code, response["Location"]) == (302, f"{gate.get_absolute_url()}#ask")
    assert as_bob.get(f"/approvals/{gate.pk}/questions/")["Location"] == f"{gate.get_absolute_url()}#ask"
    refused = as_bob.post(f"/approvals/{gate.pk}/ask/", {"text": "Now?"})
    assert refused.status_code == 409
    assert b"still answering" in refused.content
    assert b'value="Now?"' in refused.content


def test_an_empty_question_comes_back_with_what_is_wrong(as_bob, make_gate):
    gate = make_gate()
    response = as_bob.post(f"/approvals/{gate.pk}/ask/", {"text": " "}, headers=HTMX)
    assert response.status_code == 422
    assert b"Write what you want to know." in response.content
    assert not Inquiry.objects.exists()


def test_the_requester_reads_the_answers_and_is_offered_no_question(client, alice, bob, make_gate):
    gate = make_gate(requester=alice)
    asked(gate, bob)
    client.force_login(alice)
    page = client.get(gate.get_absolute_url()).content.decode()
    assert "20 of 20" in page
    assert "/ask/" not in page
    assert client.post(f"/approvals/{gate.pk}/ask/", {"text": "x"}).status_code == 403


def test_what_failed_can_be_asked_again_with_a_button_until_somebody_did(as_bob, bob, make_gate):
    gate = make_gate()
    asked(gate, bob, error="The model is away.")
    page = as_bob.get(gate.get_absolute_url()).content.decode()
    assert "It could not answer: The model is away." in page
    assert page.count("Ask it again") == 1
    as_bob.post(f"/approvals/{gate.pk}/ask/", {"text": "How full is the pool?"})
    assert "Ask it again" not in as_bob.get(gate.get_absolute_url()).content.decode()


def test_a_decided_gate_keeps_what_was_asked_before(as_bob, bob, make_gate):
    gate = make_gate()
    asked(gate, bob)
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message="no")
    page = as_bob.get(gate.get_absolute_url()).content.decode()
    assert "What was asked before it was decided" in page
    assert "20 of 20" in page
    assert "/ask/" not in page


def test_the_timeline_shows_question_and_answer(as_bob, bob, make_gate):
    gate = make_gate()
    asked(gate, bob)
    page = as_bob.get(gate.session.get_absolute_url()).content.decode()
    assert "<strong>bob</strong> asked the agent at" in page
    assert "“How full is the pool?”" in page
    assert "20 of 20" in page


def test_the_questions_of_a_card_are_one_query_however_many_there_are(
    as_bob, bob, make_gate, django_assert_num_queries
):
    gate = make_gate()
    for number in range(5):
        asked(gate, bob, f"question {number}")
    # Who it is: two. What they may. The gate; its inquiries with askers and replies.
    with django_assert_num_queries(5):
        as_bob.get(f"/approvals/{gate.pk}/questions/", headers=HTMX)


@pytest.mark.django_db(transaction=True)
async def test_open_cards_are_told_of_the_question_and_of_the_answer_and_queues_are_not_pushed_rows(bob, make_gate):
    gate = await database_sync_to_async(make_gate)()
    async with opened("/ws/queue/", bob) as socket:
        await database_sync_to_async(asked)(gate, bob)
        frame = await socket.frame()
    assert frame == {"content": "", "news": [f"asked-{gate.pk}"]}


# The API ----------------------------------------------------------------------------------------------------------


def call(client: Client, user, method: str, path: str, body=None):
    headers = {"Authorization": f"Bearer {ApiToken.issue(user)}"}
    data = {"data": json.dumps(body), "content_type": "application/json"} if body is not None else {}
    return getattr(client, method)(f"/api/v1{path}", headers=headers, **data)


def test_the_api_asks_and_lists(client, bob, make_gate):
    gate = make_gate()
    response = call(client, bob, "post", f"/gates/{gate.pk}/questions", {"text": "How full?"})
    assert response.status_code == 202
    body = response.json()
    assert (body["status"], body["asker"], body["channel"], body["answer"]) == ("waiting", "bob", "api", None)
    Reply.give(Inquiry.objects.get(), text="20 of 20", model="offline", checkpoint_id="c1")
    (listed,) = call(client, bob, "get", f"/gates/{gate.pk}/questions").json()
    assert listed["id"] == body["id"]
    assert (listed["status"], listed["answer"], listed["checkpoint_id"]) == ("answered", "20 of 20", "c1")
    gate.refresh_from_db()
    assert gate.pending


def test_the_api_refuses_as_the_page_does(client, alice, bob, charlie, make_gate):
    gate = make_gate(requester=alice)
    path = f"/gates/{gate.pk}/questions"
    assert call(client, alice, "post", path, {"text": "x"}).status_code == 403
    assert call(client, charlie, "get", path).status_code == 403
    assert call(client, bob, "post", path, {"text": ""}).status_code == 422
    assert call(client, bob, "post", path, {"text": "x" * 1001}).status_code == 422
    assert call(client, bob, "post", "/gates/999999/questions", {"text": "x"}).status_code == 404
    assert call(client, bob, "get", "/gates/999999/questions").status_code == 404
    gate.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)
    late = call(client, bob, "post", path, {"text": "x"})
    assert late.status_code == 409
    assert late.json()["error"]["details"]["gate"]["status"] == "approved"
    assert not Inquiry.objects.exists()
