"""Claims, presence and comments: they tell people of each other, age out, and keep nobody from deciding."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone

from approvals_app import audit, together
from approvals_app.exceptions import GateClaimed, GateDecided, NothingSaid, NotYours
from approvals_app.models import Comment, Gate, Presence
from approvals_app.models.presence import Doing
from approvals_app.states import Channel
from sessions_app.exceptions import Conflict, LogIsAppendOnly
from sessions_app.models import Session
from sessions_app.recovery import sweep

pytestmark = pytest.mark.django_db


@pytest.fixture
def dora(db) -> User:
    """A second approver."""
    person = User.objects.create_user("dora", password="dora")
    person.groups.set(Group.objects.filter(name="approver"))
    return person


def age(gate: Gate, **by: float) -> Gate:
    """Let the claim's time go on."""
    was = Gate.objects.get(pk=gate.pk).claimed_until
    assert was
    Gate.objects.filter(pk=gate.pk)._raw_update(claimed_until=was - timedelta(**by))
    return Gate.objects.get(pk=gate.pk)


def kinds(gate: Gate) -> list[str]:
    told = gate.session.events.filter(kind__startswith="gate_").exclude(kind="gate_fired")
    return list(told.order_by("seq").values_list("kind", flat=True))


# Claims ------------------------------------------------------------------------------------------------------------


def test_a_claim_is_seen_and_found(make_gate, bob, dora):
    gate, other = make_gate(), make_gate()
    gate.claim(bob)
    assert gate.held_by == bob
    assert [*Gate.objects.claimed()] == [*Gate.objects.claimed_by(bob)] == [gate]
    assert [*Gate.objects.unclaimed()] == [other]
    assert not Gate.objects.claimed_by(dora).exists()
    gate.claim(bob)
    assert kinds(gate) == ["gate_claimed"]


def test_one_claim_a_gate_and_it_keeps_nobody_from_deciding(make_gate, bob, dora):
    gate = make_gate()
    gate.claim(bob)
    with pytest.raises(GateClaimed, match="bob is on it already"):
        gate.claim(dora)
    gate.decide("approve", actor=dora, channel=Channel.PAGE, digest=gate.digest)
    assert gate.held_by is None
    assert not Gate.objects.claimed().exists()
    with pytest.raises(GateDecided):
        gate.claim(bob)


def test_a_claim_does_not_keep_the_gate_from_expiring(make_gate, bob):
    gate = make_gate()
    gate.claim(bob)
    Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=timezone.now())
    sweep()
    gate.refresh_from_db()
    assert gate.status == "expired"


def test_who_may_not_decide_cannot_claim(make_gate, alice, charlie):
    gate = make_gate(requester=alice)
    for person in (alice, charlie):
        with pytest.raises(NotYours):
            gate.claim(person)


def test_a_claim_is_given_back_by_its_own_person_only(make_gate, bob, dora):
    gate = make_gate()
    gate.claim(bob)
    with pytest.raises(Conflict):
        gate.release(dora)
    gate.release(bob)
    assert gate.held_by is None
    assert kinds(gate) == ["gate_claimed", "gate_released"]
    with pytest.raises(Conflict):
        gate.release(bob)


def test_a_claim_that_no_page_keeps_is_free_after_five_minutes(make_gate, bob, dora):
    gate = make_gate()
    gate.claim(bob)
    assert age(gate, minutes=4, seconds=55).held_by == bob
    gate = age(gate, seconds=10)
    assert gate.held_by is None
    gate.claim(dora)
    assert gate.held_by == dora


def test_an_open_page_keeps_a_claim_from_beat_to_beat_and_half_a_minute_after_the_last(make_gate, bob, dora):
    gate = make_gate()
    gate.claim(bob)
    for _ in range(40):
        gate = age(gate, seconds=10)
        assert gate.keep_claim(bob)
    assert not gate.keep_claim(dora)
    assert age(gate, seconds=25).held_by == bob
    gate = age(gate, seconds=10)
    assert gate.held_by is None
    assert not gate.keep_claim(bob)


def test_the_sweep_frees_what_is_over_and_tells_it_once(make_gate, bob):
    gate = make_gate()
    gate.claim(bob)
    age(gate, minutes=6)
    assert sweep(dry_run=True) == []
    assert kinds(gate) == ["gate_claimed"]
    for _ in range(2):
        assert sweep() == []
    assert kinds(gate) == ["gate_claimed", "gate_released"]
    assert gate.session.events.get(kind="gate_released").payload["cause"] == "its time ran out"


