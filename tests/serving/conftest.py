"""What tests with more than one server share: a PostgreSQL database of their own, a Redis server of their own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.serving.server import free_port


def missing(what: str, variable: str) -> None:
    """Skip for want of something, or fail where it must be there (`.ci/run` sets the variables)."""
    if os.environ.get(variable):
        pytest.fail(f"{what}, and {variable} says that it must be there.")
    pytest.skip(f"{what}.")


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of an empty database."""
    with empty_database() as address:
        yield address


@contextmanager
def empty_database(options: str = "") -> Iterator[str]:
    """Yield the address of a new database, beside the one of CLM_TEST_POSTGRES or DATABASE_URL; dropped at the end."""
    server = os.environ.get("CLM_TEST_POSTGRES") or os.environ.get("DATABASE_URL", "")
    if not server.startswith("postgres"):
        missing("Needs PostgreSQL: set CLM_TEST_POSTGRES or DATABASE_URL", "CLM_REQUIRE_POSTGRES")
    name = f"clm_serving_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {options}')
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class Redis:
    """A Redis server that a test may kill."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        options = {"--port": self.port, "--bind": "127.0.0.1", "--save": "", "--appendonly": "no"}
        words = [str(word) for pair in options.items() for word in pair]
        self._process = subprocess.Popen(
            ["redis-server", *words], cwd=self._directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        import redis

        until = time.monotonic() + 20
        while True:
            try:
                with redis.Redis.from_url(self.url) as client:
                    client.ping()
            except redis.ConnectionError:
                assert time.monotonic() < until, "Redis did not start"
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End it without a word, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis server of the test's own."""
    if shutil.which("redis-server") is None:
        missing("Needs Redis: redis-server is not installed", "CLM_REQUIRE_REDIS")
    one = Redis(tmp_path)
    one.start()
    yield one
    one.kill()
