"""Deciding over the API: each endpoint answers its own kind, each id its own gate, and the loser is told."""

from __future__ import annotations

import pytest
from django.utils import timezone

from approvals_app.models import Decision, Gate
from sessions_app.schemas import instant
from tests.api.conftest import error_of
from tests.conftest import question_interrupt, tool_interrupt
from tests.laws.test_laws import interrupts_of

pytestmark = pytest.mark.django_db


def statuses() -> list[str]:
    return list(Gate.objects.order_by("pk").values_list("status", flat=True))


def test_s31_an_unknown_call_id_is_404_and_releases_nothing(as_bob, make_gate):
    gate = make_gate()
    for path in ("call-nobody-made", gate.tool_call_id + "0", str(gate.pk), "a/b", "%00"):
        response = as_bob.post(
            f"/sessions/{gate.session_id}/approvals/{path}", {"decision": "approve", "approver": "b"}
        )
        error_of(response, 404, "not_found")
    assert statuses() == ["pending"]


def test_s31_a_call_id_decides_its_own_gate_only(as_bob, make_gate):
    first = make_gate(interrupts=[tool_interrupt(), tool_interrupt(), tool_interrupt()])
    _, second, _ = Gate.objects.order_by("pk")
    path = f"/sessions/{first.session_id}/approvals/{second.tool_call_id}"
    assert as_bob.post(path, {"decision": "reject", "approver": "b", "rationale": "no"}).status_code == 200
    assert statuses() == ["pending", "rejected", "pending"]
    assert as_bob.get(f"/sessions/{first.session_id}").json()["status"] == "awaiting_input"


def test_s31_a_call_id_of_another_session_is_404(as_bob, make_gate):
    mine, other = make_gate(), make_gate()
    path = f"/sessions/{mine.session_id}/approvals/{other.tool_call_id}"
    error_of(as_bob.post(path, {"decision": "approve"}), 404, "not_found")
    assert statuses() == ["pending", "pending"]


def test_s31_an_odd_call_id_still_names_its_gate(as_bob, make_gate):
    asked = tool_interrupt()
    asked["value"]["tool_call_id"] = "a/b c?d=é"
    gate = make_gate(interrupts=[asked])
    path = f"/sessions/{gate.session_id}/approvals/a/b%20c%3Fd%3D%C3%A9"
    assert as_bob.post(path, {"decision": "reject"}).status_code == 200
    assert statuses() == ["rejected"]


def test_s25_a_question_is_not_answered_as_a_tool_approval(as_bob, make_gate):
    gate = make_gate(interrupts=[question_interrupt()])
    assert as_bob.get(f"/sessions/{gate.session_id}/approvals").json() == []
    for path in ("%20", "call-1", str(gate.pk), gate.interrupt_id):
        response = as_bob.post(f"/sessions/{gate.session_id}/approvals/{path}", {"decision": "approve"})
        error_of(response, 404, "not_found")
    body = {"type": "approve", "digest": gate.digest}
    error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 422, "unprocessable_entity")
    assert statuses() == ["pending"]


@pytest.mark.parametrize("decision", ["resume_with_input", "escalate", "stop"])
def test_s25_a_tool_approval_is_not_answered_as_a_question(as_bob, make_gate, decision):
    gate = make_gate()
    path = f"/sessions/{gate.session_id}/resume"
    error_of(as_bob.post(path, {"decision": decision, "user_input": "yes, run it"}), 409, "conflict")
    body = {"type": "respond", "digest": gate.digest, "message": "approve"}
    error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 422, "unprocessable_entity")
    assert statuses() == ["pending"]
    assert not Decision.objects.exists()


