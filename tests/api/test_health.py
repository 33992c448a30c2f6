"""The probes: alive is one thing, able to work another."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from channels.db import database_sync_to_async
from django.test import AsyncClient
from django.utils import timezone

from approvals_app.models import Comparison, Gate
from clm_site import health
from sessions_app import engine, recovery
from sessions_app.models import Run
from tests.api.conftest import error_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running(monkeypatch, settings):
    """An engine of this process that has just come round."""
    settings.CLM_ENGINE = "inprocess"
    beating = SimpleNamespace(beat=time.monotonic())
    monkeypatch.setattr(engine, "running", lambda: beating)
    return beating


async def probe(path: str = "/readyz"):
    return await AsyncClient(headers={"host": "localhost"}).get(path)


async def test_alive_needs_nothing_but_the_process():
    response = await probe("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.fixture
def swept(transactional_db):
    """A desk that was compared a moment ago."""
    recovery.sweep()
    return Comparison.latest()


async def test_ready_when_every_part_works(running, swept):
    response = await probe()
    assert response.status_code == 200
    found = response.json()
    assert found["checks"] == {"database": "ok", "layer": "ok", "engine": "ok", "sweep": "ok"}
    assert found["status"] == "ok"
    assert found["comparison"].pop("age_seconds") < 5
    assert re.fullmatch(r"0 awaiting · 0 gates · 0 disagreements · checked \d s ago", found["comparison"].pop("words"))
    assert found["comparison"] == {
        "awaiting": 0,
        "gates": 0,
        "disagreements": 0,
        "repair_cards": 0,
        "checked_at": swept.checked_at.isoformat(),
    }


async def test_not_ready_before_the_first_sweep(running):
    error = error_of(await probe(), 503, "service_unavailable")
    assert error["message"] == "sweep: It has not compared anything yet."
    assert error["details"]["comparison"] is None


async def test_not_ready_when_the_sweep_is_dead(running, swept):
    ago = timezone.now() - timedelta(seconds=16)
    await database_sync_to_async(Comparison.objects.update)(checked_at=ago)
    error = error_of(await probe(), 503, "service_unavailable")
    assert error["message"] == "sweep: It is late: it last compared 16 s ago."
    assert error["details"]["comparison"]["words"].endswith("checked 16 s ago")


async def test_a_server_beside_workers_tells_of_a_dead_sweep_and_stays_ready_for_people(running, swept, settings):
    settings.CLM_ENGINE = "procrastinate"
    ago = timezone.now() - timedelta(seconds=16)
    await database_sync_to_async(Comparison.objects.update)(checked_at=ago)
    answer = await probe()
    assert answer.status_code == 200
    assert answer.json()["checks"]["sweep"] == "It is late: it last compared 16 s ago."


async def test_not_ready_while_a_disagreement_lasts(running, swept):
    since = timezone.now() - timedelta(seconds=20)
    await database_sync_to_async(Comparison.objects.update)(disagreements=1, lasting_since=since)
    error = error_of(await probe(), 503, "service_unavailable")
    assert error["details"]["checks"]["sweep"].startswith("It does not put right what disagrees: 0 awaiting")


async def test_a_repair_card_is_said_and_leaves_the_desk_ready_for_whoever_ends_it(running, make_gate):
    def disagree():
        gate = make_gate()
        Run.objects.create(session=gate.session, kind="resume", thread_id=gate.session_id)
        recovery.sweep()

    await database_sync_to_async(disagree)()
    response = await probe()
    assert response.status_code == 200
    found = response.json()["comparison"]
    assert (found["disagreements"], found["repair_cards"]) == (1, 1)
    assert "1 disagreement (1 repair card)" in found["words"]


async def test_not_ready_without_an_engine(swept):
    error = error_of(await probe(), 503, "service_unavailable")
    assert error["message"] == "engine: No engine runs in this process."
    assert error["details"]["checks"]["database"] == "ok"


async def test_not_ready_when_the_engine_has_not_come_round(running, swept):
    running.beat -= 60
    error = error_of(await probe(), 503, "service_unavailable")
    assert "60 s" in error["details"]["checks"]["engine"]


async def test_not_ready_without_the_database(running, monkeypatch):
    def fail():
        raise OSError("disk gone: /secret/path")

    monkeypatch.setattr(health, "_ask_database", fail)
    response = await probe()
    assert error_of(response, 503, "service_unavailable")["details"]["checks"]["database"] == "OSError."
    assert b"secret" not in response.content


async def test_not_ready_without_the_layer(running, monkeypatch):
    monkeypatch.setattr(health, "PATIENCE", 0.05)
    monkeypatch.setattr(health, "get_channel_layer", lambda: DeafLayer())
    error = error_of(await probe(), 503, "service_unavailable")
    assert "No answer" in error["details"]["checks"]["layer"]


class DeafLayer:
    """A channel layer that takes everything and gives nothing."""

    async def new_channel(self):
        return "specific.deaf"

    async def send(self, channel, message):
        pass

    async def receive(self, channel):
        import asyncio

        await asyncio.Event().wait()


@pytest.mark.parametrize("late", [10, 600])
def test_the_sweep_is_missed_only_after_a_while(late, make_session, make_gate, swept):
    past = timezone.now() - timedelta(seconds=late)
    make_session(status="in_progress")
    Run.objects.filter(status="running").update(lease_until=past)
    gate = make_gate()
    Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=past)
    if late < 30:
        health._ask_sweep()
    else:
        with pytest.raises(health.NotWell, match="1 stalled runs and 1 overdue gates"):
            health._ask_sweep()
