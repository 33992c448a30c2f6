"""Facts that change under a gate: seen, said once, acknowledged by name, and never approved as they were."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction

from approvals_app import audit, bulk, drift
from approvals_app.exceptions import FactsChanged, NotYours, ShownOutdated
from approvals_app.models import Decision, FactsAcknowledgement, Gate
from approvals_app.models import drift as drifting
from approvals_app.states import Channel
from sessions_app.exceptions import Conflict, LogIsAppendOnly
from sessions_app.models import Session, ToolCall

pytestmark = pytest.mark.django_db


def approve(gate: Gate, bob: User, **fields):
    return gate.decide("approve", actor=bob, channel=Channel.PAGE, **{"digest": gate.digest, **fields})


def kinds(gate: Gate) -> list[str]:
    return list(gate.session.events.order_by("seq").values_list("kind", flat=True))


def test_a_gate_shows_and_digests_the_facts_that_it_was_proposed_on(make_resting_gate, world):
    gate = make_resting_gate()
    assert gate.facts == [{"tool_call_id": gate.tool_call_id, "tool": gate.tool, **world.reading()}]
    gate.facts[0]["facts"]["version"] = "4.1.8"
    assert gate.digest_of_shown() != gate.digest


def test_a_gate_without_facts_has_the_digest_that_it_always_had(make_gate):
    gate = make_gate()
    assert "facts" not in gate.shown()
    assert gate.look_again()


def test_an_approval_on_facts_that_hold_is_taken_and_its_grant_carries_them(make_resting_gate, world, bob):
    gate = make_resting_gate()
    approve(gate, bob)
    grant = ToolCall.objects.get().grant
    assert grant
    assert grant["facts"]["facts"] == world.facts
    assert world.read == 1


@pytest.mark.parametrize("digest", ["shown", None])
def test_an_approval_of_facts_that_changed_is_refused_and_says_what_changed(make_resting_gate, world, bob, digest):
    """Without a digest is how the older path by tool call decides."""
    gate = make_resting_gate()
    world.facts["version"] = "4.2.0"
    with pytest.raises(FactsChanged) as refused:
        approve(gate, bob, digest=gate.digest if digest else None)
    assert "version was 4.1.9 and is 4.2.0" in refused.value.text
    assert refused.value.details["changes"] == [{"tool": gate.tool, "name": "version", "was": "4.1.9", "now": "4.2.0"}]
    gate.refresh_from_db()
    assert gate.pending
    assert gate.drifted
    assert not Decision.objects.exists()
    assert ToolCall.objects.get().grant is None


def test_a_change_is_written_down_once_however_often_it_is_read(make_resting_gate, world):
    gate = make_resting_gate()
    world.facts["pool size"] = 40
    for _ in range(3):
        assert not Gate.objects.get(pk=gate.pk).look_again(max_age=0)
    assert kinds(gate).count("facts_changed") == 1
    assert Gate.objects.drifted().get() == gate


def test_facts_that_go_back_by_themselves_need_no_acknowledgement(make_resting_gate, world, bob):
    gate = make_resting_gate()
    world.facts["version"] = "4.2.0"
    gate.look_again(max_age=0)
    world.facts["version"] = "4.1.9"
    assert gate.look_again(max_age=0)
    assert (gate.facts_now, gate.changes) == ([], [])
    assert kinds(gate).count("facts_changed") == 2
    approve(gate, bob)


def test_facts_that_cannot_be_read_are_not_known_which_is_a_change(make_resting_gate, world, bob):
    gate = make_resting_gate()
    world.facts = None
    with pytest.raises(FactsChanged, match=r"cannot be read any more \(checkout does not answer"):
        approve(gate, bob)
    gate.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=gate.fingerprint_now)
    approve(gate, bob)
    grant = ToolCall.objects.get().grant
    assert grant
    assert grant["facts"]["known"] is False


def test_after_an_acknowledgement_only_the_new_digest_is_approved(make_resting_gate, world, bob):
    gate = make_resting_gate()
    before = gate.digest
    world.facts["version"] = "4.2.0"
    gate.look_again(max_age=0)
    taken = gate.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=gate.fingerprint_now)
    assert gate.digest == taken.digest != before
    assert taken.facts[0]["facts"]["version"] == "4.2.0"
    assert gate.facts[0]["facts"]["version"] == "4.1.9"
    with pytest.raises(ShownOutdated):
        approve(gate, bob, digest=before)
    decision = approve(gate, bob)
    assert decision.digest == taken.digest
    event = gate.session.events.get(kind="facts_acknowledged")
    assert event.actor == bob
    assert event.payload["digest"] == gate.digest
    assert event.payload["changes"][0]["now"] == "4.2.0"
    assert list(audit.faults_of(Session.objects.get(pk=gate.session_id))) == []


def test_facts_that_change_again_must_be_acknowledged_again(make_resting_gate, world, bob):
    gate = make_resting_gate()
    world.facts["version"] = "4.2.0"
    gate.look_again(max_age=0)
    seen = gate.fingerprint_now
    world.facts["version"] = "4.3.0"
    gate.look_again(max_age=0)
    with pytest.raises(FactsChanged):
        gate.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=seen)
    assert not FactsAcknowledgement.objects.exists()


def test_nothing_is_acknowledged_where_nothing_is_new_or_by_who_may_not_decide(make_resting_gate, world, alice, bob):
    gate = make_resting_gate(requester=alice)
    with pytest.raises(Conflict, match="nothing to acknowledge"):
        gate.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=gate.fingerprint)
    world.facts["version"] = "4.2.0"
    gate.look_again(max_age=0)
    alice.groups.add(Group.objects.get(name="approver"))
    with pytest.raises(NotYours):
        gate.acknowledge(actor=User.objects.get(pk=alice.pk), channel=Channel.PAGE, fingerprint=gate.fingerprint_now)


def test_several_at_once_are_no_way_around_it(make_resting_gate, world, bob):
    moved, other = make_resting_gate(), make_resting_gate(environment="staging")
    for gate in (moved, other):
        Gate.objects.filter(pk=gate.pk)._raw_update(risk="medium")
    world.facts["version"] = "4.2.0"
    moved.look_again(max_age=0)
    other.look_again(max_age=0)
    other.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=other.fingerprint_now)
    shown = {moved.pk: moved.digest, other.pk: other.digest}
    refused, taken = bulk.decide_all(shown, "approve", actor=bob, channel=Channel.PAGE)
    assert isinstance(refused.error, FactsChanged)
    assert taken.decision == Decision.objects.get()


def test_a_rejection_needs_no_facts(make_resting_gate, world, bob):
    gate = make_resting_gate()
    world.facts["version"] = "4.2.0"
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message="not now")
    assert (gate.status, world.read) == ("rejected", 0)


def test_an_edit_is_granted_on_the_facts_under_the_edited_call(make_resting_gate, world, bob):
    gate = make_resting_gate()
    args = {"service": "payments", "action": "restart", "reason": "r"}
    gate.decide("edit", actor=bob, channel=Channel.PAGE, digest=gate.digest, edited_args=args)
    assert [asked["service"] for asked in world.asked] == ["checkout", "payments"]


def test_many_readers_cost_one_reading(make_resting_gate, world):
    gate = make_resting_gate()
    for _ in range(20):
        Gate.objects.get(pk=gate.pk).look_again()
    assert world.read == 1


def test_readers_who_come_while_it_is_read_wait_for_that_reading(world):
    going, go_on = threading.Event(), threading.Event()
    calls = [{"tool_call_id": "c", "tool": "local_remediation:apply_fix", "args": {}}]

    def hold() -> None:
        going.set()
        assert go_on.wait(10)

    world.first = hold
    threads = [threading.Thread(target=drift.read, args=(1, calls, "dev")) for _ in range(5)]
    threads[0].start()
    assert going.wait(10)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert world.read == 1


@pytest.mark.django_db(transaction=True)
def test_facts_are_read_in_no_transaction(make_resting_gate, world, bob, monkeypatch):
    gate = make_resting_gate()
    world.facts["version"] = "4.2.0"
    inside = []

    def read_now(*args):
        inside.append(transaction.get_connection().in_atomic_block)
        return now(*args)

    now = drift.read_now
    monkeypatch.setattr(drift, "read_now", read_now)
    with pytest.raises(FactsChanged):
        approve(gate, bob)
    gate.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=gate.fingerprint_now)
    approve(gate, bob)
    assert inside == [False, False]


def test_an_acknowledgement_is_never_changed(make_resting_gate, world, bob):
    gate = make_resting_gate()
    world.facts["version"] = "4.2.0"
    gate.look_again(max_age=0)
    taken = gate.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=gate.fingerprint_now)
    for change in (taken.save, taken.delete, FactsAcknowledgement.objects.all().delete):
        with pytest.raises(LogIsAppendOnly):
            change()
    with pytest.raises(Exception, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE approvals_app_factsacknowledgement SET digest = 'x'")


def test_the_audit_notices_a_digest_that_no_acknowledgement_explains(make_resting_gate, world, bob):
    gate = make_resting_gate()
    Gate.objects.filter(pk=gate.pk)._raw_update(digest="0" * 64)
    assert [str(fault) for fault in audit.faults_of(gate.session)] == [
        f"{gate.session_id}: gate {gate.pk} carries another digest than the log"
    ]


def test_a_batch_rests_on_the_facts_of_each_call():
    was = [
        {"tool_call_id": one, "tool": "bank:refund", "known": True, "facts": {"owner": one}, "why": "", "at": ""}
        for one in ("a", "b")
    ]
    now = [was[0], {**was[1], "facts": {"owner": "c"}}]
    assert drift.changes(was, now) == [{"tool": "bank:refund", "name": "owner", "was": "b", "now": "c"}]
    assert drift.in_words(was, now) == "owner was b and is c"
    assert drift.fingerprint_of(was) != drift.fingerprint_of(now)
    assert drift.in_words(was, was[:1]) == "they cannot be read any more (nobody says how to read them here)"


def test_only_calls_that_the_ledger_knows_bring_facts():
    row = ToolCall(tool_call_id="a", tool="t:t", facts=None)
    assert drifting.first_facts([row]) == []
