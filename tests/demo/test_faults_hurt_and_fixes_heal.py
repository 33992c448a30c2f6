from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from sessions_app.demo import service, supervisor
from sessions_app.demo.service import FAULTS
from sessions_app.demo.supervisor import DemoError, DemoNotRunning, DemoService, find
from tests.demo.conftest import FIXES, WINDOW, Clinic

WRONG = {
    "pool_exhausted": ("roll_back", {}),
    "bad_deploy": ("restart", {}),
    "memory_leak": ("clean_up", {}),
    "disk_full": ("resize_pool", {"size": 40}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_hurts_the_wrong_fix_does_not_heal_it_and_the_right_one_does(clinic: Clinic, fault: str) -> None:
    sick = clinic.make_sick(fault)
    assert sick["fault"] == fault
    assert sick["status"] in {"degraded", "down"}

    verb, body = WRONG[fault]
    clinic.change(verb, **body)
    clinic.settle()
    still = clinic.wait_until(lambda now: now["uptime_seconds"] > WINDOW)
    assert still["status"] in {"degraded", "down"}
    assert still["fault"] == fault

    verb, body = FIXES[fault]
    clinic.change(verb, **body)
    began = time.monotonic()
    well = clinic.wait_until(lambda now: now["status"] == "healthy")
    assert time.monotonic() - began < 4
    assert well["fault"] is None
    time.sleep(WINDOW)
    assert clinic.status()["status"] == "healthy"


def test_a_restart_relieves_an_exhausted_pool_for_a_moment_only(clinic: Clinic) -> None:
    clinic.change("break", fault="pool_exhausted")
    before = clinic.wait_until(lambda now: now["checks"]["pool"] != "ok" and now["uptime_seconds"] > 1)
    assert clinic.change("restart")["changed"]["in_flight_failed"] > 0
    relieved = clinic.wait_until(lambda now: now["uptime_seconds"] < before["uptime_seconds"])
    assert relieved["checks"]["pool"] == "ok"
    assert relieved["pid"] == before["pid"]
    clinic.wait_until(lambda now: now["checks"]["pool"] != "ok")


def test_a_restart_really_gives_the_memory_back(clinic: Clinic) -> None:
    def memory() -> float:
        text = httpx.get(f"{clinic.status()['url']}/metrics").text
        return float(text.split("\nprocess_resident_memory_bytes ")[1].split()[0]) / 2**20

    clinic.change("break", fault="memory_leak")
    clinic.wait_until(lambda now: now["checks"]["memory"] != "ok")
    assert memory() > 70
    clinic.change("restart")
    clinic.wait_until(lambda now: now["status"] == "healthy")
    assert memory() < 30


def test_what_the_metrics_count_are_requests_that_really_happened(clinic: Clinic) -> None:
    clinic.demo.heal()

    def paid() -> int:
        text = httpx.get(f"{clinic.status()['url']}/metrics").text
        return int(text.split('http_requests_total{status="200"} ')[1].split()[0])

    before = paid()
    assert httpx.get(f"{clinic.status()['url']}/work").json()["status"] == "paid"
    assert paid() > before


def test_a_change_needs_the_token_and_has_to_make_sense(clinic: Clinic) -> None:
    url = clinic.status()["url"]
    assert httpx.post(f"{url}/admin/heal").status_code == 403
    assert httpx.post(f"{url}/admin/heal", headers={"Authorization": "Bearer x"}).status_code == 403
    assert httpx.get(f"{url}/nothing").status_code == 404
    with pytest.raises(DemoError, match="Unknown fault"):
        clinic.demo.break_("gremlins")
    for body in ({"size": 0}, {"size": 65}, {"size": "many"}, {"size": True}, {}):
        with pytest.raises(DemoError, match="from 1 to 64"):
            clinic.change("resize_pool", **body)
    with pytest.raises(DemoError, match="unknown change"):
        clinic.change("explode")


def test_a_bad_deploy_is_in_the_history_and_so_is_its_rollback(clinic: Clinic) -> None:
    clinic.change("break", fault="bad_deploy")
    url = clinic.status()["url"]
    newest = httpx.get(f"{url}/deployments").json()["deployments"][0]
    assert newest["kind"] == "deploy"
    assert newest["seconds_ago"] < 10
    clinic.change("roll_back")
    history = httpx.get(f"{url}/deployments").json()
    assert history["deployments"][0]["kind"] == "rollback"
    assert history["live"] == history["deployments"][0]["version"] != newest["version"]


def test_it_begins_sick_and_its_illness_outlives_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LEAVING_SECONDS", 0.2)
    demo = DemoService(tmp_path / "demo", rate=24, window=WINDOW)
    with pytest.raises(DemoNotRunning, match=r"manage\.py serve --demo"):
        demo.status()
    address = demo.start()
    try:
        assert demo.status()["fault"] == "pool_exhausted"
        # A second server beside the first uses the service that is there, and leaves it running.
        other = DemoService(tmp_path / "demo")
        assert other.start() == address
        other.stop()
        assert demo.status()["pid"] == address.pid
        demo._ask(address, "POST", "/admin/break", {"fault": "bad_deploy"})
        version = demo.status()["version"]
    finally:
        demo.stop()
    assert find(tmp_path / "demo") is None
    demo.start()
    try:
        assert demo.status()["fault"] == "bad_deploy"
        assert demo.status()["version"] == version
    finally:
        demo.stop()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from sessions_app.demo.supervisor import DemoService\n"
        "print(DemoService(pathlib.Path(sys.argv[1]), window=0.2).start().pid, flush=True)\n"
        "os._exit(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=20, check=False
    )
    pid = int(done.stdout)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the orphan lives on")
    assert find(tmp_path) is None


def test_its_log_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOG_BYTES", 2000)
    log = service.Log(tmp_path / "service.log")
    for number in range(200):
        log.write("INFO", f"line {number}")
    log.file.close()
    assert {path.name for path in tmp_path.iterdir()} == {"service.log", "service.log.1"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5000
