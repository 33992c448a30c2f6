from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sessions_app.agents.tools.observability import read_log, summarise
from tests.demo.conftest import Clinic, call

READ = "local_observability:"
ACT = "local_remediation:"


def test_the_readings_are_those_of_the_running_service(clinic: Clinic) -> None:
    clinic.make_sick("pool_exhausted")
    time.sleep(0.6)
    everything = call(f"{READ}get_service_health")
    (health,) = everything["services"]
    assert health["service"] == "checkout"
    assert health["status"] == "degraded"
    assert "pool" in health["failing_checks"]
    metrics = call(f"{READ}get_metrics", service="checkout")
    assert metrics["pool"]["in_use"] == metrics["pool"]["size"] == 20
    assert metrics["error_ratio"] > 0.3
    assert metrics["latency_ms"]["p95"] > 300
    assert 10 < metrics["memory_mb"] < 95
    logs = call(f"{READ}get_logs", service="checkout", since_seconds=30)
    assert logs["counts"]["ERROR"] >= 2
    assert any("waiting for a database connection" in said["example"] for said in logs["complaints"])
    history = call(f"{READ}check_deployment_history", service="checkout")
    assert history["live"] == history["deployments"][0]["version"]


def test_a_fix_says_what_it_changed_and_how_it_was_before_and_after(clinic: Clinic) -> None:
    clinic.make_sick("pool_exhausted")
    done = call(f"{ACT}apply_fix", service="checkout", action="resize_pool", size=40, reason="it is full")
    assert done["changed"] == {"pool_size": {"from": 20, "to": 40}}
    assert done["before"]["pool"]["size"] == 20
    assert done["after"]["pool"]["size"] == 40
    later = call(f"{READ}get_service_health", service="checkout", wait_seconds=1)
    assert later["status"] == "healthy"
    restarted = call(f"{ACT}apply_fix", service="checkout", action="restart", reason="to see it come back")
    assert restarted["after"]["status"] != "unreachable"


def test_a_proposal_changes_nothing(clinic: Clinic) -> None:
    before = call(f"{READ}get_metrics", service="checkout")["pool"]["size"]
    said = call(f"{ACT}propose_fix", service="checkout", action="resize_pool", size=before + 1, reason="r")
    assert said["proposal"] == {"service": "checkout", "action": "resize_pool", "size": before + 1}
    assert call(f"{READ}get_metrics", service="checkout")["pool"]["size"] == before


def test_a_fix_that_makes_no_sense_is_refused_with_a_hint(clinic: Clinic) -> None:
    assert "needs a size" in call(f"{ACT}apply_fix", service="checkout", action="resize_pool", reason="r")["error"]
    elsewhere = call(f"{ACT}apply_fix", service="payments", action="restart", reason="r")
    assert elsewhere == {"error": "No service 'payments' is known in dev.", "hint": "Known there: checkout."}


@pytest.mark.parametrize("tool", ["get_service_health", "get_metrics", "get_logs", "check_deployment_history"])
def test_an_environment_without_services_is_said_and_not_raised(clinic: Clinic, tool: str) -> None:
    args = {} if tool in {"get_service_health", "get_metrics"} else {"service": "checkout"}
    said = call(f"{READ}{tool}", environment="staging", **args)
    assert "No service is known in staging" in said["error"]
    assert said["hint"]


def test_a_service_that_does_not_answer_is_a_reading_too(settings: Any, tmp_path: Path) -> None:
    settings.CLM_DATA_DIR = tmp_path
    settings.CLM_SERVICES = {"ledger": {"environment": "staging", "url": "http://127.0.0.1:9", "log": "/no/file"}}
    assert call(f"{READ}get_service_health", environment="staging")["services"][0]["status"] == "unreachable"
    assert call(f"{READ}get_metrics", environment="staging", service="ledger")["status"] == "unreachable"
    assert "cannot be read" in call(f"{READ}get_logs", environment="staging", service="ledger")["error"]
    assert "no readable" in call(f"{READ}check_deployment_history", environment="staging", service="ledger")["error"]
    refused = call(f"{ACT}apply_fix", environment="staging", service="ledger", action="restart", reason="r")
    assert "takes no changes" in refused["error"]


def test_unknown_metrics_come_back_as_they_are() -> None:
    text = '# HELP x\nqueue_depth 7\nhttp_requests_total{status="200"} 5\nbroken line\nnot_a_number abc\n'
    assert summarise(text) == {"requests_total": {"200": 5}, "other": {"queue_depth": 7.0}}


def test_old_log_lines_are_left_out_and_lines_without_a_time_are_not(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("2020-01-01T00:00:00Z ERROR ancient\nERROR no time at all\nplain text\n")
    found = read_log(log, since_seconds=60, level="", contains="", lines=10)
    assert "ancient" not in json.dumps(found)
    assert found["lines"] == ["ERROR no time at all", "plain text"]


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", posted
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_people_on_call_are_told_in_the_log_and_by_webhook(
    settings: Any, tmp_path: Path, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, posted = webhook
    settings.CLM_DATA_DIR = tmp_path
    settings.CLM_ONCALL_WEBHOOK = url
    told = call(f"{ACT}notify_oncall", team="payments", text="pool is full", service="checkout")
    assert told["outcome"] == "escalated"
    (line,) = (tmp_path / "oncall.log").read_text().splitlines()
    assert json.loads(line)["text"] == "pool is full"
    assert posted == [json.loads(line)]
    settings.CLM_ONCALL_WEBHOOK = f"{url}/broken"
    failed = call(f"{ACT}notify_oncall", team="payments", text="again")
    assert "outcome" not in failed
    assert "webhook failed" in failed["error"]
