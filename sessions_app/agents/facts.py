"""The facts that a gated call rests on: its tool's owner says how to read them, and CLM reads them three times.

When the call is proposed, while people decide, and at the tool itself just before it would run. Facts are few and
stable (a version, a size, a health word), never measurements that move by themselves; docs/together.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypedDict

from django.utils import timezone

from sessions_app import chain

log = logging.getLogger("clm.facts")

#: What one fact can be.
Fact = str | int | float | bool | None
#: Reads the facts for an environment and a call's arguments; raises Unreadable where it cannot.
Reader = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Fact]]]

#: Seconds after which facts that have not come count as unknown: a person waits for them, and so does the agent.
PATIENCE = 4.0
#: What the agent reads of a call that was approved and not run because of them, up to what changed.
OVERTAKEN = "the facts changed after it was approved"


class Unreadable(Exception):
    """The facts cannot be read now; its text says why, for the person who decides."""


class Reading(TypedDict):
    """The facts as they were read at one instant; `known` is false where they could not be, and `why` says why."""

    known: bool
    facts: dict[str, Fact]
    why: str
    at: str


class Change(TypedDict):
    """One fact that is not as it was; None stands for what is not known or not there."""

    name: str
    was: Fact
    now: Fact


_readers: dict[str, Reader] = {}


def declare(tool: str, reader: Reader) -> None:
    """Say how the facts under calls of `tool` (`server:tool`) are read. A `ToolSpec` with `facts` does it itself."""
    _readers[tool] = reader


def declared(tool: str) -> bool:
    """Whether anybody has said how this tool's facts are read."""
    return tool in _readers


async def read(tool: str, args: Mapping[str, Any], environment: str) -> Reading | None:
    """Return the facts under one call as they are now, or None for a tool whose owner declared none.

    Whatever goes wrong makes them unknown, which is a reading too. Call it outside of any transaction: it may wait.
    """
    reader = _readers.get(tool)
    if reader is None:
        return None
    known, facts, why = False, dict[str, Fact](), ""
    try:
        async with asyncio.timeout(PATIENCE):
            facts = chain.as_stored(dict(await reader(environment, args)))
        known = True
    except Unreadable as error:
        why = str(error)
    except TimeoutError:
        why = f"They did not come within {PATIENCE:g} seconds."
    except Exception as error:
        log.exception("The facts of %s could not be read", tool)
        why = f"{type(error).__name__} while reading them."
    return Reading(known=known, facts=facts, why=chain.as_stored(why[:300]), at=timezone.now().isoformat())


def fingerprint(reading: Reading) -> str:
    """Return the SHA-256 of what was read: the same for the same facts, whenever they were read.

    What cannot be read has one fingerprint, whatever the reason: the reasons change from try to try.
    """
    return chain.digest([reading["known"], reading["facts"]])


def changes(was: Reading, now: Reading) -> list[Change]:
    """Return each fact that is not as it was, in the order of their names."""
    names = sorted({*was["facts"], *now["facts"]})
    pairs = ((name, was["facts"].get(name), now["facts"].get(name)) for name in names)
    return [Change(name=name, was=before, now=after) for name, before, after in pairs if before != after]


def in_words(was: Reading, now: Reading) -> str:
    """Return what changed as the end of a sentence."""
    if not now["known"]:
        return f"they cannot be read any more ({now['why'].rstrip('.')})"
    if not was["known"]:
        return f"they could not be read then, and now {_list(now['facts'])}"
    found = [f"{change['name']} was {_say(change['was'])} and is {_say(change['now'])}" for change in changes(was, now)]
    return "; ".join(found) or "they are as they were"


def _list(facts: Mapping[str, Fact]) -> str:
    return ", ".join(f"{name} is {_say(value)}" for name, value in facts.items()) or "there are none"


def _say(value: Fact) -> str:
    return "not known" if value is None else str(value)