def test_s25_with_both_open_each_endpoint_answers_its_own(as_bob, make_gate):
    call = make_gate(interrupts=[tool_interrupt(), question_interrupt()])
    path = f"/sessions/{call.session_id}"
    response = as_bob.post(f"{path}/resume", {"decision": "resume_with_input", "user_input": "yes"})
    assert response.status_code == 202
    assert response.json() == {
        "session_id": call.session_id,
        "decision": "resume_with_input",
        "status": "awaiting_input",
    }
    assert statuses() == ["pending", "responded"]
    assert as_bob.post(f"{path}/approvals/{call.tool_call_id}", {"decision": "approve"}).status_code == 200
    assert statuses() == ["approved", "responded"]


def test_escalating_answers_the_question_with_the_team(as_bob, make_gate):
    gate = make_gate(interrupts=[question_interrupt()])
    path = f"/sessions/{gate.session_id}/resume"
    assert as_bob.post(path, {"decision": "escalate", "team": "dba"}).status_code == 202
    gate.refresh_from_db()
    assert gate.answer == {
        "type": "respond",
        "message": "Hand it over to dba.",
        "action": "escalate",
        "team": "dba",
    }


def test_stopping_by_resume_ends_the_session_and_its_gate(as_bob, make_gate):
    gate = make_gate(interrupts=[question_interrupt()])
    path = f"/sessions/{gate.session_id}/resume"
    response = as_bob.post(path, {"decision": "stop"})
    assert (response.status_code, response.json()["status"]) == (202, "stopped")
    assert statuses() == ["cancelled"]


def test_only_who_may_decide_stops_by_resume(as_alice, make_gate):
    gate = make_gate(interrupts=[question_interrupt()])
    error_of(as_alice.post(f"/sessions/{gate.session_id}/resume", {"decision": "stop"}), 403, "forbidden")
    assert statuses() == ["pending"]


def test_an_empty_answer_is_no_answer(as_bob, make_gate):
    gate = make_gate(interrupts=[question_interrupt()])
    path = f"/sessions/{gate.session_id}/resume"
    error_of(as_bob.post(path, {"decision": "resume_with_input", "user_input": " "}), 422, "unprocessable_entity")


def test_a_session_that_asks_nothing_cannot_be_resumed(as_bob, make_session):
    session = make_session()
    path = f"/sessions/{session.pk}/resume"
    error_of(as_bob.post(path, {"decision": "resume_with_input", "user_input": "x"}), 409, "conflict")


def test_the_loser_gets_the_gate_as_it_is_now(as_bob, admin, remote, make_gate):
    gate = make_gate()
    body = {"type": "approve", "digest": gate.digest}
    assert as_bob.post(f"/gates/{gate.pk}/decisions", body).status_code == 201
    for path, body in (
        (f"/gates/{gate.pk}/decisions", {"type": "reject", "digest": gate.digest}),
        (f"/sessions/{gate.session_id}/approvals/{gate.tool_call_id}", {"decision": "reject"}),
    ):
        error = error_of(remote(admin).post(path, body), 409, "conflict")
        assert "bob" in error["message"]
        assert error["details"]["decided_by"] == "bob"
        assert error["details"]["gate"]["status"] == "approved"
        assert error["details"]["gate"]["decision"]["type"] == "approve"
    assert Decision.objects.count() == 1


def test_a_decision_on_what_was_not_shown_is_a_conflict(as_bob, make_gate):
    gate = make_gate()
    body = {"type": "approve", "digest": "0" * 64}
    error = error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 409, "conflict")
    assert error["details"]["gate"]["digest"] == gate.digest
    assert statuses() == ["pending"]


def test_s24_a_decision_after_the_stop_is_a_conflict(as_bob, make_gate):
    gate = make_gate()
    gate.session.stop()
    body = {"type": "approve", "digest": gate.digest}
    error = error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 409, "conflict")
    assert error["details"]["gate"]["status"] == "cancelled"
    path = f"/sessions/{gate.session_id}/approvals/{gate.tool_call_id}"
    error_of(as_bob.post(path, {"decision": "approve"}), 409, "conflict")


