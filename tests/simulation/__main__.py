"""`make simulate`: what growth costs, as one table (docs/scale.md). Seeded, so it prints the same every time.

python -m tests.simulation [--measured FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.simulation.desk import Desk, Drive, Load, Seen, diurnal, percentile, with_storm

#: Gates a day, and the pages that are open then.
SIZES = ((10, 20), (1_000, 300), (100_000, 10_000))
SEED = 20261122

# Assumed, since it is not CLM's: what a model takes before and after the gate, and a person to decide; seconds.
MODEL_TO_GATE, MODEL_TO_END, PERSON = 30.0, 10.0, 240.0
#: `concurrent_runs`, as it is shipped.
SLOTS = 16
#: A drive that was decided on begins within so many seconds, 99 times of 100, in a storm.
PROMPT = 2.0
#: How full a core may be in the busiest hour.
FULL = 0.7
#: A page hears of a gate within so many seconds; so long may telling all pages of a process take, half of its core.
TOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class Row:
    """One size, and what it takes."""

    gates: int
    pages: int
    peak: float
    workers: int
    busy: float
    wait_median: float
    wait_99: float
    recovered: float | None
    measured: dict[str, Any]

    def cells(self) -> dict[str, str]:
        """Return the row of the table, by its heads."""
        m, month = self.measured, self.gates * 30
        web = max(1, math.ceil(self.pages * m["cpu_frame_s"] / TOLD))
        beats = self.pages / m["heartbeat_s"] * m["cpu_frame_s"]
        every = self.peak * m["frames"] * self.pages * m["cpu_frame_s"]
        back = self.pages * (m["cpu_connect_s"] + m["cpu_page_get_s"]) / web
        memory = (self.workers + web) * m["mb_a_process"] + self.pages * m["kb_a_page"] / 1024
        return {
            "gates a day": f"{self.gates:,}",
            "pages": f"{self.pages:,}",
            "peak, sessions/s": f"{self.peak:.2g}",
            "workers": str(self.workers),
            "their cores": f"{self.busy * self.workers:.2f}",
            "decision to tool, median": f"{self.wait_median:.2f} s",
            "99 of 100": f"{self.wait_99:.2f} s",
            "after an hour down": "-" if self.recovered is None else f"{self.recovered / 60:.0f} min",
            "web processes": str(web),
            "cores, every frame to every page": f"{every + beats:.2f}",
            "all pages back": f"{back:.0f} s",
            "memory": f"{memory / 1024:.1f} GB",
            "statements/s": f"{self.peak * m['statements']:.0f}",
            "events a month": f"{month * m['events'] / 1e6:.3g} M",
            "records a month": f"{month * m['records_kb'] / 1024**2:.3g} GB",
            "checkpoints a month": f"{month * m['checkpoints_kb'] / 1024**2:.3g} GB",
        }


def simulated(gates: int, pages: int, measured: dict[str, Any]) -> Row:
    """Find the workers that this size needs, in its busiest hour and in a storm, and see how it comes back."""
    _, peak = diurnal(gates)
    seconds = max(7200.0, 3000 / peak)
    storm = max(3, gates // 200)
    rate, most = with_storm(lambda _: peak, peak, at=seconds / 2, sessions=storm, seconds=60)
    works = measured["cpu_to_gate_s"] + measured["cpu_to_end_s"] + measured["cpu_decide_s"]
    thinks = MODEL_TO_GATE + MODEL_TO_END
    workers = max(1, math.ceil(peak * works / FULL), math.ceil(peak * thinks / SLOTS / FULL))
    while True:
        seen = _desk(workers, measured).run(Load(rate=rate, most=most, until=seconds))
        if percentile(seen.to_tool, 0.99) <= PROMPT:
            break
        workers += max(1, workers // 8)
    # An hour at the peak, and as long afterwards as it takes.
    outage = (600.0, 4200.0)
    down: Seen = _desk(workers, measured).run(Load(rate=lambda _: peak, most=peak, until=4200 + 7200), outage=outage)
    recovered = down.recovered(outage[1])
    return Row(
        gates=gates,
        pages=pages,
        peak=peak,
        workers=workers,
        busy=peak * works / workers,
        wait_median=percentile(seen.to_tool, 0.5),
        wait_99=percentile(seen.to_tool, 0.99),
        recovered=None if recovered is None else recovered - outage[1],
        measured=measured,
    )


def _desk(workers: int, measured: dict[str, Any]) -> Desk:
    chance = random.Random(SEED)

    def about(mean: float, spread: float) -> float:
        return chance.lognormvariate(math.log(mean) - spread**2 / 2, spread)

    return Desk(
        workers=workers,
        slots=SLOTS,
        start=Drive(thinks=lambda: about(MODEL_TO_GATE, 0.6), works=lambda: about(measured["cpu_to_gate_s"], 0.3)),
        resume=Drive(thinks=lambda: about(MODEL_TO_END, 0.6), works=lambda: about(measured["cpu_to_end_s"], 0.3)),
        person=lambda: about(PERSON, 1.0),
        seed=SEED,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the sizes beside each other, one figure a line."""
    columns = [row.cells() for row in rows]
    lines = [[head, *(cells[head] for cells in columns)] for head in columns[0]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns) + 1)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--measured", type=Path, default=Path(__file__).with_name("measured.json"), metavar="FILE")
    measured = json.loads(parser.parse_args().measured.read_text())
    print(table([simulated(gates, pages, measured) for gates, pages in SIZES]))
    print(f"\nFed by what was measured on {measured['measured']}: {measured['where']}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
