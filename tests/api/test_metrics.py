"""`/metrics` counts what is there, in the format that Prometheus reads, and tells nobody's business."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from approvals_app.models import Comparison, Gate
from approvals_app.states import GateStatus
from sessions_app import engine, recovery
from tests.api.conftest import error_of
from tests.conftest import tool_interrupt

pytestmark = pytest.mark.django_db

SAMPLE = re.compile(r'^([a-z_]+)(?:\{([a-z]+)="([a-z_]+)"\})? ([0-9.e+-]+)$')


def scrape(client) -> dict[str, float]:
    """Return every sample by its name and label value, having held each line against the format."""
    response = client.get("/metrics", headers={"host": "localhost"})
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = response.content.decode()
    assert text.endswith("\n")
    found, declared = {}, set()
    for line in text.splitlines():
        if kind := re.fullmatch(r"# TYPE ([a-z_]+) (gauge|counter)", line):
            declared.add(kind[1])
        elif not line.startswith("# HELP "):
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] in declared
            found[" ".join(filter(None, (sample[1], sample[3])))] = float(sample[4])
    return found


def test_what_is_on_record_is_counted(client, bob, make_session, make_gate):
    make_session()
    waiting = make_gate(interrupts=[tool_interrupt(), tool_interrupt()])
    Gate.objects.swap(waiting.pk, GateStatus.PENDING, created_at=timezone.now() - timedelta(minutes=10))
    make_gate().decide("approve", actor=bob, channel="api", digest=Gate.objects.latest("pk").digest)
    recovery.sweep()
    found = scrape(client)
    assert found["clm_sessions new"] == 1
    assert found["clm_sessions awaiting_input"] == 1
    assert found["clm_sessions in_progress"] == 1
    assert found["clm_sessions resolved"] == 0
    assert (found["clm_runs interrupted"], found["clm_runs pending"]) == (2, 2)
    assert found["clm_gates_pending"] == 2
    assert 600 <= found["clm_gate_oldest_pending_seconds"] < 660
    assert (found["clm_decisions_total approve"], found["clm_decisions_total reject"]) == (1, 0)
    assert (found["clm_disagreements"], found["clm_repair_cards"]) == (0, 0)
    assert found["clm_sweep_age_seconds"] < 60
    assert found["clm_engine_up"] == 0


def test_the_sweep_s_age_and_what_it_found(client):
    Comparison.objects.create(
        pk=Comparison.ONLY,
        checked_at=timezone.now() - timedelta(hours=1),
        awaiting=2,
        gates=1,
        disagreements=3,
        put_right=0,
        cards=2,
    )
    found = scrape(client)
    assert found["clm_sweep_age_seconds"] >= 3600
    assert (found["clm_disagreements"], found["clm_repair_cards"]) == (3, 2)


def test_an_empty_desk_has_no_sweep_and_no_oldest_gate(client):
    found = scrape(client)
    assert found["clm_gate_oldest_pending_seconds"] == 0
    assert "clm_sweep_age_seconds" not in found


def test_this_process_s_engine(client, monkeypatch):
    monkeypatch.setattr(engine, "running", lambda: SimpleNamespace(beat=time.monotonic() - 30, driving=4, drives=True))
    found = scrape(client)
    assert (found["clm_engine_up"], found["clm_engine_driving"]) == (1, 4)
    assert 30 <= found["clm_engine_beat_age_seconds"] < 60


def test_a_scrape_costs_the_same_whatever_there_is(client, make_gate, django_assert_num_queries):
    for number in (0, 3):
        for _ in range(number):
            make_gate()
        with django_assert_num_queries(5):
            scrape(client)


def test_it_only_answers_a_get(client):
    error = error_of(client.post("/metrics", headers={"host": "localhost"}), 405, "bad_request")
    assert "GET" in error["message"]
