"""The live streams of the REST contract: server-sent events and a JSON socket, from one follower.

The doorbell says only that something is there; every event is read from the log by cursor, so a stream misses
nothing and repeats nothing, whoever rings and whoever does not.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from weakref import WeakValueDictionary

from asgiref.sync import SyncToAsync
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError
from django.http import StreamingHttpResponse

from sessions_app import feed, redaction
from sessions_app.exceptions import BadRequest, ClmError, NotFound
from sessions_app.identity import Access
from sessions_app.models import ApiToken, Session, SessionEvent

log = logging.getLogger("clm.streams")

#: Seconds without a word after which an event stream sends a comment, so that proxies keep it open.
HEARTBEAT = 15.0
#: Seconds after which the log is read again though nobody rang: a ring can be lost, an event cannot.
REREAD = 5.0
#: Seconds in which rings that come close together are answered by one read.
TOGETHER = 0.01
#: Events read, and sent, at once.
PAGE = 500
#: Events that a socket is sent before the loop does something else.
AT_ONCE = 20
#: Characters of an event stream that are sent at once: a client that does not read holds back what comes after.
PART = 16_384
#: The largest number that a cursor can be.
MAX_SEQ = 2**63 - 1

#: Close codes of the socket, in the range that is an application's own.
REFUSED = {"unauthorized": 4401, "forbidden": 4403, "not_found": 4404}
BAD_CURSOR = 4400
GO_ON_ELSEWHERE = 4012

READ = Access(ApiToken.Scope.READ, "sessions_app.view_session", open_on_loopback=True)


class Sent(NamedTuple):
    """One event as it is sent: its number and its JSON."""

    seq: int
    text: str


class Page(list[Sent]):
    """Events that are sent together."""


#: Full pages that somebody still sends, by where they begin. The log only grows, so a full page stays as it is, and a
#: thousand clients that do not read hold one between them.
_full: WeakValueDictionary[tuple[str | None, int], Page] = WeakValueDictionary()


class _Reading:
    """One page of the log that followers at the same cursor share."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0
        self.began = float("-inf")
        self.page = Page()


_readings: dict[tuple[str | None, int], _Reading] = {}
_followers: set[asyncio.Task[Any]] = set()
_leaving = False


async def read_after(session_id: str | None, cursor: int) -> Page:
    """Return the next page of the log after `cursor`, of one session or of all.

    A thousand followers of one session ask at the same moment. They share reads: one is enough for everybody who
    asked before it began, so nobody gets a page older than the ring that they heard.
    """
    asked = asyncio.get_running_loop().time()
    key = (session_id, cursor)
    if (full := _full.get(key)) is not None:
        return full
    reading = _readings.setdefault(key, _Reading())
    reading.waiting += 1
    try:
        async with reading.lock:
            if reading.began < asked:
                reading.began = asyncio.get_running_loop().time()
                # In a shared thread: a thread or a connection for each stream would not go far.
                reading.page = await database_sync_to_async(_read, thread_sensitive=False)(session_id, cursor)
                if len(reading.page) == PAGE:
                    _full[key] = reading.page
            return reading.page
    finally:
        reading.waiting -= 1
        if not reading.waiting:
            _readings.pop(key, None)


def _read(session_id: str | None, cursor: int) -> Page:
    events = SessionEvent.objects.since(cursor)
    if session_id is not None:
        events = events.filter(session_id=session_id)
    return Page(
        Sent(event.seq, json.dumps(redaction.shown(event.as_json()), cls=DjangoJSONEncoder)) for event in events[:PAGE]
    )


async def follow(session_id: str | None, cursor: int, *, heartbeat: float | None = None) -> AsyncGenerator[Page, None]:
    """Yield page after page of events after `cursor`, for as long as anybody listens; an empty page is a heartbeat.

    Listening begins before the first read, so an event that is written in between rings. Nothing is held while a
    page is being sent: no transaction, no thread.
    """
    this = asyncio.current_task()
    group = feed.EVERYTHING if session_id is None else feed.group_of(session_id)
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    heartbeat = HEARTBEAT if heartbeat is None else heartbeat
    async with AsyncExitStack() as stack:
        if this is not None:
            _followers.add(this)
            stack.callback(_followers.discard, this)
        try:
            bell = await stack.enter_async_context(feed.listening(group))
            while not _leaving:
                try:
                    page = await read_after(session_id, cursor)
                except DatabaseError:
                    # A database that is away for a moment costs freshness, not the stream: the next read has it all.
                    log.exception("The log could not be read for a stream; trying again")
                    page = Page()
                if page or loop.time() - sent_at >= heartbeat:
                    yield page
                    sent_at = loop.time()
                if page:
                    cursor = page[-1].seq
                if len(page) < PAGE:
                    patience = min(REREAD, sent_at + heartbeat - loop.time())
                    if await bell.wait(seconds=max(patience, 0.001)):
                        together = loop.time() + TOGETHER
                        while (left := together - loop.time()) > 0:
                            await bell.wait(seconds=left)
                    if this is not None and this.cancelling():
                        # In Python 3.11 a ring that meets a cancellation in wait_for swallows it.
                        raise asyncio.CancelledError
        except asyncio.CancelledError:
            if not _leaving or this is None:
                raise
            this.uncancel()


