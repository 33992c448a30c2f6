"""What each release took, as ratios to the floor of its own run: machines differ, ratios stay.

`--record NAME` adds a row to `releases.json`; `--check` compares this run with the last row.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.figure import Figure

FILE = Path(__file__).with_name("releases.json")
#: A figure that is worse by more than this fails the check.
REGRESSION = 0.2
#: The figures that are kept. Others vary more from run to run than a regression that matters.
KEPT = ("idle memory of the server (PSS)", "processor time to the first answer", "imports, processor time")


def kept(figures: Sequence[Figure]) -> dict[str, float]:
    """Return what is kept of a run: ratios, and counts of queries as they are."""
    found: dict[str, float] = {}
    for figure in figures:
        if figure.unit == "queries":
            found[figure.name] = figure.value
        elif figure.name in KEPT and figure.ratio is not None:
            found[figure.name] = round(figure.ratio, 3)
    return found


def record(name: str, figures: Sequence[Figure], *, file: Path = FILE) -> None:
    """Add a release's row, or write the one with its name anew."""
    rows = [row for row in _rows(file) if row["release"] != name]
    rows.append(
        {
            "release": name,
            "measured": datetime.now(UTC).date().isoformat(),
            "python": platform.python_version(),
            "kept": kept(figures),
        }
    )
    file.write_text(json.dumps(rows, indent=1) + "\n")


def regressions(figures: Sequence[Figure], *, file: Path = FILE) -> list[str]:
    """Return a sentence for every kept figure that is worse than in the last release by more than `REGRESSION`."""
    rows = _rows(file)
    if not rows:
        return [f"{file.name} has no release to compare with: run with --record NAME first"]
    last, now = rows[-1], kept(figures)
    both = [name for name in now if name in last["kept"]]
    if not both:
        return ["nothing was measured that is kept over releases: run it with `idle`"]
    return [
        f"{name}: {now[name]:g}, and {last['kept'][name]:g} in {last['release']}"
        for name in both
        if now[name] > last["kept"][name] * (1 + REGRESSION)
    ]


def _rows(file: Path) -> list[dict[str, Any]]:
    return list(json.loads(file.read_text())) if file.exists() else []
