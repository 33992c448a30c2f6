"""`manage.py backup` and `restore`, rehearsed: taken while runs go on, everything lost, everything goes on."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import tarfile
from pathlib import Path

import pytest

from clm_site.installation import archive
from tests.chaos.script import RULES, STRIKES
from tests.serving.desk import Person, make_people
from tests.serving.server import environment, free_port, manage, serving
from tests.serving.test_move_to_postgres import approve_to_the_end, submit

pytestmark = [pytest.mark.timeout(400), pytest.mark.processes]

#: What must hold whatever happened: the audit, and L1.
LAWS = """
from django.core.management import call_command
from sessions_app.models import Session
call_command("verify_audit")
print([s.pk for s in Session.objects.all() if (s.status == "awaiting_input") != s.gates.pending().exists()])
"""


def under_way(backup: Path, work: Path) -> set[str]:
    """Return the sessions that were being worked on at the backup's instant."""
    with tarfile.open(backup) as tar:
        tar.extract("clm.sqlite3", work, filter="data")
    with sqlite3.connect(work / "clm.sqlite3") as records:
        found = records.execute("SELECT id FROM sessions_app_session WHERE status = 'in_progress'").fetchall()
    return {pk for (pk,) in found}


def test_a_backup_that_was_taken_while_runs_went_on_is_restored_and_every_session_goes_on(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "clm.toml"
    data.mkdir()
    config.write_text(RULES)
    chaos = {"CLM_CONFIG": str(config), "CLM_GRAPHS": "chaos=tests.chaos.graph.spec", "CLM_OPEN_LOOPBACK": "1"}
    with serving(data, port=None, **chaos) as server:
        make_people(server, dora="approver")
        dora = Person(server, "dora")
        ended = submit(server, "chaos")
        assert approve_to_the_end(dora, ended)["status"] == "resolved"
        waiting, half = submit(server, "chaos"), submit(server, "chaos")
        asked = dora.wait_for_gates(waiting, 2)
        dora.approve(dora.wait_for_gates(half, 2)[0])
        known, running = {ended, waiting, half}, set()
        for number in range(20):
            known |= {submit(server, "chaos") for _ in range(4)}
            backup = tmp_path / f"backup-{number}"
            archive.write(data, backup)
            if running := under_way(backup, tmp_path):
                break
        assert running, "no backup met a run under way"
        assert backup.stat().st_mode & 0o777 == 0o600
        refused = manage("restore", str(backup), "--replace", env=server.env)
        assert refused.returncode == 1
        assert "A server runs on" in refused.stderr
        submit(server, "chaos")
        server.stop(signal.SIGKILL)

    # All is lost but what was done to the world.
    (data / "effects.log").rename(tmp_path / "effects.log")
    shutil.rmtree(data)
    data.mkdir()
    restored = manage("restore", str(backup), env=environment(data, free_port(), **chaos))
    assert restored.returncode == 0, restored.stderr
    assert f"Restored {len(known)} sessions" in restored.stdout
    (tmp_path / "effects.log").rename(data / "effects.log")

    with serving(data, port=None, **chaos) as server:
        dora.server = server
        assert dora.gates(waiting) == asked, "the same gates, for a token of before"
        assert "Sign out" in dora.page("/approvals/"), "signed in as before: the key came back with the records"
        for session_id in known:
            found = approve_to_the_end(dora, session_id)
            assert found["status"] == "resolved", found
        server.stop()
    effects = (data / "effects.log").read_text().split("\n")[:-1]
    # What nobody is asked about may have been done after that instant, and is done again.
    struck = [effect for effect in effects if not effect.endswith(" nudged")]
    assert sorted(struck) == sorted(f"{session_id} {target}" for session_id in known for target in STRIKES)
    laws = manage("shell", "--no-imports", "--verbosity", "0", "-c", LAWS, env=server.env)
    assert laws.returncode == 0, laws.stderr
    assert laws.stdout.splitlines()[-1] == "[]"
