"""What open pages are pushed: rendered once for everybody in this process who may see the same, never per socket.

Rings that come close together, or while a rendering is under way, are rendered together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.db import InterfaceError, OperationalError

log = logging.getLogger("clm.pages")

#: Seconds in which the rings of one transaction arrive; a row must not wait longer for its neighbours.
MOMENT = 0.004
#: Seconds until a rendering is tried again for which the database did not answer.
AGAIN = 1.0
#: Seconds of telling all pages after which the next frame waits as long, and the longest such wait.
LONG, LONGEST_REST = 0.05, 1.0
#: Pages that are told before the loop does something else.
AT_ONCE = 50


class Ring(NamedTuple):
    """An event that was announced: ids only."""

    session_id: str
    seq: int
    kind: str


#: Turns the rings that came together into the text of one frame; an empty one is sent to nobody.
Render = Callable[[Sequence[Ring]], str]


class Listener(Protocol):
    """One open page, as its audience sees it."""

    def offer(self, text: str) -> None:
        """Take a frame to send, without waiting for the page to take it."""


class Frame:
    """What an audience is sent for the rings that came together."""

    def __init__(self) -> None:
        self.rings: list[Ring] = []
        #: Whether it is for everybody, and for whom it is where it is not.
        self.for_all = False
        self.newcomers: list[Listener] = []


class Audience:
    """Everybody in this process who may see the same. It hears for all of them, renders once and tells each."""

    def __init__(self, render: Render, cares: Callable[[Ring], bool]) -> None:
        self.pages: set[Listener] = set()
        self._render = render
        self._cares = cares
        self._collecting: Frame | None = None
        self._one_at_a_time = asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()

    def rang(self, bell: dict[str, Any]) -> None:
        """Tell all pages of what the feed rings for."""
        ring = Ring(bell["session_id"], bell["seq"], bell["kind"])
        if not self._cares(ring):
            return
        frame = self._frame()
        frame.rings.append(ring)
        frame.for_all = True

    def greet(self, page: Listener, ring: Ring) -> None:
        """Tell one page how things stand; many that come at once are told with one rendering."""
        frame = self._frame()
        frame.rings.append(ring)
        frame.newcomers.append(page)

    def _frame(self) -> Frame:
        if (frame := self._collecting) is None:
            frame = self._collecting = Frame()
            work = asyncio.get_running_loop().create_task(self._finish(frame))
            self._work.add(work)
            work.add_done_callback(self._work.discard)
        return frame

    async def _finish(self, frame: Frame) -> None:
        await asyncio.sleep(MOMENT)
        async with self._one_at_a_time:
            # A ring from here on tells of what this reading may miss, so it opens a frame of its own.
            self._collecting = None
            if text := await self._rendered(sorted(frame.rings, key=lambda ring: ring.seq)):
                await self._tell(text, list(self.pages) if frame.for_all else frame.newcomers)

    async def _rendered(self, rings: list[Ring]) -> str:
        """Return the text, which is the same for everybody, or "" where it cannot be made.

        It is tried again until the database answers: what was rung for is rung for once, and a page that stays
        connected has nothing else to catch up by.
        """
        while self.pages:
            try:
                # Any thread will do: the shared one is busy with the engine's steps.
                text: str = await database_sync_to_async(self._render, thread_sensitive=False)(rings)
            except (OperationalError, InterfaceError):
                log.warning("The database does not answer; a frame waits for it", exc_info=True)
                await asyncio.sleep(AGAIN)
            except Exception:
                log.exception("A frame could not be rendered")
                return ""
            else:
                return text
        return ""

    async def _tell(self, text: str, pages: Sequence[Listener]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, page in enumerate(pages, 1):
            page.offer(text)
            if number % AT_ONCE == 0:
                # What was offered goes out, and whatever else the server does goes on.
                await asyncio.sleep(0)
        if (took := loop.time() - began) > LONG:
            # What rings meanwhile is told together, so telling takes half of this process at most.
            await asyncio.sleep(min(took, LONGEST_REST))


_audiences: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Audience]] = WeakKeyDictionary()


def join(name: str, page: Listener, render: Render, cares: Callable[[Ring], bool]) -> Audience:
    """Return the audience of that name on the running loop, with the page in it; its first page makes it."""
    audiences = _audiences.setdefault(asyncio.get_running_loop(), {})
    audience = audiences.setdefault(name, Audience(render, cares))
    audience.pages.add(page)
    return audience


def leave(name: str, page: Listener) -> bool:
    """Take the page out; return True when it was the last one, with which the audience is forgotten."""
    audiences = _audiences.get(asyncio.get_running_loop(), {})
    audience = audiences.get(name)
    if audience is None or page not in audience.pages:
        return False
    audience.pages.discard(page)
    if audience.pages:
        return False
    del audiences[name]
    return True
