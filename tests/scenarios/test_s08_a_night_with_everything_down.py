"""S8: approvals pending hours past their expiry, because nothing was up to expire them."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from approvals_app import expiry
from approvals_app.exceptions import GateExpired
from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app import engine, recovery
from sessions_app.models import Run, Session, SessionEvent, ToolCall
from tests.overdue import overdue_gates
from tests.scenarios.conftest import until

MANY = 1000


@pytest.mark.django_db
def test_s08_a_thousand_gates_expire_at_the_first_sweep_with_one_event_each(bob: User) -> None:
    overdue_gates(MANY)
    gate = Gate.objects.select_related("session", "run").latest("pk")
    with pytest.raises(GateExpired):
        gate.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)
    assert len(recovery.sweep()) == MANY - 1
    assert recovery.sweep() == []
    assert set(Gate.objects.values_list("status", flat=True)) == {"expired"}
    assert set(Session.objects.values_list("status", flat=True)) == {"in_progress"}
    assert set(ToolCall.objects.values_list("status", flat=True)) == {"expired"}
    assert Run.objects.filter(kind="resume", status="pending").count() == MANY
    told = Counter(SessionEvent.objects.filter(kind="gate_expired").values_list("session", flat=True))
    assert (len(told), set(told.values())) == (MANY, {1})


@pytest.mark.django_db
def test_s08_what_a_gate_costs_does_not_grow_with_their_number(django_assert_max_num_queries: Any) -> None:
    overdue_gates(2 * expiry.BATCH)
    # For each gate: itself, its call, its siblings, its event and the session's, with their chain, and the run.
    # For each batch: its gates, and the transaction. Where workers drive, the run's job as well.
    with django_assert_max_num_queries((11 + engine.scaled()) * 2 * expiry.BATCH + 10):
        assert len(expiry.expire_gates()) == 2 * expiry.BATCH


@pytest.mark.django_db
def test_s08_a_gate_that_cannot_be_expired_keeps_only_itself_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    overdue_gates(expiry.BATCH + 5)
    stuck = Gate.objects.order_by("pk")[3].pk
    real = Gate.expire

    def fails_after_it_has_written(self: Gate) -> bool:
        done = real(self)
        if self.pk == stuck:
            raise RuntimeError("this one is broken")
        return done

    monkeypatch.setattr(Gate, "expire", fails_after_it_has_written)
    assert len(recovery.sweep()) == expiry.BATCH + 4
    assert [gate.pk for gate in Gate.objects.pending()] == [stuck]
    told = SessionEvent.objects.filter(kind="gate_expired").values_list("payload__gate_id", flat=True)
    assert sorted(told) == sorted(Gate.objects.exclude(pk=stuck).values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
async def test_s08_the_engine_serves_at_once_and_sweeps_what_the_night_left(
    inprocess_engine: Any, monkeypatch: Any
) -> None:
    from channels.db import database_sync_to_async

    await database_sync_to_async(overdue_gates)(3)
    monkeypatch.setattr("sessions_app.inprocess.Engine._claim_what_fits", _claim_nothing)
    started = await inprocess_engine()
    await until(lambda: Gate.objects.filter(status="expired").count() == 3)
    assert started._sweeping.done() is False


async def _claim_nothing(self: Any) -> None:
    """Leave the sessions where the sweep put them."""


@pytest.mark.django_db
def test_s08_calls_that_were_approved_before_the_night_lapse_with_one_event_each() -> None:
    overdue_gates(3)
    late = (timezone.now() - timedelta(hours=1)).isoformat()
    ToolCall.objects.update(status="approved", grant={"decision": 1, "args": {}, "expires_at": late})
    assert len(expiry.lapse_calls(dry_run=True)) == 3
    assert len(expiry.lapse_calls()) == 3
    assert expiry.lapse_calls() == []
    assert set(ToolCall.objects.values_list("status", flat=True)) == {"expired"}
    assert SessionEvent.objects.filter(kind="tool_lapsed").count() == 3
