"""A real server whose data directory is full: it says so, keeps nothing by halves, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.script import EFFECTS, RULES
from tests.serving.desk import Person, make_people
from tests.serving.server import serving

pytestmark = [pytest.mark.timeout(400), pytest.mark.processes]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes; whoever may not mount one leaves it to tests/api/test_full_disk.py."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("May not mount a small file system here.")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Leave no room, and return what takes it."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    return ballast


def test_everything_goes_on_when_there_is_room_again(small: Path, tmp_path: Path) -> None:
    config = tmp_path / "clm.toml"
    config.write_text(RULES)
    graphs = {"CLM_CONFIG": str(config), "CLM_GRAPHS": "chaos=tests.chaos.graph.spec"}
    with serving(small, port=None, **graphs) as server:
        make_people(server, bob="approver")
        bob = Person(server, "bob")
        api = f"{server.url}/api/v1"
        body = {"query": "strike", "environment": "dev", "graph": "chaos"}
        session = httpx.post(f"{api}/sessions", json=body, timeout=30).json()["session_id"]
        first, second = bob.wait_for_gates(session, 2)

        ballast = fill(small)
        refused = 0
        for number in range(200):
            answer = httpx.post(f"{api}/sessions", json={**body, "query": f"{number} " + "x" * 15_000}, timeout=60)
            if answer.status_code != 201:
                refused += 1
                assert answer.status_code == 503, answer.text
                assert answer.json()["error"]["code"] == "service_unavailable"
                assert "disk is full" in answer.json()["error"]["message"]
            if refused == 3:
                break
        assert refused == 3
        assert httpx.get(f"{api}/sessions/{session}", timeout=30).json()["status"] == "awaiting_input"
        assert "/approvals/" in bob.page("/approvals/")

        os.unlink(ballast)
        for gate in (first, second):
            assert bob.approve(gate).status_code == 201
        (third,) = bob.wait_for_gates(session, 1, seconds=90)
        assert bob.approve(third).status_code == 201
        server.wait_for(session, "resolved", seconds=90)
        server.wait_until_ready()
    lines = (small / "effects.log").read_text().splitlines()
    assert sorted(line for line in lines if line.startswith(session)) == [
        f"{session} {name}" for name in sorted(EFFECTS)
    ]
