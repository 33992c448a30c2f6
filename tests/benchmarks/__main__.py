"""`make bench`: measure, print one table, and fail when a bar is missed.

python -m tests.benchmarks [NAME …] [--json FILE] [--check] [--record RELEASE]; --help names what there is

`size` runs only when it is named: it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import releases
from tests.benchmarks.measure import measure

if TYPE_CHECKING:
    from tests.benchmarks.figure import Figure

#: Name -> the module that measures it, in the order of the table.
MODULES = {
    "throughput": "tests.benchmarks.throughput",
    "deciding": "tests.benchmarks.deciding",
    "submitting": "tests.benchmarks.submitting",
    "live": "tests.benchmarks.live",
    "sockets": "tests.benchmarks.sockets",
    "weight": "tests.benchmarks.weight",
    "queue": "tests.benchmarks.queue_page",
    "idle": "tests.benchmarks.idle",
    "overdue": "tests.benchmarks.overdue",
    "size": "tests.benchmarks.size",
}
#: Measured only when they are named.
LONG = frozenset({"size"})


def main() -> int:
    """Measure what was asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODULES)}; all but size when left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    parser.add_argument("--check", action="store_true", help="fail when a kept figure is 20 %% worse than last time")
    parser.add_argument("--record", metavar="RELEASE", help="keep this run's ratios as those of a release")
    size = parser.add_argument_group("size")
    size.add_argument("--sessions", type=int, metavar="N", default=10_000, help="how many, held against 1,000; 10,000")
    size.add_argument(
        "--database", metavar="URL", default="", help="on this PostgreSQL: NAME_1000 and NAME_N stay there"
    )
    size.add_argument("--keep", type=Path, metavar="DIR", help="SQLite files in this directory, found again next time")
    given = parser.parse_args()
    if unknown := set(given.names) - MODULES.keys():
        parser.error(f"no such figures: {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    figures: list[Figure] = []
    began = time.perf_counter()
    # A process and a database of its own for each, so that none meets what another left.
    with get_context("spawn").Pool(1, maxtasksperchild=1) as alone:
        for name in given.names or [name for name in MODULES if name not in LONG]:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures += alone.apply(measure, [MODULES[name], given if name in LONG else None])
    print(table(figures))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"\n{os.cpu_count()} cores, load {load}, {time.perf_counter() - began:.0f} s")
    if given.json:
        given.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=1))
    worse = releases.regressions(figures) if given.check else []
    for sentence in worse:
        print(f"WORSE  {sentence}")
    if given.record:
        releases.record(given.record, figures)
    return 0 if all(figure.ok for figure in figures) and not worse else 1


def table(figures: list[Figure]) -> str:
    """Return the figures as one table of plain text."""
    heads = ("figure", "CLM", "floor", "ratio", "bar", "ok?")
    rows = [heads, *(row(figure) for figure in figures)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def row(figure: Figure) -> tuple[str, ...]:
    """Return one figure's cells; the bar says which of them it is for."""
    by_value = figure.judged == figure.value
    sign = ">=" if figure.better == "higher" else "<="
    ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
    if not by_value:
        ratio = f"{figure.judged:.2f}"
        if figure.spread:
            ratio += f" ({figure.spread[0]:.2f}-{figure.spread[1]:.2f})"
    return (
        figure.name,
        f"{figure.value:.4g} {figure.unit}",
        f"{figure.floor:.3g} {figure.unit}" if figure.floor is not None else "",
        ratio,
        f"{sign} {figure.bar:g}{' ' + figure.unit if by_value else ''}" if figure.bar is not None else "",
        ("yes" if figure.ok else "NO") if figure.bar is not None else "",
    )


if __name__ == "__main__":
    sys.exit(main())
