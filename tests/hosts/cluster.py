"""A scaled installation on seven hosts: two web servers, three workers, PostgreSQL and Redis."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tests.chaos.people import People
from tests.chaos.script import RULES
from tests.chaos.truth import Truth
from tests.hosts.machines import Postgres, Redis, Server, Worker
from tests.hosts.network import Network
from tests.serving.server import environment, manage

#: Short, so that a worker that was cut off is followed soon.
LEASE = 6


class Cluster:
    """Everything up when the block begins, and gone when it ends."""

    def __init__(self, directory: Path, *, workers: int = 3, concurrency: int = 4, **more: str) -> None:
        self._directory = directory
        self._resources = ExitStack()
        network = self._resources.enter_context(Network())
        self.postgres = Postgres(network.host("postgres"))
        self._resources.callback(self.postgres.remove)
        self.redis = Redis(network.host("redis"), directory)
        config = directory / "clm.toml"
        config.write_text(RULES)
        self.env = environment(
            directory,
            0,
            DATABASE_URL=self.postgres.url,
            REDIS_URL=self.redis.url,
            CLM_ENGINE="procrastinate",
            CLM_CONFIG=str(config),
            CLM_GRAPHS="chaos=tests.chaos.graph.spec",
            CLM_SECRET_KEY=secrets.token_urlsafe(40),
            CLM_EFFECTS=str(directory / "effects.log"),
            CLM_LEASE_SECONDS=str(LEASE),
            CLM_MAX_ATTEMPTS="100",
            **more,
        )
        self.webs = [Server(network.host(name), directory / name, self.env) for name in ("web1", "web2")]
        self.workers = [
            Worker(network.host(name), directory / name, self.env, concurrency=concurrency)
            for name in (f"worker{number}" for number in range(1, workers + 1))
        ]
        self.truth = Truth(self.env, directory / "effects.log")

    def __enter__(self) -> Cluster:
        self.postgres.start()
        self.redis.start()
        self._manage("migrate", "--verbosity", "0")
        self.truth.make_people()
        tokens = {name: self._manage("issue_token", name).strip() for name in ("alice", "bob")}
        self.people = People([web.url for web in self.webs], tokens, self.truth)
        for web in self.webs:
            web.start()
        for worker in self.workers:
            worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.people.close()
        self._resources.close()

    def work(self, *, seconds: float) -> None:
        """Let people submit and decide for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.people.work(submit=True)

    def submitted_after(self, *, seconds: float) -> int:
        """Work for so long, and return how many sessions have been submitted since the beginning."""
        self.work(seconds=seconds)
        return len(self.people.submitted)

    def drain(self, *, seconds: float) -> int:
        """Let people decide until every session has ended, and return how many have not in that time."""
        end = time.monotonic() + seconds
        while (left := len(self.people.open_sessions())) and time.monotonic() < end:
            self.people.work(submit=False)
            time.sleep(0.05)
        return left

    def output(self) -> str:
        """What every machine printed last."""
        files = sorted(self._directory.glob("*/*.out"))
        return "\n".join(f"== {file.parent.name}\n{file.read_text()[-3000:]}" for file in files)

    def _manage(self, *args: str) -> str:
        done = manage(*args, env={**self.env, "PATH": os.environ["PATH"]})
        assert done.returncode == 0, done.stderr
        return done.stdout
