"""The strip in the foot: the same numbers on every page and over every heartbeat, with an honest age."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from unittest import mock

import pytest
from channels.db import database_sync_to_async
from django.db import DatabaseError, connection
from django.test import Client
from django.utils import timezone

from approvals_app import standing
from approvals_app.models import Comparison, RepairCard
from sessions_app import beats, recovery
from sessions_app.models import Run
from tests.pages.test_sockets import opened

pytestmark = pytest.mark.django_db


def strip_of(client: Client, path: str = "/approvals/") -> str:
    text = client.get(path).content.decode()
    return " ".join(text.partition('<p class="standing')[2].partition("</p>")[0].split())


@pytest.fixture
def tampered(make_gate):
    """The defect that it began with: a gate is open, and the stored status says `new`."""
    gate = make_gate()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sessions_app_session SET status = 'new' WHERE id = %s", [gate.session_id])
    return gate


@pytest.fixture
def carded(make_gate):
    """A disagreement without one right answer."""
    gate = make_gate()
    Run.objects.create(session=gate.session, kind="resume", thread_id=gate.session_id)
    recovery.sweep()
    return RepairCard.objects.get()


def test_every_page_says_the_same_as_the_sweep_found(as_bob, make_gate):
    make_gate()
    recovery.sweep()
    for path in ("/approvals/", "/sessions/"):
        strip = strip_of(as_bob, path)
        assert "1 awaiting · 1 gate<" in strip
        assert "· 0 disagreements ·" in strip
        assert " s</time> ago" in strip
        assert "late" not in strip


def test_before_the_first_sweep_it_claims_nothing(as_bob):
    assert "has not compared anything yet" in strip_of(as_bob)


def test_a_late_sweep_is_called_late(as_bob):
    recovery.sweep()
    Comparison.objects.update(checked_at=timezone.now() - timedelta(minutes=5))
    strip = strip_of(as_bob)
    assert strip.startswith("lost")
    assert "the sweep is late: checked" in strip
    assert ">5 min</time> ago" in strip


def test_a_disagreement_made_by_hand_shows_and_is_put_right(as_bob, tampered):
    recovery.sweep()
    strip = strip_of(as_bob)
    assert "0 awaiting · 1 gate<" in strip
    assert ">1 disagreement</a> (put right)" in strip
    recovery.sweep()
    assert "1 awaiting · 1 gate<" in strip_of(as_bob)


def test_a_card_leads_from_the_strip_to_what_a_person_can_do(as_bob, carded, alice):
    assert '<a href="/approvals/repairs/">1 disagreement</a> (1 repair card)' in strip_of(as_bob)
    page = as_bob.get("/approvals/repairs/").content.decode()
    gate = carded.session.gates.get()
    assert "a gate is open while a run goes on." in page
    assert carded.remedy in page
    assert f'href="{gate.get_absolute_url()}">Open gate {gate.pk}<' in page
    assert "Stop INC" not in page
    assert "ask somebody who may stop sessions" in page


def test_whoever_may_stop_sessions_can_stop_it_from_the_card(client, carded, alice):
    client.force_login(alice)
    stop = f"/sessions/{carded.session_id}/stop/"
    assert f'action="{stop}"' in client.get("/approvals/repairs/").content.decode()
    client.post(stop, {"note": "from the card"})
    page = client.get("/approvals/repairs/").content.decode()
    assert "Nothing waits for a person here" in page
    assert "The session ended: stopped" in page
    assert carded.session.events.filter(kind="session.repair_closed").exists()


def test_the_cards_cost_the_same_however_many(as_bob, make_gate, django_assert_num_queries):
    for number in (1, 4):
        for _ in range(number):
            gate = make_gate()
            Run.objects.create(session=gate.session, kind="resume", thread_id=gate.session_id)
        recovery.sweep()
        # Who asks (2), what they may, the cards, their gates, the closed ones, the comparison.
        with django_assert_num_queries(7):
            as_bob.get("/approvals/repairs/", headers={"HX-Request": "true"})


def test_strangers_and_people_without_a_role_see_neither(client, charlie, carded):
    assert client.get("/approvals/repairs/").status_code == 302
    client.force_login(charlie)
    assert client.get("/approvals/repairs/").status_code == 403
    assert "standing" not in client.get("/approvals/").content.decode().replace("standing.", "")


@pytest.mark.django_db(transaction=True)
async def test_a_heartbeat_brings_the_pages_own_fragment(bob, monkeypatch):
    monkeypatch.setattr(beats, "HEARTBEAT", 0.05)
    monkeypatch.setattr(standing, "FRESH", 0)
    async with opened("/ws/queue/", bob) as queue:
        await database_sync_to_async(recovery.sweep)()
        strip = ""
        while "0 awaiting" not in strip:
            strip = json.loads(await queue.communicator.receive_from(timeout=5)).get("standing", "")
    assert strip.startswith('<p class="standing" id="standing">')


@pytest.mark.django_db(transaction=True)
async def test_five_hundred_pages_cost_one_rendering():
    with mock.patch.object(standing, "render", side_effect=standing.render) as rendering:
        strips = await asyncio.gather(*(standing.rendered() for _ in range(500)))
    assert len(set(strips)) == 1
    assert rendering.call_count == 1


@pytest.mark.django_db(transaction=True)
async def test_a_database_that_is_away_costs_the_strip_and_not_the_heartbeat():
    with mock.patch.object(standing, "render", side_effect=DatabaseError("away")):
        assert await standing.rendered() == ""
