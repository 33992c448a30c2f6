"""What stands on the hosts: PostgreSQL and Redis, web servers and workers."""

from __future__ import annotations

import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import psycopg
import redis

from tests.hosts.network import Host, Process
from tests.serving.server import ROOT, RunningServer

PORT = 8000
_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def until(what: Callable[[], object], say: Callable[[], str], *, seconds: float = 60) -> None:
    """Wait until `what` is true, and fail with what `say` returns when it does not become so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, say()
        time.sleep(0.1)


class Postgres:
    """A cluster of its own, which survives its server's death: durability is on, as it ships."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._directory = Path(tempfile.mkdtemp(prefix="clm-hosts-pg-"))
        self._user = pwd.getpwnam("postgres")
        self.url = f"postgresql://postgres@{host.address}:5432/postgres"
        self._process: Process | None = None
        shutil.chown(self._directory, self._user.pw_uid, self._user.pw_gid)
        made = subprocess.run(
            [*self._as_postgres, str(_BINARIES[-1] / "initdb"), "-D", str(self._data), "-A", "trust", "-U", "postgres"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.0.0.0/8 trust\n")

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _as_postgres(self) -> list[str]:
        ids = [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids]

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(_BINARIES[-1] / "postgres"), "-D", str(self._data)]
        options = {"listen_addresses": "*", "unix_socket_directories": str(self._directory), "max_connections": "200"}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        output = self._directory / "out"
        self._process = self._host.start(
            [*self._as_postgres, *command, *words], env={"PATH": "/usr/bin:/bin"}, cwd=self._directory, output=output
        )
        until(self._answers, output.read_text)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End it at once: its next start recovers from the log."""
        if self._process is not None and self._process.alive:
            self._process.kill()
            # The children see their parent gone, and leave; the next start waits for the last of them.
            time.sleep(0.5)

    def remove(self) -> None:
        """End it, and drop its files."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


class Redis:
    """A Redis that keeps nothing."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self.url = f"redis://{host.address}:6379/0"
        self._process: Process | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        words = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "no"]
        output = self._directory / "redis.out"
        self._process = self._host.start(
            ["redis-server", *words], env={"PATH": "/usr/bin"}, cwd=self._directory, output=output
        )
        until(self._answers, output.read_text)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()


class Server(RunningServer):
    """A web server on a host of its own."""

    def __init__(self, host: Host, directory: Path, env: Mapping[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.directory = directory
        self.env = {**env, "CLM_DATA_DIR": str(directory), "CLM_HOST": host.address, "CLM_PORT": str(PORT)}
        self.url = f"http://{host.address}:{PORT}"
        self._running: Process | None = None

    def start(self) -> None:
        """Start it and wait until every part of it works."""
        self._running = self.host.start(
            [sys.executable, "manage.py", "serve"], env=self.env, cwd=ROOT, output=self.directory / "serve.out"
        )
        until(self.ready, lambda: self.output)

    def ready(self) -> bool:
        """Whether /readyz says that every part of it works."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=3).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._running is not None
        self._running.kill()


class Worker:
    """A worker on a host of its own."""

    def __init__(self, host: Host, directory: Path, env: Mapping[str, str], *, concurrency: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.directory = directory
        self._env = {**env, "CLM_DATA_DIR": str(directory)}
        self._concurrency = concurrency
        self.running: Process | None = None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return (self.directory / "worker.out").read_text()

    def start(self) -> None:
        """Start it; it looks for work from then on."""
        (self.directory / "worker.beat").unlink(missing_ok=True)
        self.running = self.host.start(
            [sys.executable, "manage.py", "worker", "--concurrency", str(self._concurrency)],
            env=self._env,
            cwd=ROOT,
            output=self.directory / "worker.out",
        )
        until((self.directory / "worker.beat").exists, lambda: self.output)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.running is not None
        self.running.kill()

    def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        assert self.running is not None
        return self.running.stop()
