"""The model: sessions come, are driven to a gate, wait for a person, and are driven to their end by the same workers.

A worker is one process. It has one core and so many slots: a drive holds a slot for as long as its model thinks, and
takes turns on the core for what CLM and LangGraph do themselves. A person's answer goes before a new start.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

#: Priorities, as the engine claims: an answer before a start.
RESUME, START = 0, 1

Draw = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Load:
    """How sessions come: seconds, and sessions a second."""

    #: The rate at a moment, and one that it never exceeds.
    rate: Callable[[float], float]
    most: float
    until: float


@dataclass(frozen=True, kw_only=True)
class Drive:
    """How long one drive thinks (in its slot) and works (on the core)."""

    thinks: Draw
    works: Draw


@dataclass
class Seen:
    """What was seen."""

    #: From a decision to the first step of its drive, and from a submission to its drive's.
    to_tool: list[float] = field(default_factory=list)
    to_start: list[float] = field(default_factory=list)
    #: How many waited for a slot, at each change.
    waiting: list[tuple[float, int]] = field(default_factory=list)
    sessions: int = 0

    def recovered(self, after: float) -> float | None:
        """Return when, after that moment, nobody waited any more; None when it never was so."""
        return next((when for when, number in self.waiting if when >= after and number == 0), None)


class Slots:
    """Room for so many drives. Whoever waits for it waits in order of priority, and then of coming."""

    def __init__(self, env: simpy.Environment, number: int) -> None:
        self.open = True
        self._env = env
        self._free = number
        self._waiting: tuple[deque[simpy.Event], ...] = (deque(), deque())

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting))

    def take(self, priority: int) -> simpy.Event:
        """Return the event of having one."""
        had = self._env.event()
        self._waiting[priority].append(had)
        self.grant()
        return had

    def give(self) -> None:
        """Give one back."""
        self._free += 1
        self.grant()

    def grant(self) -> None:
        """Let those in who can be let in; SimPy's own resource sorts its whole queue for each."""
        while self.open and self._free and (queue := next(filter(None, self._waiting), None)):
            self._free -= 1
            queue.popleft().succeed()


class Desk:
    """One installation, for as long as it is simulated."""

    def __init__(self, *, workers: int, slots: int, start: Drive, resume: Drive, person: Draw, seed: int) -> None:
        self._random = random.Random(seed)
        self.env = simpy.Environment()
        self.seen = Seen()
        self._slots = Slots(self.env, workers * slots)
        self._cores = simpy.Resource(self.env, capacity=workers)
        self._start, self._resume, self._person = start, resume, person

    def run(self, load: Load, *, outage: tuple[float, float] | None = None) -> Seen:
        """Let sessions come, to the end; during an outage nothing is driven, and everything else goes on."""
        if outage:
            self.env.process(self._outage(*outage))
        self.env.process(self._arrivals(load))
        self.env.run()
        return self.seen

    def _arrivals(self, load: Load) -> Generator[Any, Any, None]:
        # Thinning: come at the greatest rate, and count as often as the moment's rate says.
        while True:
            yield self.env.timeout(self._random.expovariate(load.most))
            if self.env.now >= load.until:
                return
            if self._random.random() * load.most <= load.rate(self.env.now):
                self.env.process(self._session())

    def _session(self) -> Generator[Any, Any, None]:
        self.seen.sessions += 1
        yield from self._driven(START, self._start, self.seen.to_start)
        yield self.env.timeout(self._person())
        yield from self._driven(RESUME, self._resume, self.seen.to_tool)

    def _driven(self, priority: int, drive: Drive, waits: list[float]) -> Generator[Any, Any, None]:
        asked = self.env.now
        had = self._slots.take(priority)
        self._note()
        yield had
        waits.append(self.env.now - asked)
        self._note()
        yield self.env.timeout(drive.thinks())
        with self._cores.request() as core:
            yield core
            yield self.env.timeout(drive.works())
        self._slots.give()

    def _note(self) -> None:
        self.seen.waiting.append((self.env.now, self._slots.waiting))

    def _outage(self, begins: float, ends: float) -> Generator[Any, Any, None]:
        yield self.env.timeout(begins)
        self._slots.open = False
        yield self.env.timeout(ends - begins)
        self._slots.open = True
        self._slots.grant()
        self._note()


def diurnal(a_day: float) -> tuple[Callable[[float], float], float]:
    """Return the rate at a second of the day, and its greatest, 8/3 of the mean: quiet at night, busiest at 14."""
    most = a_day / 86400 * 8 / 3

    def rate(second: float) -> float:
        # The mean of a raised cosine's square is 3/8.
        return most * ((1 + math.cos(2 * math.pi * (second / 3600 - 14) / 24)) / 2) ** 2

    return rate, most


def with_storm(
    rate: Callable[[float], float], most: float, *, at: float, sessions: int, seconds: float
) -> tuple[Callable[[float], float], float]:
    """Return the rate with so many sessions more within so many seconds: one fault that sets off every alert."""
    more = sessions / seconds

    def stormy(second: float) -> float:
        return rate(second) + (more if at <= second < at + seconds else 0)

    return stormy, most + more


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def erlang_c(rate: float, service: float, servers: int) -> float:
    """Return the mean time in the queue of M/M/c, from theory."""
    offered = rate * service
    busy = offered / servers
    below = sum(offered**n / math.factorial(n) for n in range(servers))
    full = offered**servers / math.factorial(servers) / (1 - busy)
    return full / (below + full) * service / (servers - offered)
