"""`manage.py move_to_postgres`: an embedded installation goes on in PostgreSQL where it stood."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.chaos.script import EFFECTS, RULES
from tests.serving.conftest import missing
from tests.serving.desk import Person, make_people
from tests.serving.server import RunningServer, environment, free_port, manage, serving

pytestmark = [pytest.mark.timeout(400), pytest.mark.postgres, pytest.mark.processes]

#: Every row of every table, digested; what `migrate` makes beside the rows is left to it.
EVERYTHING = """
import hashlib, json
from django.apps import apps
from django.core.management import CommandError, call_command
said = {}
for model in apps.get_models(include_auto_created=True):
    if model._meta.managed and model._meta.label not in {"contenttypes.ContentType", "auth.Permission"}:
        rows = [json.dumps(row, default=str, sort_keys=True) for row in model._base_manager.order_by("pk").values()]
        said[model._meta.label] = [len(rows), hashlib.sha256("".join(rows).encode()).hexdigest()]
"""
#: On the target also: the audit, and what a second move says, with and without the mark of the first.
AND_AGAIN = """
call_command("verify_audit")
said = {"rows": said, "refusals": []}
from django.conf import settings
for _ in range(2):
    try:
        call_command("move_to_postgres")
    except CommandError as refused:
        said["refusals"].append(str(refused))
    (settings.CLM_DATA_DIR / "moved_to_postgres").unlink(missing_ok=True)
"""


def ask(code: str, env: dict[str, str]) -> dict[str, Any]:
    done = manage("shell", "--no-imports", "--verbosity", "0", "-c", code + "print(json.dumps(said))", env=env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def submit(server: RunningServer, graph: str) -> str:
    body = {"query": "strike", "environment": "dev", "graph": graph, "submitter": {"id": "t"}}
    answer = httpx.post(f"{server.url}/api/v1/sessions", json=body, timeout=30).raise_for_status()
    return str(answer.json()["session_id"])


def approve_to_the_end(person: Person, session_id: str) -> dict[str, Any]:
    until = time.monotonic() + 40
    while (found := person.server.session(session_id))["status"] in {"new", "in_progress", "awaiting_input"}:
        assert time.monotonic() < until, found
        for gate in person.gates(session_id):
            person.approve(gate)
        time.sleep(0.1)
    return found


@pytest.fixture
def chaos(tmp_path: Path) -> dict[str, str]:
    """What every server here is started with."""
    config = tmp_path / "clm.toml"
    config.write_text(RULES)
    return {
        "CLM_CONFIG": str(config),
        "CLM_GRAPHS": "chaos=tests.chaos.graph.spec",
        "CLM_OPEN_LOOPBACK": "1",
        "CLM_SECRET_KEY": "the same secret before and after the move",
    }


def test_what_waited_in_the_embedded_installation_is_decided_in_postgresql(
    tmp_path: Path, postgres: str, chaos: dict[str, str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    here = environment(data, free_port(), **chaos)
    there = {**here, "DATABASE_URL": postgres}
    with serving(data, "--demo", port=None, **chaos) as server:
        make_people(server, dora="approver")
        dora = Person(server, "dora")
        ended = submit(server, "chaos")
        assert approve_to_the_end(dora, ended)["status"] == "resolved"
        parallel = submit(server, "chaos")
        dora.wait_for_gates(parallel, 2)
        waiting = dora.wait_for_gates("", 3)
        (incident,) = {gate["session_id"] for gate in waiting} - {parallel}
        refused = manage("move_to_postgres", env=there)
        assert refused.returncode == 1
        assert "A server runs on" in refused.stderr
        server.stop()

    # What cannot be moved as it was written is not moved at all, and can be moved once that is put right.
    with closing(sqlite3.connect(data / "clm.sqlite3", isolation_level=None)) as records:
        (head,) = records.execute("SELECT head FROM sessions_app_session WHERE id = ?", [parallel]).fetchone()
        records.execute("UPDATE sessions_app_session SET head = 'changed' WHERE id = ?", [parallel])
        refused = manage("move_to_postgres", env=there)
        records.execute("UPDATE sessions_app_session SET head = ? WHERE id = ?", [head, parallel])
    assert refused.returncode == 1
    assert f"{parallel}: session says it has" in refused.stderr
    assert not (data / "moved_to_postgres").exists()
    with psycopg.connect(postgres) as connection:
        for table in ("sessions_app_session", "auth_user", "checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)

    before = ask(EVERYTHING, here)
    moved = manage("move_to_postgres", env=there)
    assert moved.returncode == 0, moved.stderr + moved.stdout
    assert (data / "moved_to_postgres").exists()
    after = ask(EVERYTHING + AND_AGAIN, there)
    assert after["rows"] == before
    first, second = after["refusals"]
    assert "Moved to PostgreSQL at" in first
    assert "a move needs an empty one" in second
    for verb in ("UPDATE sessions_app_sessionevent SET kind = 'x'", "TRUNCATE approvals_app_decision CASCADE"):
        with psycopg.connect(postgres) as connection, pytest.raises(psycopg.errors.RaiseException):
            connection.execute(verb)

    # What was moved, dumped and restored by PostgreSQL's own commands, is where it goes on.
    copied = dumped_and_restored(postgres, tmp_path / "clm.dump")
    there["DATABASE_URL"] = copied
    with serving(data, "--demo", port=None, DATABASE_URL=copied, **chaos) as server:
        dora.server = server
        assert dora.gates() == waiting, "with the same ids, interrupts and digests, for the same token"
        for session_id in (parallel, incident):
            found = approve_to_the_end(dora, session_id)
            assert found["status"] == "resolved", found
        assert approve_to_the_end(dora, submit(server, "chaos"))["status"] == "resolved"
        server.stop()
    effects = (data / "effects.log").read_text().split("\n")
    assert sorted(line for line in effects if parallel in line) == sorted(f"{parallel} {target}" for target in EFFECTS)
    audited = manage("verify_audit", env=there)
    assert audited.returncode == 0, audited.stderr
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{copied.rpartition("/")[2]}" WITH (FORCE)')


def dumped_and_restored(database: str, file: Path) -> str:
    """Do what docs/deployment.md says, and return the address of the copy."""
    if shutil.which("pg_dump") is None:
        missing("Needs pg_dump: it is not installed", "CLM_REQUIRE_POSTGRES")
    copied = f"{database}_restored"
    for command in (
        ["pg_dump", "--format=custom", f"--file={file}", database],
        ["createdb", f"--maintenance-db={database}", copied.rpartition("/")[2]],
        ["pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", f"--dbname={copied}", str(file)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return copied
