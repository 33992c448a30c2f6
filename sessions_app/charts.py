"""Readings as small line charts: where each point stands. The template draws them as inline SVG.

Readings come in bursts with a long wait between them, so they stand side by side in their order, and what happened
between them stands where it happened; the legend and the table have the times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sessions_app.models import Session
from sessions_app.readings import History, Mark, Reading, history_of

#: Where lines run in a drawing of 300 x 96, which the page scales; names and letters stand above them.
LEFT, RIGHT, TOP, BOTTOM = 6, 294, 34, 90


@dataclass(frozen=True, kw_only=True)
class Point:
    """One reading in a panel."""

    x: float
    y: float
    words: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One mark in every panel: an upright line with its letter."""

    x: float
    letter: str
    mark: Mark


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One quantity over the readings."""

    name: str
    key: str
    points: list[Point]
    top_words: str
    #: The height of what there is to use up, such as the size of the pool.
    limit: float | None = None

    @property
    def path(self) -> str:
        """The line through its points."""
        return "M" + " L".join(f"{point.x:g} {point.y:g}" for point in self.points)

    @property
    def first(self) -> Point:
        """Where it began."""
        return self.points[0]

    @property
    def last(self) -> Point:
        """Where it stands."""
        return self.points[-1]

    @property
    def says(self) -> str:
        """The panel in a sentence."""
        words = [point.words for point in self.points]
        highest = self.top_words
        return f"{self.name}: from {words[0]} to {words[-1]} in {len(words)} readings; the scale ends at {highest}."


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table that says the same: a reading, or what happened."""

    at: datetime
    text: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What was read of one service around the fix."""

    service: str
    panels: list[Panel]
    rules: list[Rule]
    rows: list[Row]


@dataclass(frozen=True)
class _Quantity:
    name: str
    key: str
    value: Callable[[Reading], float | None]
    words: Callable[[float], str]
    limit: Callable[[Reading], float | None] = lambda reading: None

    def says(self, reading: Reading) -> str:
        """Return the value in words, with what there is of it."""
        value, limit = self.value(reading), self.limit(reading)
        if value is None:
            return "not read"
        return self.words(value) + (f" of {self.words(limit)}" if limit else "")


QUANTITIES = (
    _Quantity("Failed requests", "errors", lambda r: r.error_ratio, lambda v: f"{v * 100:.0f} %"),
    _Quantity("Latency, p95", "latency", lambda r: r.p95_ms, lambda v: f"{v:,.0f} ms"),
    _Quantity("Pool in use", "pool", lambda r: r.pool_used, lambda v: f"{v:.0f}", lambda r: r.pool_size),
)


def shown(session: Session, *, until: datetime | None = None, events: bool = True) -> dict[str, Any]:
    """Return the session's chart for a template, or nothing to draw; without `events` it is one query."""
    history = history_of(session, until=until, events=events)
    return {"chart": draw(history) if history else None}


def draw(history: History) -> Chart:
    """Return where everything stands: readings and marks side by side, in the order in which they came."""
    slots: list[Reading | Mark] = sorted(
        [*history.readings, *history.marks], key=lambda one: (one.at, isinstance(one, Mark))
    )
    wide = (RIGHT - LEFT) / max(1, len(slots) - 1)
    places = {id(one): round(LEFT + index * wide, 1) for index, one in enumerate(slots)}
    rules = [
        Rule(x=places[id(mark)], letter=chr(ord("A") + index), mark=mark) for index, mark in enumerate(history.marks)
    ]
    panels = [panel for quantity in QUANTITIES if (panel := _panel(quantity, history.readings, places))]
    shown_ones = [quantity for quantity in QUANTITIES if any(quantity.key == panel.key for panel in panels)]
    return Chart(service=history.service, panels=panels, rules=rules, rows=[_row(one, shown_ones) for one in slots])


def _panel(quantity: _Quantity, readings: Sequence[Reading], places: dict[int, float]) -> Panel | None:
    known = [(one, value) for one in readings if (value := quantity.value(one)) is not None]
    if len(known) < 2:
        return None
    limits = [limit for one in readings if (limit := quantity.limit(one)) is not None]
    top = max([*(value for _, value in known), *limits]) or 1

    def height(value: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * value / top, 1)

    return Panel(
        name=quantity.name,
        key=quantity.key,
        points=[Point(x=places[id(one)], y=height(value), words=quantity.says(one)) for one, value in known],
        top_words=quantity.words(top),
        limit=height(limits[-1]) if limits else None,
    )


def _row(one: Reading | Mark, quantities: Sequence[_Quantity]) -> Row:
    if isinstance(one, Mark):
        return Row(at=one.at, text=one.text)
    return Row(at=one.at, values=tuple(quantity.says(one) for quantity in quantities))