def test_an_expired_gate_is_a_conflict(as_bob, make_gate):
    gate = make_gate()
    Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=timezone.now())
    path = f"/sessions/{gate.session_id}/approvals/{gate.tool_call_id}"
    error = error_of(as_bob.post(path, {"decision": "approve"}), 409, "conflict")
    assert error["details"]["gate"]["status"] == "expired"


def test_one_call_s_id_does_not_approve_its_whole_batch(as_bob, make_gate):
    batch = {
        "id": "interrupt-batch",
        "value": {
            "action_requests": [
                {"name": "local_remediation__apply_fix", "args": {"service": name}, "tool_call_id": f"call-{name}"}
                for name in ("checkout", "payments")
            ],
            "review_configs": [],
        },
        "response_schema": None,
    }
    gate = make_gate(interrupts=[batch])
    listed = as_bob.get(f"/sessions/{gate.session_id}/approvals").json()
    assert [entry["tool_call_id"] for entry in listed] == ["call-checkout", "call-payments"]
    response = as_bob.post(f"/sessions/{gate.session_id}/approvals/call-checkout", {"decision": "approve"})
    error = error_of(response, 409, "conflict")
    assert error["details"]["gate_id"] == gate.pk
    assert statuses() == ["pending"]


def test_a_repeated_approval_does_not_answer_that_the_outcome_is_unknown(as_bob, make_gate, make_session):
    """The same call id stands on both gates; a client that retries must not start the call a second time."""
    gate = make_gate()
    path = f"/sessions/{gate.session_id}/approvals/{gate.tool_call_id}"
    assert as_bob.post(path, {"decision": "approve"}).status_code == 200
    run = gate.session.runs.get(status="pending")
    assert run.claim("test:0:0")
    unknown = {
        "id": "interrupt-unknown",
        "value": {"type": "unknown_outcome", "tool_call_id": gate.tool_call_id, "name": gate.tool, "args": {}},
        "response_schema": None,
    }
    assert run.pause([unknown], checkpoint_id="later")
    error_of(as_bob.post(path, {"decision": "approve"}), 409, "conflict")
    assert statuses() == ["approved", "pending"]


@pytest.mark.parametrize("name", ["local_remediation:notify_oncall", "local_remediation__notify_oncall", "rm"])
def test_an_edit_cannot_call_another_tool(as_bob, make_gate, name):
    gate = make_gate()
    body = {"type": "edit", "digest": gate.digest, "edited_action": {"name": name, "args": {}}}
    error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 422, "unprocessable_entity")
    assert statuses() == ["pending"]


def test_an_edit_needs_its_call_and_nothing_else_takes_one(as_bob, make_gate):
    gate = make_gate()
    for body in ({"type": "edit"}, {"type": "approve", "edited_action": {"args": {}}}):
        response = as_bob.post(f"/gates/{gate.pk}/decisions", {"digest": gate.digest, **body})
        error_of(response, 422, "unprocessable_entity")
    assert statuses() == ["pending"]


def test_the_schema_s_own_complaint_is_handed_on(as_bob, make_gate):
    asked = question_interrupt()
    asked["response_schema"] = {
        "type": "object",
        "properties": {"message": {"type": "string", "maxLength": 3}},
    }
    gate = make_gate(interrupts=[asked])
    body = {"type": "respond", "digest": gate.digest, "message": "too long"}
    error = error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 422, "unprocessable_entity")
    assert "too long" in error["details"]["complaint"]
    assert error["details"]["path"] == "message"


@pytest.mark.parametrize("method", ["get", "head"])
def test_s14_looking_decides_nothing(as_bob, make_gate, method):
    gate = make_gate()
    for path in (
        f"/gates/{gate.pk}/decisions",
        f"/sessions/{gate.session_id}/approvals/{gate.tool_call_id}",
        f"/sessions/{gate.session_id}/resume",
    ):
        response = as_bob._send(method, path)
        assert response.status_code == 405
    assert statuses() == ["pending"]


