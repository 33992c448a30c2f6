"""Deciding several gates over the API: each on its own, or none where they must not go together."""

from __future__ import annotations

from typing import Any

import pytest

from approvals_app.models import Decision, Gate
from approvals_app.states import Channel
from tests.api.conftest import error_of
from tests.conftest import question_interrupt

pytestmark = pytest.mark.django_db
PATH = "/gates/bulk-decisions"


def shown(*gates: Gate) -> list[dict[str, Any]]:
    return [{"gate_id": gate.pk, "digest": gate.digest} for gate in gates]


def statuses() -> list[str]:
    return list(Gate.objects.order_by("pk").values_list("status", flat=True))


def test_each_gate_has_its_own_answer_in_the_order_asked(as_bob, admin, make_gate):
    first, late, last = (make_gate() for _ in range(3))
    late.decide("reject", actor=admin, channel=Channel.API, digest=late.digest, message="wrong service")
    gates = [*shown(last, late), {"gate_id": 424242, "digest": "x"}, {"gate_id": first.pk, "digest": "old"}]
    body = as_bob.post(PATH, {"type": "reject", "message": "not tonight", "gates": gates}).json()
    assert body["decided"] == 1
    results = body["results"]
    assert [result["gate_id"] for result in results] == [last.pk, late.pk, 424242, first.pk]
    assert [result["status"] for result in results] == ["rejected", "rejected", None, "pending"]
    assert results[0]["error"] is None
    assert results[0]["decision"]["message"] == "not tonight"
    assert [result["error"]["code"] for result in results[1:]] == ["conflict", "not_found", "conflict"]
    assert results[1]["error"]["details"]["decided_by"] == "admin"
    assert Decision.objects.filter(channel=Channel.API, message="not tonight").count() == 1


@pytest.mark.parametrize(
    ("kind", "message", "complaint"),
    [("approve", "", "High risk is approved one at a time"), ("reject", "  ", "Say why")],
)
def test_what_must_not_go_together_is_refused_as_a_whole(as_bob, make_gate, kind, message, complaint):
    gates = [make_gate(), make_gate()]
    response = as_bob.post(PATH, {"type": kind, "message": message, "gates": shown(*gates)})
    assert complaint in error_of(response, 422, "unprocessable_entity")["message"]
    assert statuses() == ["pending", "pending"]


def test_a_question_or_one_gate_twice_is_refused(as_bob, make_gate):
    gate, question = make_gate(), make_gate(interrupts=[question_interrupt()])
    for gates in ([gate, question], [gate, gate]):
        response = as_bob.post(PATH, {"type": "reject", "message": "no", "gates": shown(*gates)})
        error_of(response, 422, "unprocessable_entity")
    assert statuses() == ["pending", "pending"]


def test_more_than_fifty_or_none_is_refused(as_bob):
    for number in (0, 51):
        gates = [{"gate_id": index + 1, "digest": "x"} for index in range(number)]
        response = as_bob.post(PATH, {"type": "reject", "message": "no", "gates": gates})
        error_of(response, 422, "unprocessable_entity")


def test_deciding_needs_the_scope_and_the_role_and_tells_nobody_else_about_the_gates(
    remote, alice, bob, charlie, make_gate
):
    gate, question = make_gate(), make_gate(interrupts=[question_interrupt()])
    body = {"type": "reject", "message": "no", "gates": shown(gate, question)}
    error_of(remote(bob, "sessions:read").post(PATH, body), 403, "forbidden")
    for person in (alice, charlie):
        error = error_of(remote(person).post(PATH, body), 403, "forbidden")
        assert "is not in the approver group" in error["message"]
        assert gate.tool not in str(error)
    assert statuses() == ["pending", "pending"]
