"""The sockets of open pages: who may listen, what they are pushed, and how often it is rendered."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, Group

from approvals_app.consumers import QueueConsumer
from approvals_app.routing import page_urlpatterns as approvals
from approvals_app.states import Channel
from sessions_app import beats, consumers, feed, rendering
from sessions_app.models import SessionEvent
from sessions_app.rendering import Audience, Ring
from sessions_app.routing import page_urlpatterns as sessions
from tests.conftest import tool_interrupt

pytestmark = pytest.mark.django_db(transaction=True)
APPLICATION = URLRouter([*approvals, *sessions])


class Socket:
    """One open page."""

    def __init__(self, communicator: WebsocketCommunicator, greeting: dict[str, Any]) -> None:
        self.communicator = communicator
        self.greeting = greeting

    async def frame(self) -> dict[str, Any]:
        """Return the next frame that tells of an event: no heartbeat, and not the greeting."""
        while True:
            frame: dict[str, Any] = json.loads(await self.communicator.receive_from(timeout=5))
            if frame.get("news"):
                return frame

    async def quiet(self) -> bool:
        while not await self.communicator.receive_nothing(timeout=0.3):
            if json.loads(await self.communicator.receive_from()).get("news"):
                return False
        return True


@pytest.fixture
def long_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written together comes in one frame, however busy the machine is."""
    monkeypatch.setattr(rendering, "MOMENT", 0.3)


@asynccontextmanager
async def opened(path: str, user: Any) -> AsyncIterator[Socket]:
    communicator = WebsocketCommunicator(APPLICATION, path)
    communicator.scope["user"] = user
    assert (await communicator.connect())[0]
    assert "beat" in json.loads(await communicator.receive_from(timeout=5))
    # Read here: it would come in one frame with what happens at once.
    greeted = path == "/ws/queue/"
    greeting = json.loads(await communicator.receive_from(timeout=5)) if greeted else {}
    try:
        yield Socket(communicator, greeting)
    finally:
        await communicator.disconnect()


async def close_code(path: str, user: Any) -> int:
    communicator = WebsocketCommunicator(APPLICATION, path)
    communicator.scope["user"] = user
    await communicator.connect()
    closed = await communicator.receive_output(timeout=5)
    assert closed["type"] == "websocket.close"
    return int(closed["code"])


in_thread = database_sync_to_async


@pytest.mark.parametrize("path", ["/ws/queue/", "/ws/sessions/INC-20260101-001/"])
async def test_strangers_and_people_without_a_role_hear_nothing(path, charlie):
    assert await close_code(path, AnonymousUser()) == 4401
    assert await close_code(path, charlie) == 4403


async def test_a_session_that_is_not_there_has_no_socket(bob):
    assert await close_code("/ws/sessions/INC-20260101-001/", bob) == 4404


async def test_a_new_gate_is_pushed_with_the_badge_and_a_decided_one_is_struck_through(bob, make_gate):
    async with opened("/ws/queue/", bob) as queue:
        gate = await in_thread(make_gate)()
        came = await queue.frame()
        while "gates" not in came["news"]:
            came = await queue.frame()
        assert f'<li id="gate-{gate.pk}"' in came["content"]
        assert '<hx-upsert hx-target="#rows.pushed" key="data-key" sort>' in came["content"]
        assert 'data-count="1"' in came["content"]
        assert f"gate-{gate.pk}" in came["news"]

        await in_thread(gate.decide)("approve", actor=bob, channel=Channel.API, digest=gate.digest)
        went = await queue.frame()
        # It is struck through where it stands, with who decided, and does not vanish under anybody's pointer.
        assert f'hx-target="#rows #gate-{gate.pk}" hx-swap="outerMorph"' in went["content"]
        assert 'class="row gate-row went"' in went["content"]
        assert "by bob" in went["content"]
        assert 'data-count="0"' in went["content"]


async def test_a_gate_that_comes_while_another_goes_waits_for_an_answer_and_is_not_struck(bob, make_gate, long_moment):
    gone = await in_thread(make_gate)()
    async with opened("/ws/queue/", bob) as queue:

        def one_goes_and_one_comes() -> int:
            gone.decide("approve", actor=bob, channel=Channel.API, digest=gone.digest)
            return int(make_gate().pk)

        came = await in_thread(one_goes_and_one_comes)()
        frame = await queue.frame()
        while f"gate-{came}" not in frame["news"]:
            frame = await queue.frame()
        classes = dict(re.findall(r'<li id="gate-(\d+)" class="([^"]*)"', frame["content"]))
        assert "went" in classes[str(gone.pk)].split(), "the two must come in one frame"
        assert "went" not in classes[str(came)].split()


