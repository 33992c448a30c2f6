"""S25, S31 and S14: an answer reaches the question that it names, by a way that is meant for it, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from approvals_app.exceptions import AnswerUnfit, ShownOutdated
from approvals_app.models import Gate
from approvals_app.states import Channel
from tests.conftest import question_interrupt, tool_interrupt
from tests.scenarios.conftest import Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def both(make_gate: Any, alice: Any) -> tuple[Gate, Gate]:
    """A tool approval and a question that one session asks at the same time."""
    first: Gate = make_gate(interrupts=[tool_interrupt(), question_interrupt()], requester=alice)
    tool, question = first.session.gates.order_by("pk")
    return tool, question


def _standing(*gates: Gate) -> list[str]:
    for gate in gates:
        gate.refresh_from_db()
    return [gate.status for gate in gates]


def test_s25_a_text_answer_does_not_release_a_tool_and_an_approval_does_not_answer_a_question(
    both: tuple[Gate, Gate], bob: Any
) -> None:
    tool, question = both
    with pytest.raises(AnswerUnfit):
        tool.decide("respond", actor=bob, channel=Channel.API, digest=tool.digest, message="go on")
    for decision in ("approve", "reject", "edit"):
        with pytest.raises(AnswerUnfit):
            question.decide(decision, actor=bob, channel=Channel.API, digest=question.digest, message="x")
    assert _standing(tool, question) == ["pending", "pending"]


def test_s25_the_resume_endpoint_answers_the_question_and_never_the_tool(both: tuple[Gate, Gate], bob: Any) -> None:
    tool, question = both
    where = f"/sessions/{tool.session_id}/resume"
    said = Caller(bob).post(where, {"decision": "resume_with_input", "user_input": "go on"})
    assert said.status_code == 202
    assert _standing(tool, question) == ["pending", "responded"]
    again = Caller(bob).post(where, {"decision": "resume_with_input", "user_input": "go on"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert _standing(tool) == ["pending"]
    assert not tool.session.runs.active().exists()


def test_s25_the_approvals_endpoint_never_answers_the_question(both: tuple[Gate, Gate], bob: Any) -> None:
    tool, question = both
    caller = Caller(bob)
    listed = caller.get(f"/sessions/{tool.session_id}/approvals").json()
    assert [row["tool_call_id"] for row in listed] == [tool.tool_call_id]
    for wrong in (str(question.pk), question.interrupt_id, "", "None", "%20"):
        answer = caller.post(
            f"/sessions/{tool.session_id}/approvals/{wrong}", {"decision": "approve", "approver": "bob"}
        )
        assert answer.status_code in {404, 405}, wrong
    assert _standing(tool, question) == ["pending", "pending"]


def test_s31_an_unknown_call_id_is_404_and_releases_nothing(make_gate: Any, alice: Any, bob: Any) -> None:
    gate: Gate = make_gate(requester=alice)
    other: Gate = make_gate(requester=alice)
    caller = Caller(bob)
    for path in (
        f"/sessions/{gate.session_id}/approvals/call-nobody-made",
        # The call of another session, and a session that is not there.
        f"/sessions/{gate.session_id}/approvals/{other.tool_call_id}",
        f"/sessions/INC-20200101-001/approvals/{gate.tool_call_id}",
    ):
        answer = caller.post(path, {"decision": "approve", "approver": "bob"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path
    assert caller.post("/gates/999999/decisions", {"type": "approve", "digest": gate.digest}).status_code == 404
    assert _standing(gate, other) == ["pending", "pending"]


def test_s31_a_call_id_decides_its_own_gate_and_no_other(make_gate: Any, alice: Any, bob: Any) -> None:
    first: Gate = make_gate(interrupts=[tool_interrupt(), tool_interrupt(), tool_interrupt()], requester=alice)
    one, two, three = first.session.gates.order_by("pk")
    caller = Caller(bob)
    body = {"decision": "reject", "approver": "someone else", "rationale": "the second"}
    answer = caller.post(f"/sessions/{two.session_id}/approvals/{two.tool_call_id}", body)
    assert (answer.status_code, answer.json()["tool_call_id"]) == (200, two.tool_call_id)
    assert _standing(one, two, three) == ["pending", "rejected", "pending"]
    assert (two.decisions.get().actor.username, two.decisions.get().approver_note) == ("bob", "someone else")  # type: ignore[union-attr]
    again = caller.post(f"/sessions/{two.session_id}/approvals/{two.tool_call_id}", {**body, "decision": "approve"})
    assert again.status_code == 409
    assert _standing(one, two, three) == ["pending", "rejected", "pending"]


def test_s31_the_digest_of_another_gate_decides_neither(make_gate: Any, alice: Any, bob: Any) -> None:
    one: Gate = make_gate(requester=alice)
    two: Gate = make_gate(requester=alice)
    with pytest.raises(ShownOutdated):
        one.decide("approve", actor=bob, channel=Channel.API, digest=two.digest)
    answer = Caller(bob).post(f"/gates/{one.pk}/decisions", {"type": "approve", "digest": two.digest})
    assert (answer.status_code, answer.json()["error"]["details"]["gate"]["digest"]) == (409, one.digest)
    assert _standing(one, two) == ["pending", "pending"]


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_s14_reading_decides_nothing_however_it_is_asked(
    make_gate: Any, alice: Any, bob: Any, client: Client, method: str
) -> None:
    gate: Gate = make_gate(requester=alice)
    client.force_login(bob)
    asked = {"decision": "approve", "type": "approve", "digest": gate.digest}
    for path in (
        reverse("gate", args=[gate.pk]),
        reverse("decide", args=[gate.pk]),
        f"/api/v1/gates/{gate.pk}",
        f"/api/v1/gates/{gate.pk}/decisions",
        f"/api/v1/sessions/{gate.session_id}/approvals/{gate.tool_call_id}",
    ):
        getattr(client, method)(path, asked)
    assert _standing(gate) == ["pending"]
    assert gate.decisions.count() == 0


def test_s14_a_form_post_from_another_site_decides_nothing(make_gate: Any, alice: Any, bob: Any) -> None:
    gate: Gate = make_gate(requester=alice)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(bob)
    body = {"decision": "approve", "digest": gate.digest}
    assert strict.post(reverse("decide", args=[gate.pk]), body).status_code == 403
    answer = strict.post(
        f"/api/v1/gates/{gate.pk}/decisions", '{"type": "approve", "digest": ""}', content_type="application/json"
    )
    assert answer.status_code == 403
    assert _standing(gate) == ["pending"]
