"""A decision and an expiry within milliseconds of each other: exactly one of them happens, and the clock says which."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from approvals_app.exceptions import GateExpired
from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app.exceptions import Conflict, ToolRefused
from sessions_app.models import ToolCall
from tests.laws.test_laws import interrupts_of

NOW = timezone.now() + timedelta(hours=1)
#: Offsets from the gate's end in microseconds, close to it and at it.
OFFSETS = st.sampled_from([-5000, -1, 0, 1, 5000]) | st.integers(-10_000, 10_000)
PROFILE = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def at(offset: int) -> Any:
    """Let it be so many microseconds after the end."""
    return mock.patch("django.utils.timezone.now", return_value=NOW + timedelta(microseconds=offset))


def told(gate: Gate) -> tuple[int, int]:
    """Return how many decisions and how many expiries the log has of the gate."""
    events = gate.session.events.filter(payload__gate_id=gate.pk)
    return events.filter(kind="gate_decided").count(), events.filter(kind="gate_expired").count()


@pytest.mark.django_db
@PROFILE
@given(steps=st.lists(st.tuples(st.sampled_from(["decide", "expire"]), OFFSETS), min_size=1, max_size=4))
def test_whatever_comes_in_whatever_order_the_first_that_is_in_time_wins(
    make_gate: Callable[..., Gate], bob: User, steps: list[tuple[str, int]]
) -> None:
    with transaction.atomic():
        gate = make_gate()
        Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=NOW)
        expected = "pending"
        for step, offset in steps:
            over = offset >= 0
            with at(offset):
                mine = Gate.objects.get(pk=gate.pk)
                if step == "expire":
                    assert mine.expire() == (over and expected == "pending")
                else:
                    try:
                        mine.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)
                    except Conflict:
                        assert over or expected != "pending"
                    else:
                        assert not over
                        assert expected == "pending"
                if expected == "pending" and (over or step == "decide"):
                    expected = "expired" if over else "approved"
        gate.refresh_from_db()
        assert gate.status == expected
        assert told(gate) == (int(expected == "approved"), int(expected == "expired"))
        if gate.decided_at:
            assert (gate.decided_at < gate.expires_at) == (expected == "approved")
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_a_decision_that_was_in_time_when_it_came_and_late_when_it_was_written_is_refused(
    make_gate: Callable[..., Gate], bob: User
) -> None:
    """It waited for the database meanwhile: the instant that counts is the one that is written down."""
    gate = make_gate()
    Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=NOW)
    end = gate._end

    def end_late(*args: Any) -> None:
        with at(0):
            end(*args)

    with mock.patch.object(gate, "_end", end_late), pytest.raises(GateExpired):
        gate.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)
    gate.refresh_from_db()
    assert (gate.status, told(gate)) == ("pending", (0, 0))
    with at(0):
        assert gate.expire()


@pytest.mark.django_db(transaction=True)
def test_threads_that_decide_and_expire_at_the_same_instant_leave_one_end(
    make_gate: Callable[..., Gate], bob: User
) -> None:
    gates = [make_gate() for _ in range(12)]
    start = threading.Barrier(2)

    def decide(pk: int) -> str:
        mine = Gate.objects.select_related("session", "run").get(pk=pk)
        start.wait()
        # It decides about when the time is over: sometimes a little before, sometimes a little after.
        time.sleep(max(0.0, (mine.expires_at - timezone.now()).total_seconds() - 0.006))
        try:
            mine.decide("approve", actor=bob, channel=Channel.API, digest=mine.digest)
        except GateExpired:
            return "late"
        finally:
            connection.close()
        return "in time"

    def expire(pk: int) -> bool:
        mine = Gate.objects.select_related("session", "run").get(pk=pk)
        start.wait()
        try:
            while not (done := mine.expire()):
                if Gate.objects.filter(pk=pk).exclude(status="pending").exists():
                    break
            return done
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for gate in gates:
            Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=timezone.now() + timedelta(milliseconds=60))
            decided, expired = pool.submit(decide, gate.pk), pool.submit(expire, gate.pk)
            came, wrote = decided.result(timeout=60), expired.result(timeout=60)
            gate.refresh_from_db()
            if came == "in time":
                assert (gate.status, told(gate), wrote) == ("approved", (1, 0), False)
                assert gate.decided_at
                assert gate.decided_at < gate.expires_at
            else:
                assert (gate.status, told(gate)) == ("expired", (0, 1))
                assert gate.decided_at
                assert gate.decided_at >= gate.expires_at
            assert gate.session.runs.filter(kind="resume").count() == 1


@pytest.mark.django_db
@PROFILE
@given(steps=st.lists(st.tuples(st.sampled_from(["claim", "lapse"]), OFFSETS), min_size=1, max_size=4))
def test_an_approved_call_is_dispatched_before_its_end_or_lapses_and_never_both(
    make_session: Callable[..., Any], bob: User, steps: list[tuple[str, int]]
) -> None:
    from approvals_app import expiry

    with transaction.atomic():
        session = make_session(status="in_progress")
        run = session.runs.get()
        assert run.pause(interrupts_of(run, ["tool"]), checkpoint_id="c")
        gate = session.gates.get()
        gate.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)
        row = session.tool_calls.get()
        ToolCall.objects.filter(pk=row.pk).update(grant={**row.grant, "expires_at": NOW.isoformat()})
        resume = session.runs.get(status="pending")
        assert resume.claim("elsewhere:1:0")
        expected = "approved"
        for step, offset in steps:
            over = offset >= 0
            with at(offset):
                if step == "lapse":
                    assert bool(expiry.lapse_calls()) == (over and expected == "approved")
                else:
                    mine = ToolCall.objects.get(pk=row.pk)
                    try:
                        mine.claim(run_id=resume.pk, attempt=resume.attempt, tool=row.tool, args=row.args)
                    except ToolRefused:
                        assert over or expected != "approved"
                    else:
                        assert not over
                        assert expected == "approved"
                if expected == "approved" and (over or step == "claim"):
                    expected = "expired" if over else "executing"
        row.refresh_from_db()
        assert row.status == expected
        kinds = list(session.events.values_list("kind", flat=True))
        assert kinds.count("tool_dispatched") == int(expected == "executing")
        assert kinds.count("tool_lapsed") == int(expected == "expired")
        transaction.set_rollback(True)
