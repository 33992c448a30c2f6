"""`manage.py worker` in processes of its own: stopped, killed, and without what it needs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.serving.conftest import postgres  # noqa: F401 - a fixture
from tests.serving.server import ROOT, environment, manage

pytestmark = [pytest.mark.timeout(300), pytest.mark.postgres, pytest.mark.processes]


@pytest.fixture
def env(tmp_path: Path, postgres: str) -> dict[str, str]:  # noqa: F811 - the fixture
    """The environment of workers on a migrated database."""
    env = environment(
        tmp_path,
        0,
        DATABASE_URL=postgres,
        CLM_ENGINE="procrastinate",
        CLM_GRAPHS="waiting=tests.engine.graphs.waiting",
        CLM_LEASE_SECONDS="3",
        CLM_TEST_FILES=str(tmp_path),
    )
    migrated = manage("migrate", "--verbosity", "0", env=env)
    assert migrated.returncode == 0, migrated.stderr
    return env


@contextmanager
def working(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a worker for the block."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker", "--concurrency", "2"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    until = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def noted(env: dict[str, str], name: str) -> list[str]:
    """Return which processes did the step, in order."""
    file = Path(env["CLM_TEST_FILES"]) / name
    return file.read_text().split() if file.exists() else []


def row(env: dict[str, str], statement: str) -> Any:
    """Return the first row of what the database answers."""
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        return connection.execute(statement).fetchone()


def start(env: dict[str, str]) -> None:
    """Submit one session of the waiting graph."""
    started = manage("start_session", "q", "--environment", "dev", "--graph", "waiting", env=env)
    assert started.returncode == 0, started.stderr


def test_sigterm_gives_the_run_back_and_the_next_worker_ends_it(env: dict[str, str]) -> None:
    start(env)
    with working(env) as first:
        eventually(lambda: len(noted(env, "waits")) == 1, "the first worker did not begin")
        assert (Path(env["CLM_DATA_DIR"]) / "worker.beat").exists()
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
    assert row(env, "SELECT status, worker, losses FROM sessions_app_run") == ("pending", "", 0)
    assert row(env, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND task_name = 'clm.drive'")[0] >= 1
    (Path(env["CLM_TEST_FILES"]) / "go").touch()
    with working(env):
        eventually(
            lambda: row(env, "SELECT status FROM sessions_app_session")[0] == "resolved", "the second did not end it"
        )
    assert len(noted(env, "first")) == 1


def test_what_a_killed_worker_drove_is_ended_by_another_and_no_finished_step_runs_twice(env: dict[str, str]) -> None:
    start(env)
    with working(env) as first, working(env) as second:
        eventually(lambda: len(noted(env, "waits")) == 1, "neither worker began")
        (pid,) = noted(env, "waits")
        killed = first if first.pid == int(pid) else second
        killed.kill()
        eventually(lambda: len(noted(env, "waits")) == 2, "the other worker did not take it up")
        (Path(env["CLM_TEST_FILES"]) / "go").touch()
        eventually(lambda: row(env, "SELECT status FROM sessions_app_session")[0] == "resolved", "it was not ended")
    assert len(noted(env, "first")) == 1
    assert len(set(noted(env, "waits"))) == 2
    assert row(env, "SELECT status, attempt, losses FROM sessions_app_run") == ("succeeded", 2, 1)


def test_a_worker_says_why_it_cannot_work(tmp_path: Path, postgres: str) -> None:  # noqa: F811 - the fixture
    embedded = manage("worker", env=environment(tmp_path, 0))
    assert embedded.returncode == 1
    assert "Set CLM_ENGINE=procrastinate" in embedded.stderr

    fresh = environment(tmp_path, 0, CLM_ENGINE="procrastinate", DATABASE_URL=postgres)
    behind = manage("worker", env=fresh)
    assert behind.returncode == 1
    assert "Run: python manage.py migrate" in behind.stderr

    away = manage("worker", env={**fresh, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"})
    assert away.returncode == 1
    assert "cannot be reached" in away.stderr
