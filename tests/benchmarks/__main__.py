"""`make bench`: measure, print one table, and fail when a bar is missed.

python -m tests.benchmarks [throughput live queue idle overdue] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.figure import Figure

#: Name -> the module that measures it, in the order of the table.
MODULES = {
    "throughput": "tests.benchmarks.throughput",
    "live": "tests.benchmarks.live",
    "queue": "tests.benchmarks.queue_page",
    "idle": "tests.benchmarks.idle",
    "overdue": "tests.benchmarks.overdue",
}


def main() -> int:
    """Measure what was asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODULES)}; all when left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    given = parser.parse_args()
    if unknown := set(given.names) - MODULES.keys():
        parser.error(f"no such figures: {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    figures: list[Figure] = []
    began = time.perf_counter()
    with TemporaryDirectory(prefix="clm-bench-") as directory:
        _prepare(Path(directory))
        for name in given.names or MODULES:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures += importlib.import_module(MODULES[name]).figures()
    print(table(figures))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"\n{os.cpu_count()} cores, load {load}, {time.perf_counter() - began:.0f} s")
    if given.json:
        given.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=1))
    return 0 if all(figure.ok for figure in figures) else 1


def _prepare(directory: Path) -> None:
    """Set Django up on a database of its own: the embedded profile, whatever the environment says."""
    for name in [name for name in os.environ if name.startswith("CLM_")] + ["DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "clm_site.settings",
        "CLM_DATA_DIR": str(directory),
        "CLM_SECRET_KEY": "benchmarks",
        "LANGSMITH_TRACING": "false",
    }
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, skip_checks=True)
    logging.getLogger("clm").setLevel(logging.WARNING)


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
        f"{sign} {figure.bar:g}{' ' + figure.unit if by_value else ''}",
        "yes" if figure.ok else "NO",
    )


if __name__ == "__main__":
    sys.exit(main())
