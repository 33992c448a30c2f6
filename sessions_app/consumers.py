"""The sockets of open pages. They push what a page shows already; a page without one shows the same after a reload."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from channels.consumer import get_handler_name
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.template.loader import render_to_string

from sessions_app import beats, charts, feed, rendering, timeline
from sessions_app.beats import FORBIDDEN, SIGNED_OUT
from sessions_app.models import Session
from sessions_app.rendering import Ring

#: Frames that may wait for a slow page. One that leaves more unread is closed, connects again and catches up.
MOST_WAITING = 64
#: Events that are pushed into an open timeline at once; after more of them the page asks again as a whole.
MOST_PUSHED = 100

#: Events that may change the chart of what was read.
CHARTED = frozenset({"tool_invoked", "gate_fired", "gate_decided", "gate_expired"})

#: The kind of the ring that a new connection makes for itself, to be told how things stand; no event has it.
CONNECTED = "connected"
_connections = itertools.count(1)

#: Close codes, in the range that is an application's own.
NO_SUCH_SESSION, TOO_SLOW = 4404, 4408


class PageConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One open page: hears rings, and sends the frames that are rendered once for its whole audience."""

    #: Pages hear through their audience, which hears through the feed: no channel of the layer for each.
    channel_layer_alias = ""
    permission = ""

    #: Set by `enter`: the group to hear and the audience to belong to.
    group = ""
    audience_name = ""

    def render(self, rings: Sequence[Ring]) -> str:
        """Return the frame for rings that came together; it must hold nothing of a person."""
        raise NotImplementedError

    def cares(self, ring: Ring) -> bool:
        """Whether the page shows anything of such an event; a ring below zero is of none."""
        return ring.seq > 0

    async def enter(self) -> int | None:
        """Set `group` and `audience_name`; or return the code to close with."""
        raise NotImplementedError

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Take a message. Channels would cross into the database's thread each time, to close connections of it."""
        await getattr(self, get_handler_name(message))(message)

    # Life -------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Let in whoever may see the page, then listen."""
        self._audience: rendering.Audience | None = None
        self._waiting: deque[str] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._refused = False
        feed.bind_loop()
        refused = await database_sync_to_async(self._why_not, thread_sensitive=False)() or await self.enter()
        # Accepted first: a browser is told nothing of a handshake that was refused.
        await self.accept()
        if refused:
            await self.close(refused)
            return
        self._audience = rendering.join(self.audience_name, self, self.render, self.cares)
        await feed.join(self.group, self._audience.rang)
        await beats.join(self)
        # Many pages that come back at once, after a restart, are told with one rendering.
        if self.cares(ring := Ring("", -next(_connections), CONNECTED)):
            self._audience.greet(self, ring)

    async def disconnect(self, code: int) -> None:
        """Stop listening."""
        if self._audience is None:
            return
        beats.leave(self)
        if rendering.leave(self.audience_name, self):
            await feed.leave(self.group, self._audience.rang)
        if self._sending is not None:
            self._sending.cancel()
            with suppress(asyncio.CancelledError):
                await self._sending

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Hear nothing from the page: everything that it wants is a request."""

    def offer(self, text: str) -> None:
        """Send a frame when the page has taken those before it; one that takes none any more is let go.

        The texts are shared by the whole audience, so what waits for a slow page costs next to nothing.
        """
        if self._refused:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.refuse(TOO_SLOW)
            return
        self._waiting.append(text)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_waiting())

    def refuse(self, code: int) -> None:
        """Close the socket at once, whatever waits to be sent."""
        self._refused = True
        beats.leave(self)
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()
        self._sending = asyncio.create_task(self.close(code))

    async def _send_waiting(self) -> None:
        while self._waiting:
            await self.send(self._waiting.popleft())

    @classmethod
    async def with_beat(cls) -> dict[str, str]:
        """Return what goes along with a heartbeat: the same for every page of the kind, and cheap."""
        return {}

    # Who ---------------------------------------------------------------------------------------------------------

    def _why_not(self) -> int | None:
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            return SIGNED_OUT
        return None if user.has_perm(self.permission) else FORBIDDEN


def frame(content: str, *news: str) -> str:
    """Return a frame: htmx swaps `content`, and the page is told of `news` that it may want to ask for."""
    return json.dumps({"content": content, "news": list(news)}) if content.strip() or news else ""


class SessionPageConsumer(PageConsumer):
    """A session's page: its head, the graph's strip and the timeline."""

    permission = "sessions_app.view_session"

    async def enter(self) -> int | None:
        """Find the session."""
        self.session_id = str(self.scope["url_route"]["kwargs"]["pk"])
        self.group = feed.group_of(self.session_id)
        self.audience_name = self.group
        there = Session.objects.filter(pk=self.session_id).exists
        return None if await database_sync_to_async(there, thread_sensitive=False)() else NO_SUCH_SESSION

    def render(self, rings: Sequence[Ring]) -> str:
        """Return the new events in their places, and the head as it stands now."""
        session = Session.objects.select_related("requester").get(pk=self.session_id)
        if len(rings) > MOST_PUSHED:
            return frame("", "session", "timeline")
        items = timeline.around(session, [ring.seq for ring in rings])
        context = {**timeline.shown(session), "items": items, "live": True}
        if any(ring.kind in CHARTED for ring in rings):
            context |= charts.shown(session)
        if any(ring.kind == "session.status_changed" for ring in rings):
            context["says"] = f"The session is {session.get_status_display()}."
        content = render_to_string("sessions/_push.html", context)
        # What a person may do now is theirs, so it is not in the frame: the page asks when it changes.
        begins = any(ring.kind == "session.rerun_requested" for ring in rings)
        ends = session.ended and any(ring.kind == "session.status_changed" for ring in rings)
        return frame(content, "session", *(["timeline"] if begins or ends else []))
