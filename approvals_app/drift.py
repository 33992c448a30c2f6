"""Read the facts under a gate's calls, once for everybody who asks at the same time, and say what changed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import async_to_sync

from sessions_app import chain
from sessions_app.agents import facts

#: Seconds for which a reading serves everybody who has the card open.
FRESH = 4.0
#: Gates whose latest reading is kept in this process.
KEPT = 500

#: One reading of one call: `facts.Reading` with `tool_call_id` and `tool`.
Readings = list[dict[str, Any]]


@dataclass
class _Latest:
    """The latest reading of one gate; whoever wants one while it is being made waits for that one."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    at: float = float("-inf")
    readings: Readings = field(default_factory=list)


_latest: OrderedDict[int, _Latest] = OrderedDict()
_keeping = threading.Lock()


def read(gate_id: int, calls: Sequence[dict[str, Any]], environment: str, *, max_age: float = FRESH) -> Readings:
    """Return the facts under a gate's calls, not older than `max_age` seconds."""
    with _keeping:
        latest = _latest.setdefault(gate_id, _Latest())
        _latest.move_to_end(gate_id)
        while len(_latest) > KEPT:
            _latest.popitem(last=False)
    asked = time.monotonic()
    with latest.lock:
        # One that began while this caller waited is as fresh as its own would be.
        if latest.at < asked - max_age:
            began = time.monotonic()
            latest.readings = read_now(calls, environment)
            latest.at = began
        return latest.readings


def read_now(calls: Sequence[dict[str, Any]], environment: str) -> Readings:
    """Read the facts of every call whose tool's owner declared any."""

    async def gather() -> Readings:
        found = await asyncio.gather(*(facts.read(call["tool"], call["args"], environment) for call in calls))
        return [
            {"tool_call_id": call["tool_call_id"], "tool": call["tool"], **reading}
            for call, reading in zip(calls, found, strict=True)
            if reading is not None
        ]

    return async_to_sync(gather)()


def forget() -> None:
    """Drop every reading of this process."""
    _latest.clear()


def fingerprint_of(readings: Sequence[dict[str, Any]]) -> str:
    """Return one fingerprint for the facts of all calls, in their order."""
    return chain.digest([[one["tool_call_id"], facts.fingerprint(_reading(one))] for one in readings])


def changes(was: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every fact that is not as it was, with the tool whose call rests on it."""
    return [
        {"tool": before["tool"], **change}
        for before, after in _pairs(was, now)
        for change in facts.changes(_reading(before), _reading(after))
    ]


def in_words(was: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> str:
    """Return what changed as the end of a sentence."""
    said = [
        facts.in_words(_reading(before), _reading(after))
        for before, after in _pairs(was, now)
        if facts.fingerprint(_reading(before)) != facts.fingerprint(_reading(after))
    ]
    return "; ".join(dict.fromkeys(said))


def _pairs(was: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pair the readings of the same call; one that is not read any more is not known."""
    later = {one["tool_call_id"]: one for one in now}
    gone = {"known": False, "facts": {}, "why": "nobody says how to read them here", "at": ""}
    return [(one, later.get(one["tool_call_id"], {**one, **gone})) for one in was]


def _reading(one: dict[str, Any]) -> facts.Reading:
    return facts.Reading(known=one["known"], facts=one["facts"], why=one["why"], at=one["at"])
