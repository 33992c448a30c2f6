"""The probes: alive is one thing, able to work another."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.test import AsyncClient
from django.utils import timezone

from approvals_app.models import Gate
from clm_site import health
from sessions_app import engine
from sessions_app.models import Run
from tests.api.conftest import error_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running(monkeypatch):
    """An engine that has just come round."""
    beating = SimpleNamespace(beat=time.monotonic())
    monkeypatch.setattr(engine, "running", lambda: beating)
    return beating


async def probe(path: str = "/readyz"):
    return await AsyncClient(headers={"host": "localhost"}).get(path)


async def test_alive_needs_nothing_but_the_process():
    response = await probe("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_when_every_part_works(running):
    response = await probe()
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {"database": "ok", "layer": "ok", "engine": "ok", "sweep": "ok"},
    }


async def test_not_ready_without_an_engine():
    error = error_of(await probe(), 503, "service_unavailable")
    assert error["message"] == "engine: No engine runs in this process."
    assert error["details"]["checks"]["database"] == "ok"


async def test_not_ready_when_the_engine_has_not_come_round(running):
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
def test_the_sweep_is_missed_only_after_a_while(late, make_session, make_gate):
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
