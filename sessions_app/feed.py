"""The doorbell: after a commit it tells open pages and streams that an event is there. Ids only, never content.

Nothing depends on a ring. Whoever hears it reads the database from their cursor, and whoever misses it catches up
from there later (law L6). This is the only module that touches the channel layer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import transaction

from sessions_app.steps import in_database

if TYPE_CHECKING:
    from sessions_app.models import SessionEvent

#: The group that hears every event.
EVERYTHING = "feed"

#: Seconds that the layer may take, and for which one that did not answer is left alone.
PATIENCE = 2.0
REST = 5.0

#: Takes a ring as the layer would deliver it.
Hear = Callable[[dict[str, Any]], Awaitable[None]]

log = logging.getLogger("clm.feed")

#: The pages of this process, by the group that they hear.
_here: dict[str, set[Hear]] = {}
_dead_until = 0.0

_loop: asyncio.AbstractEventLoop | None = None
_recently_rung: deque[int] = deque(maxlen=10_000)
_sending: set[asyncio.Task[None]] = set()


def group_of(session_id: str) -> str:
    """Return the group that hears the events of one session."""
    return f"session.{session_id}"


def bind_loop() -> None:
    """Remember the running loop as the server's own.

    The in-memory layer delivers at once only to a `group_send` made on the loop its receivers wait on.
    """
    global _loop
    _loop = asyncio.get_running_loop()


def announce(event: SessionEvent) -> None:
    """Ring for `event` when, and only when, its transaction commits."""
    transaction.on_commit(
        partial(_ring, {"session_id": event.session_id, "seq": event.seq, "kind": event.kind}), robust=True
    )


def ring_unlogged(session_id: str, kind: str) -> None:
    """Ring after the commit for something that is in no log, such as who reads a gate.

    Its number is below zero, which no event has, and only tells it from other rings.
    """
    bell = {"session_id": session_id, "seq": -random.getrandbits(62), "kind": kind}
    transaction.on_commit(partial(_ring, bell), robust=True)


def _ring(bell: dict[str, Any]) -> None:
    _recently_rung.append(bell["seq"])
    if not _heard(EVERYTHING) and not _heard(group_of(bell["session_id"])):
        return
    if _loop is not None and _loop.is_running():
        _loop.call_soon_threadsafe(_start_sending, bell)
    elif not isinstance(get_channel_layer(), InMemoryChannelLayer):
        # A command or a worker without a server's loop: only a shared layer has anybody to tell.
        asyncio.run(_send(bell))


def _heard(group: str) -> bool:
    """Whether anybody may listen: the in-memory layer knows, and most events have no listener at all."""
    layer = get_channel_layer()
    return not isinstance(layer, InMemoryChannelLayer) or group in layer.groups


def _start_sending(bell: dict[str, Any]) -> None:
    sending = asyncio.get_running_loop().create_task(_send(bell))
    _sending.add(sending)
    sending.add_done_callback(_sending.discard)


async def _send(bell: dict[str, Any]) -> None:
    """Ring through the layer; where that is dead, ring for the listeners of this process alone.

    A dead layer costs freshness, never correctness: every process follows the log itself (`Tail`), so all of them hear
    a poll later, and nobody waits for a connection that does not come.
    """
    global _dead_until
    groups = (EVERYTHING, group_of(bell["session_id"]))
    loop = asyncio.get_running_loop()
    if loop.time() >= _dead_until:
        layer = get_channel_layer()
        try:
            async with asyncio.timeout(PATIENCE):
                for group in groups:
                    if _heard(group):
                        await layer.group_send(group, {"type": "feed.rang", **bell})
        except Exception:  # each layer raises its own
            _dead_until = loop.time() + REST
            log.exception("The channel layer is dead; this process rings for its own pages for %g s", REST)
        else:
            return
    for group in groups:
        for hear in list(_here.get(group, ())):
            await hear({"type": "feed.rang", **bell})


async def join(group: str, channel: str, hear: Hear) -> None:
    """Let a page hear one group through the layer, and through this process while the layer is dead."""
    _here.setdefault(group, set()).add(hear)
    try:
        async with asyncio.timeout(PATIENCE):
            await get_channel_layer().group_add(group, channel)
    except Exception:  # each layer raises its own
        log.exception("The channel layer is dead; the page hears this process alone until it connects again")


async def leave(group: str, channel: str, hear: Hear) -> None:
    """Take back what `join` did."""
    _here.get(group, set()).discard(hear)
    if not _here.get(group):
        _here.pop(group, None)
    try:
        async with asyncio.timeout(PATIENCE):
            await get_channel_layer().group_discard(group, channel)
    except Exception:  # each layer raises its own
        log.warning("The channel layer is dead; a page left it without saying so", exc_info=True)


@asynccontextmanager
async def listening(group: str) -> AsyncIterator[Doorbell]:
    """Hear one group's rings for as long as the block lasts; over a dead layer there are none."""
    bind_loop()
    layer = get_channel_layer()
    channel = ""
    try:
        async with asyncio.timeout(PATIENCE):
            channel = await layer.new_channel()
            await layer.group_add(group, channel)
    except Exception:  # each layer raises its own
        log.exception("The channel layer is dead; a stream reads the log without being rung")
        channel = ""
    try:
        yield Doorbell(layer, channel)
    finally:
        if channel:
            try:
                await layer.group_discard(group, channel)
            except Exception:  # each layer raises its own
                log.warning("The channel layer is dead; a stream left it without saying so", exc_info=True)


class Doorbell:
    """One listener's end of a group."""

    def __init__(self, layer: Any, channel: str) -> None:
        self._layer = layer
        self._channel = channel

    async def wait(self, *, seconds: float) -> bool:
        """Return True at the next ring, or False after so many seconds without one."""
        try:
            # Not wait_for: on Python 3.11 it loses a cancellation that meets a ring.
            async with asyncio.timeout(seconds):
                if self._channel:
                    await self._layer.receive(self._channel)
                else:
                    await asyncio.sleep(seconds)
        except TimeoutError:
            return False
        return bool(self._channel)


class Tail:
    """Rings in this process for events that another process wrote (a command, a second server).

    The in-memory layer ends at the process, so the engine follows the log as well; one indexed query a poll.
    """

    def __init__(self) -> None:
        self._cursor: int | None = None

    async def ring_for_news(self) -> None:
        """Ring for every event since the last call that this process has not rung for itself."""
        for bell in await in_database(self._read):
            _recently_rung.append(bell["seq"])
            await _send(bell)

    def _read(self) -> list[dict[str, Any]]:
        from sessions_app.models import SessionEvent

        if self._cursor is None:
            last = SessionEvent.objects.order_by("-seq").values_list("seq", flat=True).first()
            self._cursor = last or 0
            return []
        news = list(SessionEvent.objects.since(self._cursor).values("session_id", "seq", "kind")[:1000])
        if news:
            self._cursor = news[-1]["seq"]
        rung = set(_recently_rung) if news else set()
        return [dict(bell) for bell in news if bell["seq"] not in rung]
