"""`make hosts`: sessions a minute to their gate with three workers, each on a host of its own, against one.

A model's answer takes a second, as it does in life, and a worker drives two sessions at once: what is measured is
whether workers stand in each other's way, not how many processors this machine has.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.hosts.cluster import Cluster
from tests.hosts.machines import until
from tests.hosts.network import why_not

SESSIONS = 24
CONCURRENCY = 2


def sessions_a_minute(workers: int) -> float:
    """Return how many sessions so many workers bring to their gate in a minute."""
    with (
        tempfile.TemporaryDirectory(prefix="clm-hosts-") as directory,
        Cluster(Path(directory), workers=workers, concurrency=CONCURRENCY, CLM_LOOK_SECONDS="1") as cluster,
    ):
        began = time.monotonic()
        for _ in range(SESSIONS):
            cluster.people.submit()
        until(lambda: len(cluster.people.waiting()) == 2 * SESSIONS, cluster.output, seconds=240)
        return 60 * SESSIONS / (time.monotonic() - began)


def main() -> int:
    """Measure, and print the one line."""
    if reason := why_not():
        print(f"Cannot: {reason}.")
        return 1
    one, three = sessions_a_minute(1), sessions_a_minute(3)
    print(f"one worker {one:.0f} sessions a minute, three workers {three:.0f}: {three / one:.2f} times as many")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
