"""One measured figure, and the row of the table that it becomes."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured, the floor it stands against, and the bar for one of its numbers.

    `judged` is the number that the bar is for: mostly the ratio, for some figures the value itself. A figure without a
    bar is there to be read.
    """

    name: str
    value: float
    unit: str
    judged: float
    bar: float | None
    better: str
    floor: float | None = None
    spread: tuple[float, float] | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def paired(
        cls, name: str, ours: Sequence[float], floors: Sequence[float], *, unit: str, bar: float | None, better: str
    ) -> Figure:
        """Return the figure of readings that took turns with those of their floor: ratios are within a turn."""
        ratios = [mine / floor for mine, floor in zip(ours, floors, strict=True)]
        return cls(
            name=name,
            value=statistics.median(ours),
            unit=unit,
            floor=statistics.median(floors),
            judged=statistics.median(ratios),
            bar=bar,
            better=better,
            spread=(min(ratios), max(ratios)),
            notes={"ours": list(ours), "floors": list(floors)},
        )

    @property
    def ok(self) -> bool:
        """Whether the bar is met, where there is one."""
        if self.bar is None:
            return True
        compare = operator.ge if self.better == "higher" else operator.le
        return bool(compare(self.judged, self.bar))

    @property
    def ratio(self) -> float | None:
        """The value over its floor, where it has one."""
        return self.value / self.floor if self.floor else None

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "floor": self.floor,
            "judged": self.judged,
            "bar": self.bar,
            "better": self.better,
            "ok": self.ok,
            "spread": self.spread,
            "notes": self.notes,
        }
