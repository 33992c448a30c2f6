"""S1: a session says "running" while it waits for a person, and is right only once somebody opens it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.test import Client
from django.urls import reverse

from sessions_app.models import ApiToken, Session, SessionEvent
from sessions_app.routing import api_urlpatterns
from tests.fakes import agent_graph, calling, counting
from tests.scenarios.conftest import Bench, Caller

TURN = calling(("lab:fix", {"target": "checkout"}, "call-of-s01-000000"))


@pytest.fixture
def parked(bench: Bench) -> Session:
    """A session that paused at its gate and that nobody has opened."""
    return bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", [])])))


@pytest.mark.django_db
def test_s01_the_row_the_lists_and_the_api_say_awaiting_input_before_anybody_opens_it(
    parked: Session, alice: Any, bob: Any
) -> None:
    assert list(Session.objects.matching(status="awaiting_input").page().items) == [parked]
    assert not Session.objects.matching(status="new,in_progress").exists()
    caller = Caller(bob)
    (row,) = caller.get("/sessions").json()["items"]
    assert (row["id"], row["status"]) == (parked.pk, "awaiting_input")
    assert row["pending_intervention"]["tool"] == "lab:fix"
    assert [one["id"] for one in caller.get("/sessions", status="awaiting_input").json()["items"]] == [parked.pk]
    assert caller.get("/sessions/recent").json()[0]["status"] == "awaiting_input"
    assert [one["session_id"] for one in caller.get("/gates").json()["items"]] == [parked.pk]
    # Last, because these open it.
    assert caller.get(f"/sessions/{parked.pk}").json()["status"] == "awaiting_input"
    whole = caller.get(f"/sessions/{parked.pk}/full").json()
    assert whole["session"]["status"] == "awaiting_input"
    assert [event["kind"] for event in whole["events"]].count("gate_fired") == 1
    moves = [event["payload"]["to"] for event in whole["events"] if event["kind"] == "session.status_changed"]
    assert moves.count("awaiting_input") == 1


@pytest.mark.django_db
def test_s01_the_pages_and_the_admin_say_so_before_anybody_opens_it(
    parked: Session, bob: Any, admin: Any, client: Client
) -> None:
    client.force_login(bob)
    queue = client.get(reverse("queue")).content.decode()
    assert parked.pk in queue
    listed = client.get(reverse("sessions")).content.decode()
    assert parked.pk in listed
    assert "awaiting input" in listed
    assert parked.pk in client.get(reverse("sessions"), {"status": "awaiting_input"}).content.decode()
    assert parked.pk not in _rows(client.get(reverse("sessions"), {"status": "in_progress"}).content.decode())
    client.force_login(admin)
    changelist = client.get(reverse("admin:sessions_app_session_changelist"), {"q": parked.pk}).content.decode()
    assert "awaiting input" in changelist


def _rows(page: str) -> str:
    """Return the part of a page that lists sessions: its links to them."""
    return " ".join(re.findall(r'href="(/sessions/INC-[^"]+)"', page))


@pytest.mark.django_db(transaction=True)
async def test_s01_the_socket_says_so_to_whoever_connects_later(make_gate_later: Any, bob: Any) -> None:
    gate, token = await database_sync_to_async(make_gate_later)(bob)
    socket = WebsocketCommunicator(
        URLRouter(api_urlpatterns),
        f"/ws/sessions/{gate.session_id}/events?since=0",
        headers=[(b"authorization", f"Bearer {token}".encode()), (b"host", b"localhost")],
    )
    connected, _ = await socket.connect()
    assert connected
    expected = await database_sync_to_async(SessionEvent.objects.filter(session_id=gate.session_id).count)()
    heard = [json.loads(await socket.receive_from(5)) for _ in range(expected)]
    assert await socket.receive_nothing(0.2)
    await socket.disconnect()
    # The communicator keeps Channels from closing a thread's connection; the thread's next step closes it.
    await database_sync_to_async(lambda: None, thread_sensitive=False)()
    moves = [event["payload"]["to"] for event in heard if event["kind"] == "session.status_changed"]
    assert moves[-1] == "awaiting_input"
    assert "gate_fired" in [event["kind"] for event in heard]


@pytest.fixture
def make_gate_later(make_gate: Any) -> Any:
    """Make a gate and a token from inside a database thread."""
    return lambda user: (make_gate(), ApiToken.issue(user))
