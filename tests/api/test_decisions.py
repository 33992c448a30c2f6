"""Deciding over the API: call by call, with JSON, and with what follows a rejection."""

from __future__ import annotations

import pytest

from approvals_app.models import Decision, Gate
from tests.api.conftest import error_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def batch(make_gate) -> Gate:
    actions = [{"name": "lab__fix", "args": {"target": name}, "tool_call_id": f"call-{name}"} for name in ("a", "b")]
    configs = [{"action_name": "lab__fix", "allowed_decisions": ["approve", "edit", "reject"]}]
    value = {"action_requests": actions, "review_configs": configs}
    gate: Gate = make_gate(interrupts=[{"id": "batch", "value": value, "response_schema": None}])
    return gate


def test_a_batch_is_decided_call_by_call_whatever_the_order_of_the_ids(as_bob, batch):
    body = {
        "digest": batch.digest,
        "message": "as discussed",
        "decisions": [
            {"tool_call_id": "call-b", "type": "edit", "edited_action": {"name": "lab:fix", "args": {"target": "b2"}}},
            {"tool_call_id": "call-a", "type": "reject", "message": "not a"},
        ],
    }
    response = as_bob.post(f"/gates/{batch.pk}/decisions", body)
    assert response.status_code == 201, response.content
    taken = response.json()["decision"]
    assert (taken["type"], taken["message"], taken["edited_args"], taken["next"]) == (
        "edit",
        "as discussed",
        None,
        "continue",
    )
    assert [(one["tool_call_id"], one["type"], one["edited_args"]) for one in taken["verdicts"]] == [
        ("call-a", "reject", None),
        ("call-b", "edit", {"target": "b2"}),
    ]
    batch.refresh_from_db()
    assert batch.answer == {
        "decisions": [
            {"type": "reject", "message": "not a"},
            {"type": "edit", "edited_action": {"name": "lab__fix", "args": {"target": "b2"}}},
        ]
    }


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "type"),
        ({"type": "approve", "decisions": []}, "type"),
        ({"decisions": []}, "decisions"),
        ({"decisions": [{"tool_call_id": "call-a", "type": "approve"}]}, "decisions"),
        ({"decisions": [{"tool_call_id": "call-c", "type": "approve"}]}, "decisions.0.tool_call_id"),
        ({"decisions": [{"tool_call_id": "call-a", "type": "approve"}] * 2}, "decisions.1.tool_call_id"),
        ({"decisions": [{"tool_call_id": "call-a", "type": "edit"}]}, "decisions.0.edited_action"),
        (
            {
                "decisions": [
                    {"tool_call_id": "call-a", "type": "edit", "edited_action": {"name": "rm", "args": {}}},
                ]
            },
            "decisions.0.edited_action.name",
        ),
        (
            {
                "decisions": [
                    {"tool_call_id": "call-a", "type": "approve"},
                    {"tool_call_id": "call-b", "type": "respond", "message": "x"},
                ]
            },
            "decisions.1.type",
        ),
        ({"type": "approve", "next": "stop"}, "next"),
        ({"type": "approve", "answer": 1}, "answer"),
    ],
)
def test_what_is_wrong_with_a_decision_is_named_and_nothing_is_written(as_bob, batch, body, path):
    response = as_bob.post(f"/gates/{batch.pk}/decisions", {"digest": batch.digest, **body})
    assert error_of(response, 422, "unprocessable_entity")["details"]["path"] == path
    batch.refresh_from_db()
    assert batch.pending
    assert not Decision.objects.exists()


@pytest.mark.parametrize(("then", "status"), [("stop", "stopped"), ("escalate", "escalated")])
def test_next_ends_the_session_with_the_rejection(as_bob, make_gate, then, status):
    gate = make_gate()
    body = {"type": "reject", "digest": gate.digest, "message": "for people", "next": then}
    response = as_bob.post(f"/gates/{gate.pk}/decisions", body)
    assert response.status_code == 201
    assert response.json()["decision"]["next"] == then
    assert as_bob.get(f"/sessions/{gate.session_id}").json()["status"] == status


def test_next_is_one_of_the_documented_words(as_bob, make_gate):
    gate = make_gate()
    body = {"type": "reject", "digest": gate.digest, "message": "x", "next": "wait"}
    error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 422, "unprocessable_entity")


@pytest.mark.parametrize("answer", [None, False, 0, "", {"picked": [2]}])
def test_a_question_that_takes_json_gets_any_json(as_bob, make_gate, answer):
    gate = make_gate(interrupts=[{"id": "raw", "value": {"pick": [1, 2]}, "response_schema": None}])
    shown = as_bob.get(f"/gates/{gate.pk}").json()
    assert (shown["takes_json"], shown["request"]) == (True, {"pick": [1, 2]})
    body = {"type": "respond", "digest": gate.digest, "answer": answer}
    assert as_bob.post(f"/gates/{gate.pk}/decisions", body).status_code == 201
    gate.refresh_from_db()
    assert gate.answer == answer
    assert type(gate.answer) is type(answer)


def test_an_answer_that_the_schema_does_not_take_is_refused_with_its_complaint(as_bob, make_gate):
    gate = make_gate(interrupts=[{"id": "raw", "value": [1, 2], "response_schema": {"enum": [1, 2]}}])
    body = {"type": "respond", "digest": gate.digest, "answer": 3}
    error = error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 422, "unprocessable_entity")
    assert "3" in error["details"]["complaint"]


def test_every_complaint_about_an_edit_comes_with_its_path(as_bob, make_gate):
    schema = {
        "properties": {
            "type": {"const": "edit"},
            "edited_action": {
                "properties": {
                    "args": {"properties": {"n": {"type": "integer"}, "who": {"type": "string"}}, "required": ["who"]}
                }
            },
        }
    }
    value = {"type": "tool_approval", "tool_call_id": "c", "name": "fix", "args": {"n": 1, "who": "x"}}
    gate = make_gate(interrupts=[{"id": "edit", "value": value, "response_schema": schema}])
    assert as_bob.get(f"/gates/{gate.pk}").json()["args_schemas"][0]["required"] == ["who"]
    body = {"type": "edit", "digest": gate.digest, "edited_action": {"args": {"n": "two"}}}
    error = error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 422, "unprocessable_entity")
    assert set(error["details"]["fields"]) == {"edited_action.args.n", "edited_action.args"}


def test_a_redacted_value_that_comes_back_as_it_was_keeps_its_original(as_bob, make_gate):
    value = {"type": "tool_approval", "tool_call_id": "c", "name": "fix", "args": {"password": "hunter2", "n": 1}}
    gate = make_gate(interrupts=[{"id": "edit", "value": value, "response_schema": None}])
    args = as_bob.get(f"/gates/{gate.pk}").json()["args"]
    assert args == {"password": "[redacted]", "n": 1}
    address = f"/gates/{gate.pk}/decisions"
    wrong = {"type": "edit", "digest": gate.digest, "edited_action": {"args": {**args, "other": "[redacted]"}}}
    error = error_of(as_bob.post(address, wrong), 422, "unprocessable_entity")
    assert error["details"]["path"] == "edited_action.args"
    body = {"type": "edit", "digest": gate.digest, "edited_action": {"args": {**args, "n": 2}}}
    assert as_bob.post(address, body).status_code == 201
    assert Decision.objects.get().edited_args == {"password": "hunter2", "n": 2}
