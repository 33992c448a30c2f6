"""The sockets of open pages. They push what a page shows already; a page without one shows the same after a reload."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth import get_user_model
from django.template.loader import render_to_string

from sessions_app import charts, feed, rendering, timeline
from sessions_app.models import Session
from sessions_app.rendering import Frame, Ring

#: Seconds between two heartbeats, from which a page knows that the line is not dead: a browser cannot see a ping.
#: static/js/desk/line.js gives up on a line that misses two.
HEARTBEAT = 5.0
#: Heartbeats between two looks at whether the person is still signed in and still may see this.
ADMITTED_FOR = 12
#: Events that are pushed into an open timeline at once; after more of them the page asks again as a whole.
MOST_PUSHED = 100

#: Events that may change the chart of what was read.
CHARTED = frozenset({"tool_invoked", "gate_fired", "gate_decided", "gate_expired"})

#: The kind of the ring that a new connection makes for itself, to be told how things stand; no event has it.
CONNECTED = "connected"
_connections = itertools.count(1)

#: Close codes, in the range that is an application's own.
SIGNED_OUT, FORBIDDEN, NO_SUCH_SESSION = 4401, 4403, 4404


class PageConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One open page: hears rings, and sends the frames that are rendered once for its whole audience."""

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

    # Life -------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Let in whoever may see the page, then listen."""
        self._audience: rendering.Audience | None = None
        self._waiting: deque[Frame] = deque()
        self._recent: deque[Frame] = deque(maxlen=64)
        self._sending: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        feed.bind_loop()
        refused = await database_sync_to_async(self._why_not, thread_sensitive=False)() or await self.enter()
        # Accepted first: a browser is told nothing of a handshake that was refused.
        await self.accept()
        if refused:
            await self.close(refused)
            return
        self._audience = rendering.join(self.audience_name, self.render)
        await feed.join(self.group, self.channel_name, self.feed_rang)
        await self._send_beat(0)
        # Many pages that come back at once, after a restart, are told with one rendering.
        self._hear(Ring("", -next(_connections), CONNECTED))
        self._beating = asyncio.create_task(self._beat())

    async def disconnect(self, code: int) -> None:
        """Stop listening."""
        if self._audience is None:
            return
        await feed.leave(self.group, self.channel_name, self.feed_rang)
        rendering.leave(self.audience_name)
        for task in (self._beating, self._sending):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Hear nothing from the page: everything that it wants is a request."""

    async def feed_rang(self, bell: dict[str, Any]) -> None:
        """Queue the frame that tells of this event. Waiting for it here would keep rings from coming together."""
        self._hear(Ring(bell["session_id"], bell["seq"], bell["kind"]))

    def _hear(self, ring: Ring) -> None:
        if self._audience is None or not self.cares(ring):
            return
        frame = self._audience.frame_of(ring)
        if frame in self._recent:
            return
        self._recent.append(frame)
        self._waiting.append(frame)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        while self._waiting:
            if text := await self._waiting.popleft().rendered():
                await self.send(text)

    async def _beat(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(HEARTBEAT)
            count += 1
            if count % ADMITTED_FOR == 0:
                refused = await database_sync_to_async(self._why_not_any_more, thread_sensitive=False)()
                if refused:
                    await self.close(refused)
                    return
            await self._send_beat(count)

    async def _send_beat(self, count: int) -> None:
        # The time goes along: ages and deadlines are the server's, whatever the laptop's clock says.
        await self.send(json.dumps({"beat": count, "now": time.time(), **await self.with_beat()}))

    async def with_beat(self) -> dict[str, str]:
        """Return what goes along with a heartbeat: the same for the whole audience, and cheap."""
        return {}

    # Who ---------------------------------------------------------------------------------------------------------

    def _why_not(self) -> int | None:
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            return SIGNED_OUT
        return None if user.has_perm(self.permission) else FORBIDDEN

    def _why_not_any_more(self) -> int | None:
        """Ask again with a fresh person: roles are taken away and people sign out while pages stay open."""
        kept = self.scope.get("session")
        if kept is not None and kept.session_key and not kept.exists(kept.session_key):
            return SIGNED_OUT
        user = get_user_model().objects.filter(pk=self.scope["user"].pk, is_active=True).first()
        if user is None:
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