async def test_what_is_pushed_is_the_pages_own_fragment(bob, make_gate, client):
    async with opened("/ws/queue/", bob) as queue:
        gate = await in_thread(make_gate)()
        frame = await queue.frame()
        while "gates" not in frame["news"]:
            frame = await queue.frame()

    def row(text: str) -> str:
        found = re.search(rf'<li id="gate-{gate.pk}".*?</li>', text, re.DOTALL)
        assert found
        return re.sub(r">[^<>]*</time>", "></time>", found[0])

    def page() -> str:
        client.force_login(bob)
        return str(client.get("/approvals/").content.decode())

    assert row(frame["content"]) == row(await in_thread(page)())


async def test_a_page_that_connects_is_told_the_count_as_it_stands(bob, make_gate):
    await in_thread(make_gate)()
    async with opened("/ws/queue/", bob) as queue:
        assert 'data-count="1"' in queue.greeting["content"]
        assert queue.greeting["news"] == []


@pytest.mark.usefixtures("long_moment")
async def test_several_gates_of_one_moment_come_in_one_frame(bob, make_gate):
    async with opened("/ws/queue/", bob) as queue:
        await in_thread(make_gate)(interrupts=[tool_interrupt() for _ in range(5)])
        frame = await queue.frame()
        while "gates" not in frame["news"]:
            frame = await queue.frame()
        assert frame["content"].count('class="row gate-row"') == 5
        assert await queue.quiet()


async def test_a_hundred_open_queues_cost_one_rendering(bob, make_gate):
    rendered = []
    real = QueueConsumer.render

    def counted(self: QueueConsumer, rings: Any) -> str:
        rendered.append([ring.kind for ring in rings])
        return real(self, rings)

    with mock.patch.object(QueueConsumer, "render", counted):
        async with _many("/ws/queue/", bob, 100) as queues:
            session_made = asyncio.gather(*(queue.frame() for queue in queues))
            gate = await in_thread(make_gate)()
            frames = await session_made
            while "gates" not in frames[0]["news"]:
                frames = await asyncio.gather(*(queue.frame() for queue in queues))
    assert all(f"gate-{gate.pk}" in frame["news"] for frame in frames)
    assert sum("gate_fired" in kinds for kinds in rendered) == 1


@asynccontextmanager
async def _many(path: str, user: Any, number: int) -> AsyncIterator[list[Socket]]:
    contexts = [opened(path, user) for _ in range(number)]
    sockets = [await context.__aenter__() for context in contexts]
    try:
        yield sockets
    finally:
        for context in contexts:
            await context.__aexit__(None, None, None)


async def test_a_change_of_status_pokes_the_list_of_sessions(bob, make_session):
    async with opened("/ws/queue/", bob) as queue:
        await in_thread(make_session)()
        assert await queue.frame() == {"content": "", "news": ["sessions"]}


@pytest.mark.usefixtures("long_moment")
async def test_the_sessions_page_gets_each_event_in_its_place_once(alice, bob, make_session, make_gate):
    session = await in_thread(make_session)(status="in_progress")
    async with opened(f"/ws/sessions/{session.pk}/", alice) as page:
        gate = await in_thread(make_gate)(session)
        text = ""
        while "gate_fired" not in text:
            frame = await page.frame()
            text += frame["content"]
            assert frame["news"] == ["session"]
            if 'class="gate-inline open"' in text:
                break
        assert 'id="session-head"' in text
        assert "awaiting input" in text
        await in_thread(gate.decide)("reject", actor=bob, channel=Channel.API, digest=gate.digest, message="no")
        frame = await page.frame()
        # What was told of the gate is told again, as it stands now, under the same id.
        assert 'class="gate-inline"' in frame["content"]
        assert "bob" in frame["content"]
    seqs = await in_thread(lambda: list(session.events.values_list("seq", flat=True)))()
    told = [int(seq) for seq in re.findall(r'id="e-(\d+)"', text + frame["content"])]
    assert set(told) <= set(seqs)


