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
from tests.chaos.script import RULES, STRIKES
from tests.serving.server import ROOT, environment, free_port, manage

#: Sessions that are kept under way while servers die.
OPEN = 4
#: A server that has not reached its point by then is killed where it stands.
PATIENCE = 8.0


class Desk:
    """One installation through all its deaths."""

    def __init__(self, directory: Path, database_url: str, *, attempts: int = 100) -> None:
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
        )
        if database_url:
            self.env["DATABASE_URL"] = database_url
        self._manage("migrate", "--verbosity", "0")
        self._shell(
            "from django.contrib.auth.models import Group, User;"
            "[User.objects.create_user(n).groups.set(Group.objects.filter(name=g))"
            " for n, g in (('alice', 'operator'), ('bob', 'approver'))]"
        )
        self.bob = self._manage("issue_token", "bob").strip()
        self.submitted: list[str] = []
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
            if time.monotonic() - began > 60:
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

    # The people ---------------------------------------------------------------------------------------------------

    def work(self, *, submit: bool) -> None:
        """Do one round of what people do: submit while there is room, approve what waits."""
        try:
            if submit and len(self.open_sessions()) < OPEN:
                body = {"query": "chaos", "environment": "dev", "graph": "chaos"}
                answer = self.client.post(
                    "/sessions", json=body, headers={"Idempotency-Key": f"k{len(self.submitted)}"}
                )
                if answer.status_code == 201:
                    self.submitted.append(answer.json()["session_id"])
            for gate in self.client.get("/gates", params={"status": "pending"}, headers=self._as_bob).json()["items"]:
                self._decide(gate)
        except (httpx.HTTPError, KeyError, json.JSONDecodeError):
            time.sleep(0.02)

    def open_sessions(self) -> list[dict[str, Any]]:
        """Return the sessions that have not ended, as the API gives them."""
        params = {"status": "new,in_progress,awaiting_input"}
        return list(self.client.get("/sessions", params=params).raise_for_status().json()["items"])

    def _decide(self, gate: dict[str, Any]) -> None:
        answer = {"type": "approve", "digest": gate["digest"]}
        if gate["kind"] == "unknown_outcome":
            # What a person does there: look whether it happened.
            target = gate["args"]["target"]
            if f"{gate['session_id']} {target}" in self.effects():
                answer = {"type": "respond", "message": f"struck {target}", "digest": gate["digest"]}
        self.client.post(f"/gates/{gate['id']}/decisions", json=answer, headers=self._as_bob)

    @property
    def _as_bob(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.bob}"}

    # The truth ----------------------------------------------------------------------------------------------------

    def effects(self) -> list[str]:
        """Return what strikes did to the world, in order."""
        path = self.directory / "effects.log"
        return path.read_text().splitlines() if path.exists() else []

    def disagreements(self) -> int:
        """Count, from the database alone, what breaks L1 or L7, as it stands while nobody runs."""
        return int(self._shell(_COUNT).strip().splitlines()[-1])

    def given_up(self) -> set[str]:
        """Return the sessions that ended because a run of theirs was lost too often."""
        return set(self._shell(_GIVEN_UP).split())

    def endings(self, sessions: set[str]) -> str:
        """Say how these sessions stand and what befell them, for whoever looks into it."""
        return self._shell(_ENDINGS.format(sessions=sorted(sessions)))

    def _manage(self, *args: str) -> str:
        done = manage(*args, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _shell(self, code: str) -> str:
        return self._manage("shell", "--no-imports", "--verbosity", "0", "-c", code)


_COUNT = """
from sessions_app.models import Session
wrong = 0
for session in Session.objects.all():
    pending = session.gates.pending().count()
    last = session.events.status_changes().order_by("seq").last()
    wrong += (session.status == "awaiting_input") != bool(pending)
    wrong += session.status != (last.payload["to"] if last else "new")
    wrong += session.version != session.events.count()
print(wrong)
"""
_GIVEN_UP = """
from sessions_app.models import SessionEvent
from sessions_app.models.run import GIVEN_UP
for event in SessionEvent.objects.filter(kind="run_failed", session__status="error"):
    if event.payload["error"].startswith(GIVEN_UP):
        print(event.session_id)
"""
_ENDINGS = """
from sessions_app.models import Session
for session in Session.objects.filter(pk__in={sessions}):
    print(session.pk, session.status, session.resolution)
    for call in session.tool_calls.all():
        print("   ", call.tool_call_id, call.status, call.error)
    for event in session.events.all():
        print("   ", event.seq, event.kind, str(event.payload)[:200])
"""


def main() -> int:
    """Run the harness."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--attempts", type=int, default=100, help="CLM_MAX_ATTEMPTS: after so many losses, given up")
    parser.add_argument("--database-url", default=os.environ.get("CLM_CHAOS_DATABASE_URL", ""))
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    directory = Path(tempfile.mkdtemp(prefix="clm-chaos-"))
    try:
        result = run(
            Desk(directory, given.database_url, attempts=given.attempts),
            kills=given.kills,
            randomly=random.Random(seed),
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"\n{'SQLite' if not given.database_url else 'PostgreSQL'}, seed {seed}")
    for name, value in result.items():
        print(f"  {name:<28}{value}")
    return int(any(result[name] for name in ("gates lost", "tools run twice", "tools not run", "statuses wrong")))


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
            desk.work(submit=True)
        died[point.partition(":")[0] if not desk.alive else "where it stood"] += 1
        desk.kill()
        if number % 10 == 0 or number == kills:
            wrong += desk.disagreements()
            print(f"  {number} kills, {len(desk.submitted)} sessions, {wrong} disagreements", flush=True)
    began = time.monotonic()
    desk.start()
    until = time.monotonic() + 60
    while not desk.is_consistent() and time.monotonic() < until:
        time.sleep(0.02)
    consistent_after.append(time.monotonic() - began)
    while desk.open_sessions() and time.monotonic() < until:
        desk.work(submit=False)
        time.sleep(0.02)
    left = desk.open_sessions()
    desk.kill()
    done = Counter(desk.effects())
    expected = {f"{session} {target}" for session in desk.submitted for target in STRIKES}
    given_up = desk.given_up()
    missing = expected - done.keys()
    not_run = {strike for strike in missing if strike.partition(" ")[0] not in given_up}
    if not_run and not left:
        print(desk.endings({strike.partition(" ")[0] for strike in not_run}))
    return {
        "kills": kills,
        "by point": ", ".join(f"{point} {count}" for point, count in sorted(died.items())),
        "sessions": len(desk.submitted),
        "gates lost": len(left),
        "tools run twice": sum(count - 1 for count in done.values()),
        "tools not run": len(not_run) if not left else "-",
        "given up": f"{len(given_up)} sessions, {len(missing - not_run)} strikes",
        "statuses wrong": wrong + desk.disagreements(),
        "slowest start, seconds": round(slowest, 1),
        "seconds to consistent": f"{median(consistent_after):.1f} median, {max(consistent_after):.1f} worst",
    }


if __name__ == "__main__":
    sys.exit(main())
