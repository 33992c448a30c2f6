"""The heartbeat of open pages, from which a page knows that its line is not dead: a browser cannot see a ping.

One clock for all pages of a process: it says something to whoever has heard nothing for a while, and looks once a
minute, in three queries for all whose turn it is, whether they are still signed in and still may see their page.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session as Browser

log = logging.getLogger("clm.pages")

#: Seconds between two heartbeats. static/js/desk/line.js gives up on a line that misses two.
HEARTBEAT = 5.0
#: Heartbeats between two looks at whether the person is still signed in and still may see this.
ADMITTED_FOR = 12
#: The clock looks so many times a heartbeat whose turn it is, so that not all are told at once.
TICKS = 10

#: Close codes, in the range that is an application's own.
SIGNED_OUT, FORBIDDEN = 4401, 4403


class Page(Protocol):
    """An open page, as its heartbeat sees it."""

    permission: str
    scope: dict[str, Any]

    @classmethod
    async def with_beat(cls) -> dict[str, str]:
        """Return what goes along with a heartbeat."""

    def offer(self, text: str) -> None:
        """Take a frame to send."""

    def refuse(self, code: int) -> None:
        """Close the socket."""


class _Heard:
    """When a page last heard its heartbeat, and how many it has heard."""

    __slots__ = ("count", "when")

    def __init__(self) -> None:
        self.count = 0
        self.when = 0.0


class _Clock:
    """The pages of one loop."""

    def __init__(self) -> None:
        self.pages: dict[Page, _Heard] = {}
        self._beats = 0
        self._ticking: asyncio.Task[None] | None = None
        self._looking: set[asyncio.Task[None]] = set()

    async def join(self, page: Page) -> None:
        """Say the first word, and go on."""
        heard = self.pages[page] = _Heard()
        heard.when = asyncio.get_running_loop().time()
        page.offer(await _text(type(page), 0))
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick(), name="clm-beats")

    def leave(self, page: Page) -> None:
        """Forget the page; the clock stops with the last one."""
        self.pages.pop(page, None)
        if not self.pages and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT / TICKS)
            due = loop.time() - HEARTBEAT
            try:
                await self._beat([page for page, heard in self.pages.items() if heard.when <= due])
            except Exception:
                log.exception("A heartbeat failed; the next one comes")

    async def _beat(self, pages: Sequence[Page]) -> None:
        texts: dict[type[Page], str] = {}
        looked_at = []
        self._beats += bool(pages)
        for number, page in enumerate(pages, 1):
            if (heard := self.pages.get(page)) is None:
                continue
            heard.count += 1
            heard.when = asyncio.get_running_loop().time()
            if (kind := type(page)) not in texts:
                texts[kind] = await _text(kind, self._beats)
            page.offer(texts[kind])
            if heard.count % ADMITTED_FOR == 0:
                looked_at.append(page)
            if number % 50 == 0:
                await asyncio.sleep(0)
        if looked_at:
            looking = asyncio.create_task(self._look(looked_at))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    async def _look(self, pages: Sequence[Page]) -> None:
        try:
            refused = await database_sync_to_async(why_not, thread_sensitive=False)(pages)
        except Exception:
            log.exception("Whether open pages may stay open could not be read; they are asked about in a minute")
            return
        for page, code in refused:
            if page in self.pages:
                page.refuse(code)


async def _text(kind: type[Page], count: int) -> str:
    # The time goes along: ages and deadlines are the server's, whatever the laptop's clock says.
    return json.dumps({"beat": count, "now": time.time(), **await kind.with_beat()})


def why_not(pages: Iterable[Page]) -> list[tuple[Page, int]]:
    """Return which of the pages must be closed, with the code: roles are taken away and people sign out meanwhile."""
    pages = list(pages)
    keys = {page: key for page in pages if (key := getattr(page.scope.get("session"), "session_key", None))}
    signed_in = set(Browser.objects.filter(pk__in=set(keys.values())).values_list("pk", flat=True))
    people = {page.scope["user"].pk for page in pages}
    users = get_user_model().objects
    there = set(users.filter(pk__in=people, is_active=True).values_list("pk", flat=True))
    may = {
        permission: set(users.with_perm(permission).filter(pk__in=people).values_list("pk", flat=True))
        for permission in {page.permission for page in pages}
    }
    refused = []
    for page in pages:
        person = page.scope["user"].pk
        if person not in there or (page in keys and keys[page] not in signed_in):
            refused.append((page, SIGNED_OUT))
        elif person not in may[page.permission]:
            refused.append((page, FORBIDDEN))
    return refused


_clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clock] = WeakKeyDictionary()


async def join(page: Page) -> None:
    """Give the page a heartbeat, beginning now."""
    await _clocks.setdefault(asyncio.get_running_loop(), _Clock()).join(page)


def leave(page: Page) -> None:
    """Take its heartbeat away."""
    if clock := _clocks.get(asyncio.get_running_loop()):
        clock.leave(page)