async def test_events_of_an_open_turn_go_into_it(alice, make_session):
    session = await in_thread(make_session)(status="in_progress")
    began = await in_thread(SessionEvent.append)(session.pk, "agent_started", {"agent": "triage"})
    async with opened(f"/ws/sessions/{session.pk}/", alice) as page:
        payload = {"agent": "triage", "confidence": 0.9, "rationale": "sure"}
        event = await in_thread(SessionEvent.append)(session.pk, "confidence_emitted", payload)
        content = (await page.frame())["content"]
        assert f'<hx-upsert hx-target="#turn-{began.pk}-events"' in content
        assert f'id="e-{event.pk}"' in content
        payload = {"agent": "triage", "summary": "found it", "confidence": 0.9, "signal": "continue"}
        await in_thread(SessionEvent.append)(session.pk, "agent_finished", payload)
        content = (await page.frame())["content"]
        assert f'hx-target="#turn-{began.pk}-head"' in content
        assert "90 % sure" in content
        await in_thread(SessionEvent.append)(session.pk, "lesson_extracted", {"lesson": "later"})
        assert '<hx-upsert hx-target="#timeline.latest"' in (await page.frame())["content"]


@pytest.mark.usefixtures("long_moment")
async def test_a_page_asks_for_what_may_be_done_when_its_session_ends_or_begins_again(alice, make_session):
    session = await in_thread(make_session)()
    async with opened(f"/ws/sessions/{session.pk}/", alice) as page:
        await in_thread(session.stop)(actor=alice)
        assert "timeline" in (await page.frame())["news"]
        await in_thread(session.rerun)(actor=alice)
        assert "timeline" in (await page.frame())["news"]


async def test_nobody_elses_session_is_heard(alice, make_session):
    one, other = await in_thread(make_session)(), await in_thread(make_session)()
    async with opened(f"/ws/sessions/{one.pk}/", alice) as page:
        await in_thread(SessionEvent.append)(other.pk, "lesson_extracted", {"lesson": "elsewhere"})
        assert await page.quiet()


async def test_a_flood_of_events_is_not_pushed_but_asked_for(alice, make_session):
    session = await in_thread(make_session)()
    consumer = consumers.SessionPageConsumer()
    consumer.session_id = session.pk
    rings = [Ring(session.pk, seq, "lesson_extracted") for seq in range(consumers.MOST_PUSHED + 1)]
    frame = json.loads(await in_thread(consumer.render)(rings))
    assert frame == {"content": "", "news": ["session", "timeline"]}


async def test_heartbeats_tell_an_idle_page_that_the_line_is_not_dead(bob, monkeypatch):
    monkeypatch.setattr(beats, "HEARTBEAT", 0.05)
    async with opened("/ws/queue/", bob) as queue:
        while "beat" not in (beat := json.loads(await queue.communicator.receive_from(timeout=5))):
            pass
        assert beat["beat"] == 1
        assert beat["now"] > 0


async def test_a_role_that_is_taken_away_closes_the_socket(bob, monkeypatch):
    monkeypatch.setattr(beats, "HEARTBEAT", 0.05)
    monkeypatch.setattr(beats, "ADMITTED_FOR", 1)
    async with opened("/ws/queue/", bob) as queue:
        await in_thread(lambda: bob.groups.remove(Group.objects.get(name="approver")))()
        while (output := await queue.communicator.receive_output(timeout=5))["type"] == "websocket.send":
            pass
        assert output["code"] == 4403


async def test_what_a_page_says_is_not_listened_to(bob):
    async with opened("/ws/queue/", bob) as queue:
        await queue.communicator.send_to(text_data="not even JSON")
        await queue.communicator.send_to(bytes_data=b"\x00")
        assert await queue.quiet()


# Rendering together ------------------------------------------------------------------------------------------------


class Listening:
    """A page that keeps what it is offered."""

    def __init__(self) -> None:
        self.offered: list[str] = []

    def offer(self, text: str) -> None:
        self.offered.append(text)


