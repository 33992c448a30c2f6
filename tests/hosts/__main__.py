"""`make hosts`: what workers on hosts of their own do for throughput, and how soon a decided tool starts on one.

A model's answer takes a second, as it does in life, and a worker drives two sessions at once: what is measured is
whether workers stand in each other's way, not how many processors this machine has.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.hosts.cluster import Cluster
from tests.hosts.machines import until
from tests.hosts.network import why_not

SESSIONS = 24
CONCURRENCY = 2
#: Milliseconds that whoever approved may wait for the tool, in the median.
BAR_MS = 100.0


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


def decision_to_tool() -> tuple[list[float], list[float]]:
    """Return, in ms from sending an approval, when its answer came and when the tool left its mark; one at a time.

    It crosses four hosts: a web server takes the decision, PostgreSQL keeps it, a worker hears of it and runs the tool.
    """
    with (
        tempfile.TemporaryDirectory(prefix="clm-hosts-") as directory,
        Cluster(Path(directory), workers=1) as cluster,
    ):
        for _ in range(SESSIONS):
            cluster.people.submit()
        until(lambda: len(_to_the_last_gate(cluster)) == SESSIONS, cluster.output, seconds=240)
        # Nothing else is under way, and the mark of a strike is the tool's first step.
        answered, struck = [], []
        for gate in cluster.people.waiting():
            before = len(cluster.truth.effects())
            began = time.perf_counter()
            cluster.people.decide(gate)
            answered.append(1000 * (time.perf_counter() - began))
            while len(cluster.truth.effects()) == before:
                assert time.perf_counter() < began + 60, cluster.output()
                time.sleep(0.001)
            struck.append(1000 * (time.perf_counter() - began))
            until(lambda: len(cluster.people.open_sessions()) == SESSIONS - len(struck), cluster.output)
        return answered, struck


def _to_the_last_gate(cluster: Cluster) -> list[dict[str, Any]]:
    """Approve what comes before a session's last strike, and return the gates of those."""
    waiting = cluster.people.waiting()
    last = [gate for gate in waiting if gate["args"]["target"] == "last"]
    for gate in waiting:
        if gate not in last:
            cluster.people.decide(gate)
    return last


def main() -> int:
    """Measure, and print a line for each; 1 when the bar is missed."""
    if reason := why_not():
        print(f"Cannot: {reason}.")
        return 1
    one, three = sessions_a_minute(1), sessions_a_minute(3)
    print(f"one worker {one:.0f} sessions a minute, three workers {three:.0f}: {three / one:.2f} times as many")
    answered, struck = decision_to_tool()
    median = statistics.median(struck)
    print(
        f"decision to the tool's first step, through four hosts: {median:.0f} ms ({min(struck):.0f} to "
        f"{max(struck):.0f}), bar {BAR_MS:.0f}; the answer to the decision came after {statistics.median(answered):.0f}"
    )
    return 0 if median <= BAR_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
