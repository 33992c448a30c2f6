"""The doorbell: after a commit it tells open pages and streams that an event is there. Ids only, never content.

Nothing depends on a ring. Whoever hears it reads the database from their cursor, and whoever misses it catches up
from there later (law L6). This is the only module that touches the channel layer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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
#: Rings that a line remembers: an event can be heard through the layer and again from the log.
REMEMBERED = 4096

#: Takes a ring as the layer delivers it. It is called on the loop for each ring, so it must be quick.
Hear = Callable[[dict[str, Any]], None]

log = logging.getLogger("clm.feed")

#: What this process hears, by group: one line to the layer for each, whoever listens at its end.
_here: dict[str, _Line] = {}
_dead_until = 0.0

_loop: asyncio.AbstractEventLoop | None = None
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
    """Ring for the listeners of this process, and through the layer for those of all others.

    A dead layer costs freshness, never correctness: every process follows the log itself (`Tail`), so all of them hear
    a poll later, and nobody waits for a connection that does not come.
    """
    global _dead_until
    _ring_here(bell)
    loop = asyncio.get_running_loop()
    if loop.time() < _dead_until:
        return
    layer = get_channel_layer()
    try:
        async with asyncio.timeout(PATIENCE):
            for group in _groups(bell):
                if _heard(group):
                    await layer.group_send(group, {"type": "feed.rang", **bell})
    except Exception:  # each layer raises its own
        _dead_until = loop.time() + REST
        log.exception("The channel layer is dead; this process rings for its own pages for %g s", REST)


def _groups(bell: dict[str, Any]) -> list[str]:
    return [EVERYTHING, group_of(bell["session_id"])]


def _ring_here(bell: dict[str, Any]) -> None:
    """Ring for the listeners of this process, past the layer; what comes through it as well is not heard again."""
    for group in _groups(bell):
        if line := _here.get(group):
            line.ring(bell)


class _Line:
    """This process's end of one group: one channel of the layer, and everybody here who hears it.

    A thousand pages that hear the same cost the layer no more than one.
    """

    def __init__(self, group: str) -> None:
        self.ears: set[Hear] = set()
        self._group = group
        self._recent: OrderedDict[int, None] = OrderedDict()
        self._tried = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self._relaying = self.loop.create_task(self._relay(), name=f"clm-feed-{group}")

    async def tried(self) -> None:
        """Wait until the layer has taken this line, or has turned out to be dead."""
        await self._tried.wait()

    def ring(self, bell: dict[str, Any]) -> None:
        """Tell everybody, unless they have been told already: through the layer, or from the log."""
        if bell["seq"] in self._recent:
            return
        self._recent[bell["seq"]] = None
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        for hear in list(self.ears):
            try:
                hear(bell)
            except Exception:
                log.exception("A listener of %s failed", self._group)

    async def end(self) -> None:
        """Leave the group."""
        self._relaying.cancel()
        with suppress(asyncio.CancelledError):
            await self._relaying

    async def _relay(self) -> None:
        while True:
            layer, channel = get_channel_layer(), ""
            try:
                async with asyncio.timeout(PATIENCE):
                    channel = await layer.new_channel()
                    await layer.group_add(self._group, channel)
                self._tried.set()
                while True:
                    self.ring(await layer.receive(channel))
            except Exception:  # each layer raises its own
                log.exception("The channel layer is dead; %s hears this process alone for %g s", self._group, REST)
            finally:
                self._tried.set()
                if channel:
                    await self._discard(layer, channel)
            await asyncio.sleep(REST)

    async def _discard(self, layer: Any, channel: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await layer.group_discard(self._group, channel)
        except Exception:  # each layer raises its own
            log.warning("The channel layer is dead; %s was left without saying so", self._group, exc_info=True)


async def join(group: str, hear: Hear) -> None:
    """Let `hear` be called for each ring of a group, through the layer or, while that is dead, of this process alone.

    When it returns no ring is missed any more.
    """
    line = _here.get(group)
    if line is None or line.loop is not asyncio.get_running_loop():
        line = _here[group] = _Line(group)
    line.ears.add(hear)
    await line.tried()


async def leave(group: str, hear: Hear) -> None:
    """Take back what `join` did; the last to leave closes the line."""
    line = _here.get(group)
    if line is None:
        return
    line.ears.discard(hear)
    if not line.ears:
        del _here[group]
        await line.end()


@asynccontextmanager
async def listening(group: str) -> AsyncIterator[Doorbell]:
    """Hear one group's rings for as long as the block lasts; over a dead layer, those of this process."""
    bind_loop()
    bell = Doorbell()
    try:
        await join(group, bell.ring)
        yield bell
    finally:
        await leave(group, bell.ring)


class Doorbell:
    """One listener's end of a group. Rings that nobody has waited for yet are one ring."""

    def __init__(self) -> None:
        self._rang = asyncio.Event()

    def ring(self, bell: dict[str, Any]) -> None:
        """Wake whoever waits."""
        self._rang.set()

    async def wait(self, *, seconds: float) -> bool:
        """Return True at the next ring, or False after so many seconds without one."""
        try:
            # Not wait_for: on Python 3.11 it loses a cancellation that meets a ring.
            async with asyncio.timeout(seconds):
                await self._rang.wait()
        except TimeoutError:
            return False
        self._rang.clear()
        return True


class Tail:
    """Rings in this process for events whose ring may be lost: another process wrote them, or the layer lost them.

    The in-memory layer ends at the process, and a shared one forgets who listens when it starts anew, so every
    process follows the log as well; one indexed query a poll. Each line knows what it has heard before.
    """

    def __init__(self) -> None:
        self._cursor: int | None = None

    async def ring_for_news(self) -> None:
        """Ring for every event since the last call."""
        for bell in await in_database(self._read):
            # Every process follows the log, so each of them rings for itself alone.
            _ring_here(bell)

    def _read(self) -> list[dict[str, Any]]:
        from sessions_app.models import SessionEvent

        if self._cursor is None:
            last = SessionEvent.objects.order_by("-seq").values_list("seq", flat=True).first()
            self._cursor = last or 0
            return []
        news = list(SessionEvent.objects.since(self._cursor).values("session_id", "seq", "kind")[:1000])
        if news:
            self._cursor = news[-1]["seq"]
        return [dict(bell) for bell in news]
