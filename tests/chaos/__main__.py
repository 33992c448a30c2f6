"""`make chaos`: kill, restart, compare, print the table. Exit code 1 when anything but the kills is not zero."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from tests.chaos import points
from tests.chaos.people import People
from tests.chaos.script import RULES
from tests.chaos.truth import ZEROS, Truth
from tests.serving.server import ROOT, environment, free_port, manage

#: A server that has not reached its point by then is killed where it stands.
PATIENCE = 8.0


class Desk:
    """One installation through all its deaths."""

    def __init__(self, directory: Path, database_url: str, *, attempts: int = 100, durability: str = "") -> None:
        self.directory = directory
        self.port = free_port()
        config = directory / "chaos.toml"
        config.write_text(RULES)
        self.env = environment(
            directory,
            self.port,
            CLM_CONFIG=str(config),
            CLM_GRAPHS="chaos=tests.chaos.graph.spec",
            CLM_OPEN_LOOPBACK="1",
            CLM_LOG_LEVEL="ERROR",
            # Whoever kills here is not the run: none is to be given up for it, unless that is what is tried.
            CLM_MAX_ATTEMPTS=str(attempts),
            CHAOS_DURABILITY=durability,
        )
        if database_url:
            self.env["DATABASE_URL"] = database_url
        self._manage("migrate", "--verbosity", "0")
        self.truth = Truth(self.env, directory / "effects.log")
        self.truth.make_people()
        tokens = {name: self._manage("issue_token", name).strip() for name in ("alice", "bob")}
        self.people = People([f"http://127.0.0.1:{self.port}"], tokens, self.truth)
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", timeout=5)

    # The process --------------------------------------------------------------------------------------------------

    def start(self, chaos: str = "") -> float:
        """Start a server that dies at a point, and return the seconds until it answered."""
        began, self.started_at = time.monotonic(), datetime.now(UTC)
        with (self.directory / "serve.out").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.serve"],
                cwd=ROOT,
                env={**self.env, "CLM_CHAOS": chaos},
                stdout=out,
                stderr=out,
            )
        while self.alive:
            try:
                if self.client.get("/environments").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
            if time.monotonic() - began > 240:
                raise AssertionError((self.directory / "serve.out").read_text()[-3000:])
        return time.monotonic() - began

    @property
    def alive(self) -> bool:
        """Whether the server's process is there."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Make sure that the server is dead."""
        if self.alive and self.process is not None:
            self.process.send_signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def is_consistent(self) -> bool:
        """Ask the server whether it has compared everything since it started, and found nothing wrong."""
        try:
            found = self.client.get(f"http://127.0.0.1:{self.port}/readyz")
            compared = found.json()["comparison"]
            since = datetime.fromisoformat(compared["checked_at"])
            return found.status_code == 200 and since >= self.started_at and compared["disagreements"] == 0
        except (httpx.HTTPError, KeyError, TypeError, json.JSONDecodeError):
            return False

    # Its commands --------------------------------------------------------------------------------------------------

    def _manage(self, *args: str) -> str:
        done = manage(*args, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout


def main() -> int:
    """Run the harness."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--attempts", type=int, default=100, help="CLM_MAX_ATTEMPTS: after so many losses, given up")
    parser.add_argument("--durability", default="", help="of checkpoints, instead of CLM's: sync, async or exit")
    parser.add_argument("--database-url", default=os.environ.get("CLM_CHAOS_DATABASE_URL", ""))
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    directory = Path(tempfile.mkdtemp(prefix="clm-chaos-"))
    try:
        result = run(
            Desk(directory, given.database_url, attempts=given.attempts, durability=given.durability),
            kills=given.kills,
            randomly=random.Random(seed),
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"\n{'SQLite' if not given.database_url else 'PostgreSQL'}, seed {seed}")
    for name, value in result.items():
        print(f"  {name:<28}{value}")
    return int(any(result[name] for name in ZEROS))


def run(desk: Desk, *, kills: int, randomly: random.Random) -> dict[str, Any]:
    """Kill the desk so many times, let it finish, and count."""
    died: Counter[str] = Counter()
    consistent_after: list[float] = []
    wrong = 0
    slowest = 0.0
    for number in range(1, kills + 1):
        point = points.draw(randomly)
        began = time.monotonic()
        slowest = max(slowest, desk.start(point))
        consistent = False
        until = time.monotonic() + PATIENCE
        while desk.alive and time.monotonic() < until:
            if not consistent and desk.is_consistent():
                consistent = True
                consistent_after.append(time.monotonic() - began)
            desk.people.work(submit=True)
        died[point.partition(":")[0] if not desk.alive else "where it stood"] += 1
        desk.kill()
        if number % 10 == 0 or number == kills:
            wrong += desk.truth.disagreements()
            print(f"  {number} kills, {len(desk.people.submitted)} sessions, {wrong} disagreements", flush=True)
    began = time.monotonic()
    desk.start()
    until = time.monotonic() + 60
    while not desk.is_consistent() and time.monotonic() < until:
        time.sleep(0.02)
    consistent_after.append(time.monotonic() - began)
    while desk.people.open_sessions() and time.monotonic() < until:
        desk.people.work(submit=False)
        time.sleep(0.02)
    left = desk.people.open_sessions()
    desk.kill()
    tally = desk.truth.tally(desk.people.submitted, left=len(left))
    tally["statuses wrong"] += wrong
    return {
        "kills": kills,
        "by point": ", ".join(f"{point} {count}" for point, count in sorted(died.items())),
        "sessions": len(desk.people.submitted),
        **tally,
        "slowest start, seconds": round(slowest, 1),
        "seconds to consistent": f"{median(consistent_after):.1f} median, {max(consistent_after):.1f} worst",
    }


if __name__ == "__main__":
    sys.exit(main())
