"""Several people at one gate, through the REST contract."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from approvals_app.models import Comment, Decision, Gate
from tests.api.conftest import error_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def dora(db: None) -> User:
    """A second approver."""
    person = User.objects.create_user("dora", password="dora")
    person.groups.set(Group.objects.filter(name="approver"))
    return person


def test_comments_are_written_and_listed_by_whoever_sees_gates(as_bob, as_alice, as_charlie, make_gate):
    gate = make_gate()
    path = f"/gates/{gate.pk}/comments"
    assert as_bob.get(path).json() == []
    written = as_alice.post(path, {"text": "I am at its console."})
    assert written.status_code == 201
    assert {**written.json(), "id": 0, "ts": ""} == {
        "id": 0,
        "gate_id": gate.pk,
        "author": "alice",
        "channel": "api",
        "text": "I am at its console.",
        "ts": "",
    }
    assert as_bob.get(path).json() == [written.json()]
    error_of(as_charlie.post(path, {"text": "x"}), 403, "forbidden")
    error_of(as_bob.post("/gates/999/comments", {"text": "x"}), 404, "not_found")
    for text in ("", " ", "x" * 4001):
        error_of(as_bob.post(path, {"text": text}), 422, "unprocessable_entity")
    assert Comment.objects.count() == 1


def test_a_token_that_only_reads_writes_no_comment(bob, remote, make_gate):
    gate = make_gate()
    reader = remote(bob, "sessions:read")
    assert reader.get(f"/gates/{gate.pk}/comments").status_code == 200
    error_of(reader.post(f"/gates/{gate.pk}/comments", {"text": "x"}), 403, "forbidden")


def test_a_claim_is_taken_seen_and_given_back(as_bob, remote, dora, make_gate):
    gate = make_gate()
    path = f"/gates/{gate.pk}/claim"
    assert as_bob.post(path).json()["claimed_by"] == "bob"
    assert as_bob.get("/gates").json()["items"][0]["claimed_by"] == "bob"
    error = error_of(remote(dora).post(path), 409, "conflict")
    assert error["details"]["claimed_by"] == "bob"
    assert error["details"]["gate"]["claimed_by"] == "bob"
    error_of(remote(dora).delete(path), 409, "conflict")
    assert as_bob.delete(path).json()["claimed_by"] is None


def test_who_may_not_decide_cannot_claim(as_alice, alice, make_gate):
    gate = make_gate(requester=alice)
    error_of(as_alice.post(f"/gates/{gate.pk}/claim"), 403, "forbidden")
    assert not Gate.objects.claimed().exists()


@pytest.mark.parametrize("older", [False, True])
def test_facts_that_changed_are_no_approval_on_either_path_until_they_are_acknowledged(
    as_bob, make_resting_gate, world, older
):
    gate = make_resting_gate()

    def approve() -> Any:
        if older:
            return as_bob.post(f"/sessions/{gate.session_id}/approvals/{gate.tool_call_id}", {"decision": "approve"})
        digest = as_bob.get(f"/gates/{gate.pk}").json()["digest"]
        return as_bob.post(f"/gates/{gate.pk}/decisions", {"type": "approve", "digest": digest})

    world.facts["version"] = "4.2.0"
    error = error_of(approve(), 409, "conflict")
    assert error["details"]["changes"] == [{"tool": gate.tool, "name": "version", "was": "4.1.9", "now": "4.2.0"}]
    shown = error["details"]["gate"]
    assert (shown["status"], shown["drifted"], shown["changes"]) == ("pending", True, error["details"]["changes"])
    assert not Decision.objects.exists()

    path = f"/gates/{gate.pk}/acknowledgements"
    error_of(as_bob.post(path, {"fingerprint": "0" * 64}), 409, "conflict")
    seen = as_bob.post(path, {"fingerprint": shown["fingerprint_now"]})
    assert seen.status_code == 201
    assert seen.json()["digest"] != shown["digest"]
    assert (seen.json()["drifted"], seen.json()["facts_now"]) == (False, [])
    old = as_bob.post(f"/gates/{gate.pk}/decisions", {"type": "approve", "digest": shown["digest"]})
    error_of(old, 409, "conflict")
    assert approve().status_code in {200, 201}


def test_the_facts_can_be_looked_at(as_bob, make_resting_gate, world):
    gate = make_resting_gate()
    assert as_bob.get(f"/gates/{gate.pk}").json()["facts"][0]["facts"]["version"] == "4.1.9"
    world.facts["pool size"] = 24
    found = as_bob.post(f"/gates/{gate.pk}/facts").json()
    assert found["changes"] == [{"tool": gate.tool, "name": "pool size", "was": 20, "now": 24}]
    assert as_bob.get("/gates").json()["items"][0]["drifted"] is True
