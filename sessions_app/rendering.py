"""What open pages are pushed: rendered once for everybody in this process who may see the same, never per socket.

Rings that come close together, or while a rendering is under way, are rendered together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async

log = logging.getLogger("clm.pages")

#: Seconds in which the rings of one transaction arrive; a row must not wait longer for its neighbours.
MOMENT = 0.004
#: Rings that an audience remembers, so that a socket that hears one late gets the frame that told of it.
REMEMBERED = 512


class Ring(NamedTuple):
    """An event that was announced: ids only."""

    session_id: str
    seq: int
    kind: str


#: Turns the rings that came together into the text of one frame; an empty one is sent to nobody.
Render = Callable[[Sequence[Ring]], str]


class Frame:
    """What one audience is sent for the rings that came together."""

    def __init__(self, render: Render) -> None:
        self.rings: list[Ring] = []
        self.text = ""
        self._render = render
        self._done = asyncio.Event()

    async def rendered(self) -> str:
        """Wait for the text, which is the same for everybody."""
        await self._done.wait()
        return self.text

    async def render(self) -> None:
        """Render it; one that fails is empty, because every page catches up from the database anyway (L6)."""
        rings = sorted(self.rings, key=lambda ring: ring.seq)
        try:
            # Any thread will do: the shared one is busy with the engine's steps.
            self.text = await database_sync_to_async(self._render, thread_sensitive=False)(rings)
        except Exception:
            log.exception("A frame could not be rendered")
        finally:
            self._done.set()


class Audience:
    """Everybody in this process who may see the same."""

    def __init__(self, render: Render) -> None:
        self.sockets = 0
        self._render = render
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._collecting: Frame | None = None
        self._one_at_a_time = asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()

    def frame_of(self, ring: Ring) -> Frame:
        """Return the frame that tells of `ring`: the one it belonged to, or the one that collects now."""
        if known := self._frames.get(ring.seq):
            return known
        if (frame := self._collecting) is None:
            frame = self._collecting = Frame(self._render)
            work = asyncio.get_running_loop().create_task(self._finish(frame))
            self._work.add(work)
            work.add_done_callback(self._work.discard)
        frame.rings.append(ring)
        self._frames[ring.seq] = frame
        while len(self._frames) > REMEMBERED:
            self._frames.popitem(last=False)
        return frame

    async def _finish(self, frame: Frame) -> None:
        await asyncio.sleep(MOMENT)
        async with self._one_at_a_time:
            # A ring from here on tells of what this reading may miss, so it opens a frame of its own.
            self._collecting = None
            await frame.render()


_audiences: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Audience]] = WeakKeyDictionary()


def join(name: str, render: Render) -> Audience:
    """Return the audience of that name on the running loop; the first socket of it makes it."""
    audiences = _audiences.setdefault(asyncio.get_running_loop(), {})
    audience = audiences.setdefault(name, Audience(render))
    audience.sockets += 1
    return audience


def leave(name: str) -> None:
    """Forget the audience when its last socket leaves."""
    audiences = _audiences.get(asyncio.get_running_loop(), {})
    if audience := audiences.get(name):
        audience.sockets -= 1
        if not audience.sockets:
            del audiences[name]