# Presence ----------------------------------------------------------------------------------------------------------


def test_what_a_page_says_of_itself_is_read_and_anything_else_is_not():
    assert together.heard('{"presence": {"gate": 3, "doing": "rejecting"}}') == (3, "rejecting")
    for text in (
        None, "", "{", "[]", "3", '{"presence": 3}', '{"presence": {"gate": "3", "doing": "reading"}}',
        '{"presence": {"gate": true, "doing": "reading"}}', '{"presence": {"gate": 3, "doing": "dancing"}}',
        '{"presence": {"gate": -3, "doing": "reading"}}', '{"presence": {"gate": 3}}', '"' + "x" * 300 + '"',
    ):  # fmt: skip
        assert together.heard(text) is None


def test_who_is_there_ages_out_within_half_a_minute(make_gate, bob):
    gate = make_gate()
    Presence.note(gate, bob, Doing.REJECTING)
    assert str(Presence.objects.here().get()) == "bob is writing a rejection"
    Presence.objects.update(seen_at=timezone.now() - timedelta(seconds=31))
    assert not Presence.objects.here().exists()
    sweep()
    assert not Presence.objects.exists()


def test_pages_are_rung_for_news_only(make_gate, bob, dora, monkeypatch):
    rung = []
    monkeypatch.setattr("sessions_app.feed.ring_unlogged", lambda *about: rung.append(about))
    gate = make_gate()
    for doing in (Doing.READING, Doing.READING, None, Doing.REJECTING, Doing.REJECTING):
        Presence.note(gate, bob, doing)
    assert len(rung) == 2
    Presence.leave(gate, bob)
    Presence.leave(gate, bob)
    assert rung == [(gate.session_id, "presence")] * 3


def test_a_hidden_card_keeps_the_claim_and_shows_nobody(make_gate, bob):
    gate = make_gate()
    gate.claim(bob)
    age(gate, minutes=4, seconds=50)
    together.note(bob, together.Said(gate.pk, "reading"))
    together.note(bob, together.Said(gate.pk, together.AWAY))
    assert not Presence.objects.exists()
    gate.refresh_from_db()
    assert gate.claimed_until > timezone.now() + timedelta(seconds=20)


def test_somebody_without_a_role_is_nowhere(make_gate, charlie):
    together.note(charlie, together.Said(make_gate().pk, "reading"))
    assert not Presence.objects.exists()


def test_whoever_opens_another_gate_has_left_the_first(make_gate, bob):
    first, second = make_gate(), make_gate()
    together.note(bob, together.Said(first.pk, "reading"))
    together.note(bob, together.Said(second.pk, "reading"), first.pk)
    assert Presence.objects.get().gate == second


# Comments ----------------------------------------------------------------------------------------------------------


def test_a_comment_is_written_once_with_its_event(make_gate, alice):
    gate = make_gate(requester=alice)
    comment = Comment.write(gate, author=alice, channel=Channel.PAGE, text="  I am at the console, please wait.\0 ")
    assert comment.text == "I am at the console, please wait.�"
    payload = gate.session.events.get(kind="gate_commented").payload
    assert payload == {
        "gate_id": gate.pk, "comment_id": comment.pk, "actor": "alice", "text": comment.text, "seal": comment.seal()
    }  # fmt: skip
    with pytest.raises(LogIsAppendOnly):
        comment.save()
    assert list(audit.faults_of(Session.objects.get(pk=gate.session_id))) == []


@pytest.mark.parametrize("text", ["", "   ", "x" * 4001])
def test_an_empty_comment_or_an_endless_one_is_refused(make_gate, bob, text):
    with pytest.raises(NothingSaid):
        Comment.write(make_gate(), author=bob, channel=Channel.PAGE, text=text)
    assert not Comment.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_audit_notices_a_comment_that_was_changed_behind_its_back(make_gate, bob):
    from django.db import connection

    from sessions_app.append_only import remove_triggers

    gate = make_gate()
    Comment.write(gate, author=bob, channel=Channel.PAGE, text="wait")
    remove_triggers("approvals_app_comment")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE approvals_app_comment SET text = 'go ahead'")
    faults = [str(fault) for fault in audit.faults_of(Session.objects.get(pk=gate.session_id))]
    assert faults == [f"{gate.session_id}: comment {Comment.objects.get().pk} was changed"]
