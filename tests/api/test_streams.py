"""The live streams: every event once, in order, from any cursor, and a clean end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.core.asgi import get_asgi_application
from django.test import Client
from django.urls import path

from sessions_app import feed, streams
from sessions_app.models import ApiToken, Session, SessionEvent
from sessions_app.streams import EventsConsumer
from tests.api.conftest import Caller, error_of

pytestmark = pytest.mark.django_db(transaction=True)

SOCKETS = URLRouter([path("ws/sessions/<str:pk>/events", EventsConsumer.as_asgi())])


@pytest.fixture(autouse=True)
def _no_stream_is_left():
    yield
    assert not streams._followers
    assert not streams._readings
    streams._leaving = False


@pytest.fixture
def write() -> Any:
    """Append an event from another thread, as the engine does."""

    def append(session: Session, number: int) -> int:
        payload = {"source": "a", "target": "b", "why": str(number)}
        return SessionEvent.append(session.pk, "route_decided", payload).seq

    return sync_to_async(append, thread_sensitive=False)


class Stream:
    """A client of an event stream, spoken to over ASGI as a server would."""

    def __init__(self, address: str, query: str = "", **headers: str) -> None:
        sent = {"Host": "127.0.0.1:8000", **headers}
        self.app: Any = ApplicationCommunicator(  # type: ignore[no-untyped-call]
            get_asgi_application(),
            {
                "type": "http",
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": f"/api/v1{address}",
                "raw_path": f"/api/v1{address}".encode(),
                "query_string": query.encode(),
                "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
                "client": ["127.0.0.1", 50_000],
                "server": ["127.0.0.1", 8000],
            },
        )
        self.text = ""

    async def open(self) -> dict[str, str]:
        """Send the request and return the answer's headers."""
        await self.app.send_input({"type": "http.request", "body": b"", "more_body": False})
        start = await self.app.receive_output(5)
        self.status = start["status"]
        return {name.decode().lower(): value.decode() for name, value in start["headers"]}

    async def chunk(self, seconds: float = 5) -> str:
        """Return what comes next."""
        message = await self.app.receive_output(seconds)
        self.more = message.get("more_body", False)
        return str(message.get("body", b"").decode())

    async def events(self, count: int) -> list[dict[str, Any]]:
        """Read until so many events have come, holding each to its frame."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            frames = (await self.chunk()).split("\n\n")
            for frame in frames:
                if frame.startswith("id: "):
                    first, second = frame.split("\n")
                    found.append(json.loads(second.removeprefix("data: ")))
                    assert first == f"id: {found[-1]['seq']}"
        return found

    async def close(self) -> None:
        """Go away, and wait until the server has noticed."""
        await self.app.send_input({"type": "http.disconnect"})
        async with asyncio.timeout(2):
            await self.app.future


@pytest.fixture
async def opened() -> AsyncIterator[Any]:
    """Open streams that are closed at the end."""
    streams_of_test: list[Stream] = []

    async def open_one(address: str, query: str = "", **headers: str) -> Stream:
        stream = Stream(address, query, **headers)
        streams_of_test.append(stream)
        stream.headers = await stream.open()  # type: ignore[attr-defined]
        return stream

    yield open_one
    for stream in streams_of_test:
        if not stream.app.future.done():
            await stream.close()


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


# Server-sent events ---------------------------------------------------------------------------------------------


async def test_a_stream_has_the_headers_and_the_shape_of_the_contract(opened, make_session):
    session = await sync_to_async(make_session)()
    stream = await opened(f"/sessions/{session.pk}/events")
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-cache"
    assert stream.headers["x-accel-buffering"] == "no"
    (event,) = await stream.events(1)
    assert set(event) == {"seq", "session_id", "kind", "payload", "ts"}
    assert (event["kind"], event["session_id"]) == ("session.created", session.pk)
    stored = await sync_to_async(session.events.get)()
    assert event == stored.as_json()


async def test_what_is_written_while_it_is_open_comes_at_once(opened, make_session, write):
    session = await sync_to_async(make_session)()
    stream = await opened(f"/sessions/{session.pk}/events")
    await stream.events(1)
    seq = await write(session, 1)
    assert seqs(await asyncio.wait_for(stream.events(1), 2)) == [seq]


async def test_it_goes_on_after_since_and_last_event_id_wins(opened, make_session, write):
    session = await sync_to_async(make_session)()
    written = [await write(session, number) for number in range(4)]
    stream = await opened(f"/sessions/{session.pk}/events", f"since={written[0]}")
    assert seqs(await stream.events(3)) == written[1:]
    again = await opened(f"/sessions/{session.pk}/events", f"since={written[0]}", **{"Last-Event-ID": str(written[2])})
    assert seqs(await again.events(1)) == written[3:]


async def test_reconnecting_while_events_are_written_loses_none_and_repeats_none(opened, make_session, write):
    session = await sync_to_async(make_session)()

    async def keep_writing() -> list[int]:
        return [await write(session, number) for number in range(60)]

    writing = asyncio.create_task(keep_writing())
    seen: list[int] = []
    cursor = "0"
    while len(seen) < 61:
        stream = await opened(f"/sessions/{session.pk}/events", **{"Last-Event-ID": cursor})
        seen += seqs(await stream.events(min(7, 61 - len(seen))))
        cursor = str(seen[-1])
        await stream.close()
    assert seen[1:] == await writing
    assert seen == sorted(set(seen))


async def test_more_than_a_page_comes_whole(opened, make_session, write, monkeypatch):
    monkeypatch.setattr(streams, "PAGE", 5)
    session = await sync_to_async(make_session)()
    written = [await write(session, number) for number in range(23)]
    stream = await opened(f"/sessions/{session.pk}/events", "since=1")
    assert [seq for seq in seqs(await stream.events(23)) if seq > 1][-23:] == written


async def test_a_session_s_stream_has_its_own_events_only(opened, make_session, write):
    mine, other = await sync_to_async(make_session)(), await sync_to_async(make_session)()
    await write(other, 1)
    seq = await write(mine, 2)
    stream = await opened(f"/sessions/{mine.pk}/events")
    events = await stream.events(2)
    assert {event["session_id"] for event in events} == {mine.pk}
    assert events[-1]["seq"] == seq


async def test_recent_wins_over_a_session_of_that_name_and_has_every_session(opened, make_session, write):
    first, second = await sync_to_async(make_session)(), await sync_to_async(make_session)()
    stream = await opened("/sessions/recent/events")
    assert {event["session_id"] for event in await stream.events(2)} == {first.pk, second.pk}
    seqs_written = [await write(second, 1), await write(first, 2)]
    assert seqs(await stream.events(2)) == seqs_written


async def test_a_lost_ring_costs_seconds_not_the_event(opened, make_session, write, monkeypatch):
    monkeypatch.setattr(streams, "REREAD", 0.1)
    monkeypatch.setattr(feed, "_ring", lambda bell: None)
    session = await sync_to_async(make_session)()
    stream = await opened(f"/sessions/{session.pk}/events")
    await stream.events(1)
    seq = await write(session, 1)
    assert seqs(await stream.events(1)) == [seq]


async def test_a_quiet_stream_sends_comments(opened, make_session, monkeypatch):
    monkeypatch.setattr(streams, "HEARTBEAT", 0.1)
    session = await sync_to_async(make_session)()
    stream = await opened(f"/sessions/{session.pk}/events")
    await stream.events(1)
    for _ in range(2):
        comment = await stream.chunk()
        assert comment.startswith(":")
        assert comment.endswith("\n\n")


async def test_a_client_that_leaves_leaves_nothing_behind(opened, make_session):
    session = await sync_to_async(make_session)()
    stream = await opened(f"/sessions/{session.pk}/events")
    await stream.events(1)
    # Redis' layer puts a prefix before the names.
    group = feed.group_of(session.pk)
    assert any(name.endswith(group) for name in get_channel_layer().groups)
    await stream.close()
    assert not any(name.endswith(group) for name in get_channel_layer().groups)
    assert not streams._followers


async def test_a_departure_that_meets_a_ring_is_not_lost(opened, make_session, monkeypatch):
    """Python 3.11 lets a cancellation and a result that arrive together become the result alone."""

    async def swallow(self: feed.Doorbell, *, seconds: float) -> bool:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            return True
        return False

    monkeypatch.setattr(feed.Doorbell, "wait", swallow)
    session = await sync_to_async(make_session)()
    stream = await opened(f"/sessions/{session.pk}/events")
    await stream.events(1)
    await stream.close()
    assert not streams._followers


async def test_a_server_that_leaves_ends_its_streams_in_good_order(opened, make_session):
    session = await sync_to_async(make_session)()
    stream = await opened(f"/sessions/{session.pk}/events")
    await stream.events(1)
    streams.end_all()
    assert await stream.chunk() == ""
    assert stream.more is False


async def test_a_long_page_of_the_log_is_sent_in_parts_of_whole_events(opened, make_session, write, monkeypatch):
    monkeypatch.setattr(streams, "PART", 10)
    session = await sync_to_async(make_session)()
    await write(session, 3)
    stream = await opened(f"/sessions/{session.pk}/events")
    known = await sync_to_async(lambda: list(session.events.order_by("seq").values_list("seq", flat=True)))()
    chunks = [await stream.chunk() for _ in range(len(known) + 1)]
    assert [int(chunk.partition("\n")[0].removeprefix("id: ")) for chunk in chunks[1:]] == known


async def test_a_database_that_is_away_for_a_moment_does_not_end_a_stream(opened, make_session, write, monkeypatch):
    from django.db import OperationalError

    session = await sync_to_async(make_session)()
    monkeypatch.setattr(streams, "REREAD", 0.05)
    real = streams._read
    failures: list[int] = []

    def read(session_id: str | None, cursor: int) -> list[streams.Sent]:
        if len(failures) < 2:
            failures.append(1)
            raise OperationalError("away")
        return real(session_id, cursor)

    monkeypatch.setattr(streams, "_read", read)
    stream = await opened(f"/sessions/{session.pk}/events")
    assert len(await stream.events(1)) == 1
    assert len(failures) == 2


async def test_s28_a_client_that_does_not_read_holds_up_nobody(opened, make_session, write):
    """The stalled one has stopped in the middle of a page: readers and writers go on."""
    session = await sync_to_async(make_session)()
    stalled = streams.follow(session.pk, 0)
    assert len(await anext(stalled)) == 1
    others = [await opened(f"/sessions/{session.pk}/events") for _ in range(20)]
    for stream in others:
        await stream.events(1)
    started = asyncio.get_running_loop().time()
    seq = await write(session, 1)
    for stream in others:
        assert seqs(await stream.events(1)) == [seq]
    assert asyncio.get_running_loop().time() - started < 2
    await stalled.aclose()


async def test_a_stream_keeps_no_thread(opened, make_session):
    session = await sync_to_async(make_session)()
    first = await opened(f"/sessions/{session.pk}/events")
    await first.events(1)
    before = threading.active_count()
    for _ in range(20):
        stream = await opened(f"/sessions/{session.pk}/events")
        await stream.events(1)
    # Those of the shared pool, which has a bound, may have become more.
    assert threading.active_count() - before < 10


async def test_followers_at_the_same_cursor_share_their_reads(make_session, monkeypatch):
    session = await sync_to_async(make_session)()
    reads = []
    real = streams._read

    def read(session_id: str | None, cursor: int) -> list[streams.Sent]:
        reads.append(cursor)
        return real(session_id, cursor)

    monkeypatch.setattr(streams, "_read", read)
    pages = await asyncio.gather(*(streams.read_after(session.pk, 0) for _ in range(50)))
    assert all(page == pages[0] for page in pages)
    assert len(pages[0]) == 1
    assert len(reads) <= 2


async def test_a_shared_read_is_never_older_than_the_question(make_session, write, monkeypatch):
    """An event that is written while a read is on its way must be in the page of whoever asks after it."""
    session = await sync_to_async(make_session)()
    going_on, reading = threading.Event(), threading.Event()
    real = streams._read

    def slow(session_id: str | None, cursor: int) -> list[streams.Sent]:
        page = real(session_id, cursor)
        reading.set()
        going_on.wait(5)
        return page

    monkeypatch.setattr(streams, "_read", slow)
    first = asyncio.create_task(streams.read_after(session.pk, 0))
    await asyncio.to_thread(reading.wait, 5)
    seq = await write(session, 1)
    second = asyncio.create_task(streams.read_after(session.pk, 0))
    await asyncio.sleep(0)
    going_on.set()
    assert len(await first) == 1
    assert [one.seq for one in await second][-1] == seq


# Who may follow -------------------------------------------------------------------------------------------------


def test_a_stream_asks_the_same_as_a_read(local, as_charlie, alice, remote, make_session):
    session = make_session()
    for address in (f"/sessions/{session.pk}/events", "/sessions/recent/events"):
        error_of(as_charlie.get(address), 403, "forbidden")
        error_of(remote(alice, "sessions:write").get(address), 403, "forbidden")
        error_of(local.get(address, headers={"X-Forwarded-For": "127.0.0.1"}), 401, "unauthorized")
        error_of(local.get(address, headers={"Authorization": "Bearer gone"}), 401, "unauthorized")
    error_of(local.get("/sessions/nothing/events"), 404, "not_found")


def test_a_stream_is_read_from_only(make_session):
    session = make_session()
    caller = Caller(Client(raise_request_exception=False), Host="localhost")
    error_of(caller.post(f"/sessions/{session.pk}/events"), 405, "bad_request")


# The socket -----------------------------------------------------------------------------------------------------


def socket(session_id: str, query: str = "", *, client: str = "127.0.0.1", user: Any = None, **headers: str) -> Any:
    sent = {"host": "127.0.0.1:8000", **headers}
    communicator = WebsocketCommunicator(
        SOCKETS,
        f"/ws/sessions/{session_id}/events{query}",
        headers=[(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
    )
    communicator.scope["client"] = [client, 50_000]
    communicator.scope["user"] = user
    return communicator


async def refusal_of(communicator: Any) -> int:
    await communicator.connect()
    closed = await communicator.receive_output(5)
    assert closed["type"] == "websocket.close"
    await communicator.disconnect()
    return int(closed["code"])


async def test_the_socket_has_the_same_events_as_the_stream(opened, make_session, write):
    session = await sync_to_async(make_session)()
    stream = await opened(f"/sessions/{session.pk}/events")
    line = socket(session.pk)
    assert (await line.connect())[0]
    await write(session, 1)
    over_http = await stream.events(2)
    over_socket = [json.loads(await line.receive_from(5)) for _ in range(2)]
    assert over_socket == over_http
    await line.disconnect()


async def test_the_socket_goes_on_after_since_while_events_are_written(make_session, write):
    session = await sync_to_async(make_session)()

    async def keep_writing() -> list[int]:
        return [await write(session, number) for number in range(40)]

    writing = asyncio.create_task(keep_writing())
    seen: list[int] = []
    while len(seen) < 41:
        line = socket(session.pk, f"?since={seen[-1] if seen else 0}")
        await line.connect()
        for _ in range(min(9, 41 - len(seen))):
            seen.append(json.loads(await line.receive_from(5))["seq"])
        await line.disconnect()
    assert seen[1:] == await writing


async def test_a_socket_that_is_gone_follows_nothing(make_session):
    session = await sync_to_async(make_session)()
    line = socket(session.pk)
    await line.connect()
    await line.receive_from(5)
    assert streams._followers
    await line.disconnect()
    assert not streams._followers
    assert feed.group_of(session.pk) not in get_channel_layer().groups


async def test_the_socket_refuses_whom_a_read_refuses(alice, charlie, make_session):
    session = await sync_to_async(make_session)()
    token = await sync_to_async(ApiToken.issue)(alice)
    unscoped = await sync_to_async(ApiToken.issue)(alice, scopes=["sessions:write"])
    assert await refusal_of(socket(session.pk, client="203.0.113.9")) == 4401
    assert await refusal_of(socket(session.pk, x_forwarded_for="127.0.0.1")) == 4401
    assert await refusal_of(socket(session.pk, origin="http://evil.example")) == 4401
    assert await refusal_of(socket(session.pk, authorization="Bearer gone")) == 4401
    assert await refusal_of(socket(session.pk, authorization=f"Bearer {unscoped}")) == 4403
    assert await refusal_of(socket(session.pk, user=charlie)) == 4403
    assert await refusal_of(socket(session.pk, user=alice, origin="http://evil.example")) == 4403
    assert await refusal_of(socket("INC-20200101-001")) == 4404
    assert await refusal_of(socket(session.pk, "?since=x")) == 4400
    for welcome in (
        socket(session.pk, client="203.0.113.9", authorization=f"Bearer {token}"),
        socket(session.pk, client="203.0.113.9", user=alice, origin="http://127.0.0.1:8000"),
    ):
        assert (await welcome.connect())[0]
        assert json.loads(await welcome.receive_from(5))["session_id"] == session.pk
        await welcome.disconnect()
