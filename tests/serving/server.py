"""A real `manage.py serve` in a process of its own, for tests that need one."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from clm_site.installation import RECORDS

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery"


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(directory: Path, port: int, **more: str) -> dict[str, str]:
    """Return the environment of a server with its own data directory and port."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CLM_") and name not in {"DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL"}
    }
    return {
        **kept,
        "CLM_DATA_DIR": str(directory),
        "CLM_PORT": str(port),
        "CLM_DEMO_PASSWORD": PASSWORD,
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def manage(*args: str, env: dict[str, str], timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """Run one `manage.py` command to its end."""
    return subprocess.run(
        [sys.executable, "manage.py", *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout
    )


def migrate(directory: Path, env: dict[str, str]) -> None:
    """Migrate an installation; a new one on SQLite is a copy of one that this process migrates once."""
    if env.get("DATABASE_URL") or (directory / RECORDS).exists():
        _migrate(env)
    else:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(_migrated(), directory / RECORDS)


@cache
def _migrated() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="clm-migrated-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    _migrate(environment(directory, 0))
    return directory / RECORDS


def _migrate(env: dict[str, str]) -> None:
    migrated = manage("migrate", "--verbosity", "0", env=env)
    assert migrated.returncode == 0, migrated.stderr


class RunningServer:
    """A server that is up."""

    def __init__(self, process: subprocess.Popen[str], directory: Path, port: int, env: dict[str, str]) -> None:
        self.process = process
        self.directory = directory
        self.url = f"http://127.0.0.1:{port}"
        self.env = env

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return (self.directory / "serve.out").read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM, *, seconds: float = 25) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(seconds)

    def wait_until_ready(self, *, seconds: float = 120) -> None:
        """Return when every part of it works."""
        until = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < until, f"not up in time: {self.output}"
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)

    def session(self, session_id: str) -> dict[str, Any]:
        """Return the session as the API gives it."""
        return dict(httpx.get(f"{self.url}/api/v1/sessions/{session_id}", timeout=10).raise_for_status().json())

    def submit(self, query: str = "rc3 agent_running smoke") -> str:
        """Start a session and return its id."""
        body = {"query": query, "environment": "dev", "submitter": {"id": "t"}}
        answer = httpx.post(f"{self.url}/api/v1/sessions", json=body, timeout=10).raise_for_status()
        return str(answer.json()["session_id"])

    def wait_for(self, session_id: str, *statuses: str, seconds: float = 30) -> dict[str, Any]:
        """Return the session when it has one of the statuses."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self.session(session_id)
            if found["status"] in statuses:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{session_id} is {found['status']}, not one of {statuses}")


@contextmanager
def serving(
    directory: Path, *args: str, port: int | None = None, command: Sequence[str] = ("manage.py", "serve"), **more: str
) -> Iterator[RunningServer]:
    """Migrate, start `serve` and wait until it answers; killed at the end if it still runs."""
    port = port or free_port()
    env = environment(directory, port, **more)
    migrate(directory, env)
    with (directory / "serve.out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *command, *args], cwd=ROOT, env=env, stdout=out, stderr=out, text=True
        )
    server = RunningServer(process, directory, port, env)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
