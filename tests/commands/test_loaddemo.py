"""`manage.py loaddemo`: what it makes is as lawful as what the verbs make."""

from __future__ import annotations

import io
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db.models import Count
from langgraph.checkpoint.memory import InMemorySaver

from approvals_app import consistency
from approvals_app.audit import faults_of
from approvals_app.models import Comparison, Decision, Gate, RepairCard
from approvals_app.states import Channel, GateStatus, QueueTab
from sessions_app import recovery, runner
from sessions_app.models import Run, Session, SessionEvent, SessionNumber
from sessions_app.states import TERMINAL, TRANSITIONS, SessionStatus

pytestmark = pytest.mark.django_db
SESSIONS, PENDING = 60, 12


def load(**options: Any) -> str:
    out = io.StringIO()
    call_command("loaddemo", stdout=out, **{"sessions": SESSIONS, "pending": PENDING, **options})
    return out.getvalue()


@pytest.fixture
def loaded() -> str:
    """What the command says of sixty sessions."""
    return load()


def test_it_makes_what_was_asked_for_and_says_so(loaded):
    assert Session.objects.count() == SESSIONS
    assert Session.objects.filter(status="awaiting_input").count() == PENDING
    assert f"{SESSIONS} sessions" in loaded
    assert f"{PENDING} awaiting_input" in loaded
    assert f"{SessionEvent.objects.count():,} session events" in loaded
    assert SESSIONS * 8 < SessionEvent.objects.count() < SESSIONS * 14


def test_every_outcome_every_end_of_a_gate_and_every_tab_is_there(loaded):
    statuses = set(Session.objects.values_list("status", flat=True))
    assert statuses == {*map(str, TERMINAL), "awaiting_input"}
    assert set(Gate.objects.values_list("status", flat=True)) == set(GateStatus.values)
    for tab in QueueTab:
        assert Gate.objects.in_tab(tab).exists(), tab
    assert Decision.objects.values("actor").distinct().count() > 3


def test_history_verifies(loaded):
    assert [fault for session in Session.objects.all() for fault in faults_of(session)] == []


def test_replaying_the_events_gives_each_status(loaded):
    for session in Session.objects.all():
        status = SessionStatus.NEW
        for event in session.events.status_changes().order_by("seq"):
            assert event.payload["from"] == status
            assert event.payload["to"] in TRANSITIONS[status]
            status = SessionStatus(event.payload["to"])
        assert session.status == status
        assert session.ended == (session.ended_at is not None)


def test_a_session_waits_if_and_only_if_a_gate_is_open(loaded):
    open_gates = dict(Gate.objects.pending().order_by().values_list("session").annotate(Count("pk")))
    assert set(open_gates) == set(Session.objects.filter(status="awaiting_input").values_list("pk", flat=True))


def test_the_sweep_finds_nothing_and_opens_no_card(loaded, settings):
    settings.CLM_SWEEP_SECONDS = 0
    assert recovery.sweep() == []
    seen = async_to_sync(recovery.read)(recovery.at_rest(), InMemorySaver())
    assert (seen, recovery.judge(seen)) == ([], [])
    assert not RepairCard.objects.exists()
    found = Comparison.objects.get()
    assert (found.awaiting, found.gates, found.disagreements) == (PENDING, PENDING, 0)


def test_a_decision_on_one_is_kept_and_ends_its_session_with_the_reason(loaded, bob):
    gate = Gate.objects.pending().filter(kind="tool_approval", session__gates__status="pending").latest("pk")
    gate.decide("approve", actor=bob, channel=Channel.PAGE, digest=gate.digest)
    run = Run.objects.get(status="pending")
    assert run.claim("test:0:0")
    with pytest.raises(Exception, match="There is no graph 'loaddemo'") as refused:
        async_to_sync(runner._drive)(run, InMemorySaver())
    run.fail(str(refused.value))
    session = Session.objects.get(pk=gate.session_id)
    assert (session.status, session.resolution) == ("error", str(refused.value))
    assert session.tool_calls.get(tool_call_id=gate.tool_call_id).lapsed
    assert consistency.compare().disagreeing == []
    assert list(faults_of(session)) == []


def test_it_is_refused_beside_sessions_unless_told_to_add(make_session):
    mine = make_session()
    with pytest.raises(CommandError, match="--add"):
        load()
    load(add=True)
    assert Session.objects.count() == SESSIONS + 1
    assert Session.objects.get(pk=mine.pk).status == "new"
    # The next submission takes up the day's numbers where they are now.
    assert SessionNumber.objects.get(day=mine.created_at.date()).last >= 1
    assert list(faults_of(make_session())) == []


@pytest.mark.parametrize(("options", "named"), [({"sessions": 0}, "--sessions"), ({"pending": 61}, "--pending")])
def test_numbers_that_cannot_be_are_refused(options, named):
    with pytest.raises(CommandError, match=named):
        load(**options)
    assert not Session.objects.exists()
