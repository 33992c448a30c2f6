"""A round through PgBouncer in transaction mode, from submission to end; the worker looks instead of listening."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.chaos.script import EFFECTS, RULES
from tests.serving.conftest import missing, postgres  # noqa: F401 - a fixture
from tests.serving.desk import Person, make_people
from tests.serving.server import ROOT, free_port, serving
from tests.serving.test_two_servers import submit

pytestmark = [pytest.mark.timeout(300), pytest.mark.postgres, pytest.mark.processes]


@pytest.fixture
def pooled(postgres: str) -> Iterator[str]:  # noqa: F811 - the fixture
    """The address of the same database through a PgBouncer that gives each transaction another server."""
    pgbouncer = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if pgbouncer is None:
        missing("Needs PgBouncer: it is not installed", "CLM_REQUIRE_POSTGRES")
        raise AssertionError
    parts, port = urlsplit(postgres), free_port()
    server = {"host": parts.hostname, "port": parts.port or 5432, "user": parts.username, "password": parts.password}
    words = " ".join(f"{name}={value}" for name, value in server.items() if value)
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        config = Path(directory, "pgbouncer.ini")
        config.write_text(
            f"[databases]\n* = {words}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 5\nmax_client_conn = 200\nunix_socket_dir =\n"
        )
        # It refuses to run as root, as tests in a container do.
        user = "nobody" if os.geteuid() == 0 else None
        process = subprocess.Popen([pgbouncer, "-q", str(config)], user=user, stderr=subprocess.DEVNULL)
        url = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
        try:
            _wait_for(url)
            yield url
        finally:
            process.kill()
            process.wait(10)


def _wait_for(url: str) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert time.monotonic() < until, "PgBouncer did not start"
            time.sleep(0.1)
        else:
            return


def test_a_round_goes_through_a_pooler_in_transaction_mode(tmp_path: Path, pooled: str) -> None:
    config = tmp_path / "clm.toml"
    config.write_text(RULES)
    env: dict[str, Any] = {
        "DATABASE_URL": pooled,
        "CLM_PGBOUNCER": "1",
        "CLM_ENGINE": "procrastinate",
        "CLM_CONFIG": str(config),
        "CLM_GRAPHS": "chaos=tests.chaos.graph.spec",
        "CLM_SECRET_KEY": "one secret for all the processes",
        "CLM_OPEN_LOOPBACK": "1",
    }
    with serving(tmp_path, **env) as server, (tmp_path / "worker.out").open("w") as out:
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "worker"], cwd=ROOT, env=server.env, stdout=out, stderr=out, text=True
        )
        try:
            make_people(server, bob="approver")
            bob, session = Person(server, "bob"), submit(server)
            for number in (2, 1):
                for gate in bob.wait_for_gates(session, number, seconds=90):
                    assert bob.approve(gate).status_code == 201
            server.wait_for(session, "resolved", seconds=90)
        finally:
            worker.terminate()
            code = worker.wait(60)
    said = (tmp_path / "worker.out").read_text()
    assert code == 0, said
    assert "ERROR" not in said
    assert sorted((tmp_path / "effects.log").read_text().split()[1::2]) == sorted(EFFECTS)
