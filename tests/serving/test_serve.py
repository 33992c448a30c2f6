"""`manage.py serve` as a person meets it: what it prints, what it refuses, how it stops."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.serving.server import environment, free_port, manage, serving

pytestmark = [pytest.mark.timeout(180), pytest.mark.processes]


def test_the_demo_reaches_its_gate_and_a_clean_stop_loses_nothing(tmp_path: Path) -> None:
    """The main job from the command line: up, sick, gate; SIGTERM mid-run; up again; the same gate and more."""
    port = free_port()
    with serving(tmp_path, "--demo", port=port) as server:
        until = time.monotonic() + 15
        while "What to do next" not in server.output:
            assert time.monotonic() < until, server.output
            time.sleep(0.1)
        assert f"http://127.0.0.1:{port}/sign-in/" in server.output
        (first,) = httpx.get(f"{server.url}/api/v1/sessions").json()["items"]
        assert server.wait_for(first["id"], "awaiting_input", seconds=15)["status"] == "awaiting_input"
        second = server.submit()
        while server.session(second)["status"] == "new":
            time.sleep(0.02)
        assert server.stop() == 0
        assert "go on at the next start" in server.output
        assert "Traceback" not in server.output
    with serving(tmp_path, "--demo", port=port) as server:
        assert server.session(first["id"])["status"] == "awaiting_input"
        assert server.wait_for(second, "awaiting_input")["id"] == second
        full = httpx.get(f"{server.url}/api/v1/sessions/{second}/full").json()
        assert [event["kind"] for event in full["events"]].count("gate_fired") == 1
        assert "shown this once" not in server.output
        assert server.stop(signal.SIGINT) == 0


def test_a_kill_in_the_middle_of_a_run_costs_time_only(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, "--demo", port=port) as server:
        session = server.submit()
        while server.session(session)["status"] == "new":
            time.sleep(0.02)
        server.stop(signal.SIGKILL)
    with serving(tmp_path, "--demo", port=port) as server:
        server.wait_for(session, "awaiting_input", seconds=20)
        full = httpx.get(f"{server.url}/api/v1/sessions/{session}/full").json()
        assert [event["kind"] for event in full["events"]].count("gate_fired") == 1
        assert server.stop() == 0


def test_a_stop_with_an_open_stream_does_not_hang(tmp_path: Path) -> None:
    with (
        serving(tmp_path) as server,
        httpx.stream("GET", f"{server.url}/api/v1/sessions/recent/events", timeout=30) as stream,
    ):
        assert stream.status_code == 200
        assert server.stop(seconds=20) == 0


def test_a_port_in_use_is_named_with_a_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        env = environment(tmp_path, port)
        manage("migrate", "--verbosity", "0", env=env)
        refused = manage("serve", env=env)
    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    refused = manage("serve", env=environment(Path("/proc/clm"), free_port()))
    assert refused.returncode == 1
    assert "cannot write to its data directory /proc/clm" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_bad_config_file_names_its_line(tmp_path: Path) -> None:
    config = tmp_path / "clm.toml"
    config.write_text('[models]\ndefault = "offline"\n\n[limits]\nconcurrent_runs = "many"\n')
    refused = manage("serve", env=environment(tmp_path, free_port(), CLM_CONFIG=str(config)))
    assert refused.returncode == 1
    assert "clm.toml" in refused.stderr
    assert "line 5" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unmigrated_database_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    refused = manage("serve", env=environment(tmp_path, free_port()))
    assert refused.returncode == 1
    assert "manage.py migrate" in refused.stderr
