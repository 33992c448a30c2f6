"""The card of a gate with several people at it, as pages, as plain forms and over the queue's socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from channels.db import database_sync_to_async as in_thread
from django.contrib.auth.models import Group, User
from django.test import Client

from approvals_app import together
from approvals_app.models import Comment, Decision, FactsAcknowledgement, Gate, Presence
from tests.pages.conftest import HTMX
from tests.pages.test_sockets import opened

pytestmark = pytest.mark.django_db


@pytest.fixture
def dora(db: None) -> User:
    """A second approver."""
    person = User.objects.create_user("dora", password="dora")
    person.groups.set(Group.objects.filter(name="approver"))
    return person


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


def look(client: Client, gate: Gate, **fields: str) -> Any:
    return client.post(f"/approvals/{gate.pk}/look/", fields, headers=HTMX)


def test_the_card_shows_the_facts_and_what_became_of_them(as_bob, make_resting_gate, world):
    gate = make_resting_gate()
    text = text_of(as_bob.get(f"/approvals/{gate.pk}/"))
    assert '<th scope="row">version</th><td class="mono">4.1.9</td>' in text
    assert "I have seen the new facts" not in text
    world.facts["version"] = "<b>4.2.0</b>"
    answer = look(as_bob, gate, version=together.version(gate))
    assert answer["HX-Trigger"] == f"desk:gate-{gate.pk}"
    text = text_of(as_bob.get(f"/approvals/{gate.pk}/"))
    assert "version was 4.1.9 and is &lt;b&gt;4.2.0&lt;/b&gt;" in text
    assert 'value="approve" class="go" data-key="a" disabled aria-describedby="h-drift"' in text
    assert 'value="reject" class="stop" data-key="r">' in text


def test_without_scripts_an_approval_of_old_facts_says_what_changed_and_offers_to_acknowledge(
    as_bob, make_resting_gate, world
):
    gate = make_resting_gate()
    world.facts["version"] = "4.2.0"
    answer = as_bob.post(f"/approvals/{gate.pk}/decide/", {"decision": "approve", "digest": gate.digest})
    assert answer.status_code == 409
    text = text_of(answer)
    assert "version was 4.1.9 and is 4.2.0" in text
    gate.refresh_from_db()
    seen = as_bob.post(f"/approvals/{gate.pk}/acknowledge/", {"fingerprint": gate.fingerprint_now})
    assert seen.status_code == 302
    assert FactsAcknowledgement.objects.get().actor.username == "bob"
    old = as_bob.post(f"/approvals/{gate.pk}/decide/", {"decision": "approve", "digest": gate.digest})
    assert old.status_code == 409
    assert not Decision.objects.exists()
    gate.refresh_from_db()
    new = as_bob.post(f"/approvals/{gate.pk}/decide/", {"decision": "approve", "digest": gate.digest})
    assert new.status_code == 302
    text = text_of(as_bob.get(f"/approvals/{gate.pk}/"))
    assert "has seen" in text
    assert "version was 4.1.9 and is 4.2.0" in text


def test_facts_that_were_not_shown_are_not_acknowledged(as_bob, make_resting_gate, world):
    gate = make_resting_gate()
    world.facts["version"] = "4.2.0"
    look(as_bob, gate)
    answer = as_bob.post(f"/approvals/{gate.pk}/acknowledge/", {"fingerprint": gate.fingerprint}, headers=HTMX)
    assert answer.status_code == 409
    assert b"4.2.0" in answer.content


def test_facts_that_could_not_be_read_when_it_opened_are_said_so(as_bob, make_resting_gate, world):
    world.facts = None
    gate = make_resting_gate()
    assert "They could not be read" in text_of(as_bob.get(f"/approvals/{gate.pk}/"))
    world.facts = {"version": "4.1.9"}
    look(as_bob, gate)
    text = text_of(as_bob.get(f"/approvals/{gate.pk}/"))
    assert "they could not be read then, and now version is 4.1.9" in text


def test_a_current_card_is_told_nothing_and_a_look_changes_no_gate(as_bob, make_gate):
    gate = make_gate()
    assert "HX-Trigger" not in look(as_bob, gate, version=together.version(gate)).headers
    assert as_bob.get(f"/approvals/{gate.pk}/look/").status_code == 405
    gate.refresh_from_db()
    assert gate.pending


def test_a_look_at_a_decided_gate_tells_the_card_and_reads_nothing(as_bob, bob, make_resting_gate, world):
    gate = make_resting_gate()
    shown = together.version(gate)
    gate.decide("reject", actor=bob, channel="page", digest=gate.digest, message="no")
    assert look(as_bob, gate, version=shown)["HX-Trigger"] == f"desk:gate-{gate.pk}"
    assert world.read == 0
    assert not Presence.objects.exists()


def test_claiming_and_giving_back_are_plain_forms(as_bob, make_gate):
    gate = make_gate()
    assert 'data-key="c"' in text_of(as_bob.get(f"/approvals/{gate.pk}/"))
    assert as_bob.post(f"/approvals/{gate.pk}/claim/").status_code == 302
    text = text_of(as_bob.get(f"/approvals/{gate.pk}/"))
    assert "You are on it" in text
    assert "bob is on it" in text_of(as_bob.get("/approvals/"))
    assert as_bob.post(f"/approvals/{gate.pk}/release/").status_code == 302
    assert "bob is on it" not in text_of(as_bob.get("/approvals/"))


def test_a_claim_is_seen_by_others_who_still_may_decide(as_bob, make_gate, dora):
    gate = make_gate()
    gate.claim(dora)
    text = text_of(as_bob.get(f"/approvals/{gate.pk}/"))
    assert "<strong>dora</strong> is on it. You can decide it all the same." in text
    answer = as_bob.post(f"/approvals/{gate.pk}/claim/", headers=HTMX)
    assert answer.status_code == 409
    assert b"dora is on it already" in answer.content
    decided = as_bob.post(f"/approvals/{gate.pk}/decide/", {"decision": "approve", "digest": gate.digest})
    assert decided.status_code == 302


def test_claims_cost_the_queue_no_query(as_bob, bob, make_gate, django_assert_num_queries):
    first = make_gate()
    first.claim(bob)
    as_bob.get("/approvals/")
    with django_assert_num_queries(8) as one:
        as_bob.get("/approvals/")
    for _ in range(4):
        make_gate().claim(bob)
    with django_assert_num_queries(len(one.captured_queries)):
        as_bob.get("/approvals/")


def test_a_requester_sees_no_button_and_may_say_something(client, alice, make_gate):
    gate = make_gate(requester=alice)
    client.force_login(alice)
    assert 'id="claim-button"' not in text_of(client.get(f"/approvals/{gate.pk}/"))
    assert client.post(f"/approvals/{gate.pk}/claim/").status_code == 403
    answer = client.post(f"/approvals/{gate.pk}/comment/", {"text": "<i>wait</i>\nplease"})
    assert answer.status_code == 302
    assert "&lt;i&gt;wait&lt;/i&gt;<br>please" in text_of(client.get(f"/approvals/{gate.pk}/"))
    assert "&lt;i&gt;wait&lt;/i&gt;" in text_of(client.get(f"/sessions/{gate.session_id}/"))
    assert client.post(f"/approvals/{gate.pk}/comment/", {"text": " "}).status_code == 422
    assert Comment.objects.count() == 1


@pytest.mark.parametrize("verb", ["look", "claim", "release", "comment", "acknowledge"])
def test_strangers_and_people_without_a_role_do_nothing_here(client, charlie, make_gate, verb):
    gate = make_gate()
    path = f"/approvals/{gate.pk}/{verb}/"
    assert client.post(path, {"text": "x"}).status_code == 302
    client.force_login(charlie)
    assert client.post(path, {"text": "x"}).status_code == 403
    assert not Comment.objects.exists()
    assert not Presence.objects.exists()


def test_the_timeline_tells_of_all_of_it(as_bob, bob, make_resting_gate, world):
    gate = make_resting_gate()
    gate.claim(bob)
    gate.release(bob)
    world.facts["version"] = "4.2.0"
    gate.look_again(max_age=0)
    gate.acknowledge(actor=bob, channel="page", fingerprint=gate.fingerprint_now)
    text = text_of(as_bob.get(f"/sessions/{gate.session_id}/"))
    assert f'<strong>bob</strong> is on <a href="/approvals/{gate.pk}/">' in text
    assert "any more: given back." in text
    assert "changed: version was 4.1.9 and is 4.2.0." in text
    assert "has seen the new facts under" in text


# The socket --------------------------------------------------------------------------------------------------------


def says(gate: Gate, doing: str) -> str:
    return json.dumps({"presence": {"gate": gate.pk, "doing": doing}})


async def content_with(page: Any, word: str) -> dict[str, Any]:
    """Return the next frame whose content has the word."""
    while True:
        frame: dict[str, Any] = json.loads(await page.communicator.receive_from(timeout=5))
        if word in frame.get("content", ""):
            return frame


@pytest.mark.django_db(transaction=True)
async def test_who_reads_and_writes_is_pushed_and_is_gone_with_the_page(bob, dora, make_gate):
    gate = await in_thread(make_gate)()
    async with opened("/ws/queue/", bob) as here:
        async with opened("/ws/queue/", dora) as there:
            await there.communicator.send_to(text_data=says(gate, "reading"))
            frame = await content_with(here, "dora is reading")
            assert f'hx-target="#people-{gate.pk}"' in frame["content"]
            # Nothing of it is an event, so nobody asks for the card again.
            assert "news" not in frame or frame["news"] == []
            await in_thread(Presence.note)(gate, dora, "rejecting")
            await content_with(here, "dora is writing a rejection")
        await content_with(here, f"people-{gate.pk}")
    assert not await in_thread(Presence.objects.exists)()


@pytest.mark.django_db(transaction=True)
async def test_a_claim_a_comment_and_a_drift_make_open_cards_ask_again(bob, make_gate):
    gate = await in_thread(make_gate)()
    async with opened("/ws/queue/", bob) as page:
        await in_thread(gate.claim)(bob)
        frame = await page.frame()
        assert frame["news"] == [f"gate-{gate.pk}"]
        assert f'hx-target="#claim-mark-{gate.pk}"' in frame["content"]
        assert "bob is on it" in frame["content"]
        assert "New gate" not in frame["content"]
        await in_thread(Comment.write)(gate, author=bob, channel="page", text="wait")
        assert (await page.frame())["news"] == [f"gate-{gate.pk}"]


@pytest.mark.django_db(transaction=True)
async def test_a_page_that_does_not_stop_talking_is_not_heard(bob, make_gate):
    gate = await in_thread(make_gate)()
    written = []
    async with opened("/ws/queue/", bob) as page:
        for number in range(200):
            await page.communicator.send_to(text_data=says(gate, ["reading", "rejecting"][number % 2]))
        await content_with(page, "bob is")
        written = await in_thread(lambda: list(Presence.objects.values_list("doing", flat=True)))()
    assert len(written) == 1


def test_the_queue_can_be_narrowed_to_what_one_is_on_oneself_or_nobody_is(as_bob, bob, admin, make_gate):
    mine, theirs, free = make_gate(), make_gate(), make_gate()
    mine.claim(bob)
    theirs.claim(admin)
    for claimed, shown in (("me", [mine]), ("nobody", [free]), ("nonsense", [mine, theirs, free])):
        page = as_bob.get(f"/approvals/?claimed={claimed}").content.decode()
        assert [gate for gate in (mine, theirs, free) if f'id="gate-{gate.pk}"' in page] == shown