def bell(seq: int) -> dict[str, Any]:
    return {"type": "feed.rang", "session_id": "s", "seq": seq, "kind": "k"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def audience_of(render: Callable[[Any], str]) -> tuple[Audience, Listening]:
    audience, page = Audience(render, lambda ring: ring.kind == "k"), Listening()
    audience.pages.add(page)
    return audience, page


@pytest.mark.parametrize("layer_works", [True, False])
async def test_what_the_layer_says_and_the_log_says_too_is_heard_once(make_gate, layer_works, monkeypatch):
    heard: list[int] = []
    tail = feed.Tail()
    await tail.ring_for_news()

    def hear(bell: dict[str, Any]) -> None:
        heard.append(bell["seq"])

    feed.bind_loop()
    await feed.join(feed.EVERYTHING, hear)
    if not layer_works:
        monkeypatch.setattr(feed, "_ring", lambda bell: None)
    await in_thread(make_gate)()
    seqs = await in_thread(lambda: list(SessionEvent.objects.order_by("seq").values_list("seq", flat=True)))()
    if layer_works:
        await until(lambda: len(heard) == len(seqs))
    await tail.ring_for_news()
    await tail.ring_for_news()
    assert sorted(heard) == seqs
    await feed.leave(feed.EVERYTHING, hear)


async def test_rings_that_come_together_are_rendered_together_in_their_order():
    calls: list[list[int]] = []

    def render(rings: Any) -> str:
        calls.append([ring.seq for ring in rings])
        return f"frame {len(calls)}"

    audience, page = audience_of(render)
    other = Listening()
    audience.pages.add(other)
    for seq in (3, 1, 2):
        audience.rang(bell(seq))
    await until(lambda: page.offered == ["frame 1"])
    # One that the page does not show.
    audience.rang({**bell(5), "kind": "other"})
    audience.rang(bell(4))
    await until(lambda: len(page.offered) == 2)
    assert page.offered == other.offered == ["frame 1", "frame 2"]
    assert calls == [[1, 2, 3], [4]]


async def test_how_things_stand_is_told_to_those_who_come_and_to_nobody_else():
    audience, page = audience_of(lambda rings: "hello")
    newcomers = [Listening(), Listening()]
    for number, newcomer in enumerate(newcomers, 1):
        audience.pages.add(newcomer)
        audience.greet(newcomer, Ring("", -number, "connected"))
    await until(lambda: all(newcomer.offered for newcomer in newcomers))
    assert [one.offered for one in newcomers] == [["hello"], ["hello"]]
    assert page.offered == []


async def test_a_frame_that_cannot_be_rendered_is_empty_and_the_next_one_comes():
    def render(rings: Any) -> str:
        if rings[0].seq == 1:
            raise RuntimeError("the database is away")
        return "well again"

    audience, page = audience_of(render)
    with mock.patch.object(rendering.log, "exception") as logged:
        audience.rang(bell(1))
        await until(lambda: logged.called)
    audience.rang(bell(2))
    await until(lambda: page.offered == ["well again"])


async def test_an_audience_is_forgotten_with_its_last_socket_and_so_is_its_line_to_the_layer(bob, settings):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    loop = asyncio.get_running_loop()
    async with opened("/ws/queue/", bob), opened("/ws/queue/", bob):
        assert len(rendering._audiences[loop]["queue"].pages) == 2
        # However many pages hear a group, the layer knows one listener.
        assert len(get_channel_layer().groups[feed.EVERYTHING]) == 1
    assert "queue" not in rendering._audiences[loop]
    assert feed.EVERYTHING not in get_channel_layer().groups
    assert feed._loop is loop


async def test_a_page_that_takes_nothing_any_more_is_let_go():
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await asyncio.Event().wait()
        sent.append(message)

    page = QueueConsumer()
    page.base_send, page._waiting, page._sending, page._refused = send, deque(), None, False
    for number in range(consumers.MOST_WAITING + 2):
        page.offer(f"frame {number}")
        await asyncio.sleep(0)
    await until(lambda: bool(sent))
    assert sent == [{"type": "websocket.close", "code": consumers.TOO_SLOW}]
    page.offer("one more")
    assert not page._waiting


async def test_who_may_stay_is_asked_once_for_all_pages(bob, alice, charlie, django_assert_num_queries):
    def page(user: Any) -> QueueConsumer:
        one = QueueConsumer()
        one.scope = {"user": user}
        return one

    def ask() -> None:
        pages = [*(page(bob) for _ in range(50)), page(alice), page(charlie)]
        with django_assert_num_queries(2):  # people and permission; these have no browser session
            refused = beats.why_not(pages)
        assert refused == [(pages[-1], 4403)]

    await in_thread(ask)()