def test_s13_the_total_is_what_the_list_shows_and_what_the_page_counts(as_bob, bob, make_gate):
    for number in range(5):
        gate = make_gate(environment="dev" if number else "staging")
    as_bob.post(f"/gates/{gate.pk}/decisions", {"type": "approve", "digest": gate.digest})
    for asked in ({}, {"environment": "staging"}, {"status": "decided"}, {"status": "approved,pending"}, {"q": "none"}):
        body = as_bob.get("/gates", data=asked).json()
        assert body["total"] == len(body["items"]), asked
    waiting = as_bob.get("/gates").json()
    assert waiting["total"] == Gate.objects.visible_to(bob).pending().count() == 4
    ids = [item["id"] for item in waiting["items"]]
    assert ids == sorted(ids)
    pages, cursor = [], ""
    while cursor is not None:
        page = as_bob.get("/gates", data={"limit": 3, "cursor": cursor}).json()
        assert page["total"] == 4
        pages += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert pages == ids


def test_identical_calls_are_a_list_of_their_own(as_bob, make_gate):
    one, other = make_gate(environment="dev"), make_gate(environment="dev")
    make_gate(environment="staging")
    call = as_bob.get(f"/gates/{one.pk}").json()["call_digest"]
    assert call == one.call_digest != ""
    assert [item["id"] for item in as_bob.get("/gates", data={"call": call}).json()["items"]] == [one.pk, other.pk]
    assert as_bob.get("/gates", data={"call": "none"}).json()["items"] == []


def test_a_gate_says_why_this_viewer_may_not_decide_it(as_bob, as_alice, make_gate):
    gate = make_gate()
    assert as_bob.get(f"/gates/{gate.pk}").json()["refusal"] == ""
    assert "approver" in as_alice.get("/gates").json()["items"][0]["refusal"]


def test_a_gate_tells_decided_dispatched_and_executed_apart(as_bob, make_session):
    session = make_session(status="in_progress")
    run = session.runs.get()
    assert run.pause(interrupts_of(run, ["tool"]), checkpoint_id="c")
    gate = session.gates.get()
    call = {"tool_call_id": gate.tool_call_id, "finished_at": None, "result_excerpt": ""}
    path = f"/gates/{gate.pk}"
    waiting = as_bob.get(path).json()
    assert (waiting["on_expiry"], waiting["execution_expires_after"]) == ("reject", 900)
    assert waiting["outcome"] == [{**call, "decided_at": None, "dispatched_at": None, "status": "pending_approval"}]

    taken = as_bob.post(f"{path}/decisions", {"type": "approve", "digest": gate.digest}).json()
    decided = {**call, "decided_at": taken["decision"]["ts"]}
    assert taken["gate"]["outcome"] == [{**decided, "dispatched_at": None, "status": "approved"}]

    resume = session.runs.get(status="pending")
    assert resume.claim("elsewhere:1:0")
    row = session.tool_calls.get()
    row.claim(run_id=resume.pk, attempt=resume.attempt, tool=row.tool, args=row.args)
    (outcome,) = as_bob.get(path).json()["outcome"]
    assert outcome["dispatched_at"] == instant(session.events.get(kind="tool_dispatched").ts)
    assert (outcome["status"], outcome["finished_at"]) == ("executing", None)

    row.settle(result="healed", result_kind="text", latency_ms=1)
    (outcome,) = as_bob.get(path).json()["outcome"]
    assert outcome["finished_at"] == instant(session.events.get(kind="tool_invoked").ts)
    assert (outcome["status"], outcome["result_excerpt"]) == ("executed", "healed")


def test_a_gate_that_nobody_decided_has_an_outcome_and_no_decision(as_bob, make_gate):
    gate = make_gate()
    Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=timezone.now())
    gate.refresh_from_db()
    assert gate.expire()
    (outcome,) = as_bob.get(f"/gates/{gate.pk}").json()["outcome"]
    assert (outcome["status"], outcome["decided_at"], outcome["dispatched_at"]) == ("expired", None, None)