def end_all() -> None:
    """End every stream of this process in good order; the server calls it on its own loop when it leaves."""
    global _leaving
    _leaving = True
    for follower in list(_followers):
        follower.cancel()


def server_sent(session_id: str | None, cursor: int) -> StreamingHttpResponse:
    """Return the response that streams events after `cursor` in the form that EventSource reads."""
    return StreamingHttpResponse(
        _frames(session_id, cursor),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _let_go_of_thread() -> None:
    """Give back the thread that Django keeps for each request, for its synchronous middleware.

    A stream lives long and uses none; where the answer's end needs one, it gets a new one.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context is not None else None
    if executor is not None:
        executor.shutdown(wait=False)


async def _frames(session_id: str | None, cursor: int) -> AsyncIterator[str]:
    _let_go_of_thread()
    yield "retry: 2000\n\n"
    async with aclosing(follow(session_id, cursor)) as pages:
        async for page in pages:
            if not page:
                yield ": still here\n\n"
            for part in _parts(page):
                yield part


def _parts(page: Sequence[Sent]) -> Iterator[str]:
    """Yield a page of the log in pieces; whoever reads slowly leaves one of them unread, and not all."""
    part = ""
    for seq, text in page:
        part += f"id: {seq}\ndata: {text}\n\n"
        if len(part) >= PART:
            yield part
            part = ""
    if part:
        yield part


def refuse_unknown(session_id: str) -> None:
    """Raise NotFound unless there is such a session."""
    if "\x00" in session_id or not Session.objects.filter(pk=session_id).exists():
        raise NotFound(f"There is no session {session_id[:40]!r}.")


class EventsConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The same events as JSON over a socket: `/ws/sessions/<pk>/events?since=N`."""

    _sending: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Let in whoever may read the session, and start from the cursor; a refusal closes with its own code."""
        try:
            await database_sync_to_async(self._admit, thread_sensitive=False)()
            cursor = cursor_in(self.scope["query_string"])
        except ClmError as refused:
            # Accepted first: a browser is told nothing of a handshake that was refused.
            await self.accept()
            await self.close(REFUSED.get(refused.code, BAD_CURSOR), reason=refused.text[:120])
            return
        await self.accept()
        self._sending = asyncio.create_task(self._send_events(cursor), name=f"clm-events-{self._session_id}")

    async def disconnect(self, code: int) -> None:
        """Stop following."""
        if self._sending is not None:
            self._sending.cancel()
            with suppress(asyncio.CancelledError):
                await self._sending

    @property
    def _session_id(self) -> str:
        return str(self.scope["url_route"]["kwargs"]["pk"])

    def _admit(self) -> None:
        READ.admit_socket(self.scope)
        refuse_unknown(self._session_id)

    async def _send_events(self, cursor: int) -> None:
        try:
            async with aclosing(follow(self._session_id, cursor)) as pages:
                async for page in pages:
                    for number, (_, text) in enumerate(page, 1):
                        await self.send(text_data=text)
                        if number % AT_ONCE == 0:
                            # Sending suspends only for a slow client, and the others want to be served meanwhile.
                            await asyncio.sleep(0)
            await self.close(GO_ON_ELSEWHERE, reason="Go on with the last seq that you have.")
        except Exception:
            # Nobody awaits this task, so what goes wrong is said here, and the client told to come again.
            log.exception("The event socket of %s failed", self._session_id)
            await self.close(1011)


def cursor_in(query_string: bytes) -> int:
    """Return the `since` of a socket's address."""
    return read_cursor(parse_qs(query_string.decode("latin-1")).get("since", ["0"])[-1], name="since")


def read_cursor(text: str, *, name: str) -> int:
    """Return a cursor that came as text, or raise BadRequest."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= MAX_SEQ):
        raise BadRequest(f"{name} must be the seq of an event, a whole number.")
    return int(text)
