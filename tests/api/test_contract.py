"""Each path answers with exactly the keys that the contract names, and those that docs/api.md adds."""

from __future__ import annotations

import jsonschema
import pytest

from approvals_app.models import Gate
from sessions_app.agents.context import Judgement, Report, Usage
from sessions_app.models import AgentRun, Session, SessionEvent, ToolCall
from sessions_app.states import SessionStatus
from tests.conftest import question_interrupt

pytestmark = pytest.mark.django_db


def words(contract: str, *, added: str = "") -> set[str]:
    """Return the contract's keys and those that CLM adds to them."""
    return {*contract.split(), *added.split()}


SESSION = words(
    "id status created_at updated_at query environment submitter graph summary severity category resolution tags "
    "findings token_usage pending_intervention user_inputs parent_session_id dedup_rationale extra_fields version "
    "label",
    added="ended_at",
)
TOKENS = {"input_tokens", "output_tokens", "total_tokens"}
AGENT_RUN = words("agent started_at ended_at summary token_usage confidence confidence_rationale signal")
TOOL_CALL = words("id agent tool args result ts risk status approver approved_at approval_rationale", added="error")
EVENT = {"seq", "kind", "payload", "ts", "session_id"}
APPROVAL = words("tool_call_id gate_id agent tool args risk reason digest expires_at ts", added="kind")


def test_a_submission_answers_with_the_new_id(local):
    response = local.post(
        "/sessions",
        {"query": "rc3 agent_running smoke", "environment": "dev", "submitter": {"id": "t"}},
    )
    assert response.status_code == 201
    assert set(response.json()) == {"session_id"}
    session = Session.objects.get(pk=response.json()["session_id"])
    assert (session.submitter_id, session.requester, session.graph) == ("t", None, "incident")
    assert session.runs.get().status == "pending"


def test_a_submission_may_send_more_than_we_know(local):
    body = {
        "query": "q",
        "environment": "dev",
        "submitter": {"id": "t", "team": "sre"},
        "graph": "incident",
        "state_overrides": {"severity": "high"},
        "priority": 3,
    }
    session = Session.objects.get(pk=local.post("/sessions", body).json()["session_id"])
    assert session.submitter_team == "sre"
    assert session.state_overrides == {"severity": "high"}


def test_the_token_s_person_is_the_requester(as_alice, alice):
    body = {"query": "q", "environment": "dev", "submitter": {"id": "bot"}}
    session = Session.objects.get(pk=as_alice.post("/sessions", body).json()["session_id"])
    assert (session.requester, session.submitter_id) == (alice, "bot")


def test_one_idempotency_key_starts_one_session(local):
    body = {"query": "q", "environment": "dev"}
    first = local.post("/sessions", body, headers={"Idempotency-Key": "k1"})
    again = local.post("/sessions", body, headers={"Idempotency-Key": "k1"})
    assert first.json() == again.json()
    other = local.post("/sessions", {**body, "query": "r"}, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 409
    assert Session.objects.count() == 1


def test_a_session_has_the_contract_s_keys(local, make_session):
    session = make_session(submitter_id="t", submitter_team="sre")
    body = local.get(f"/sessions/{session.pk}").json()
    assert set(body) == SESSION
    assert set(body["token_usage"]) == TOKENS
    assert body["submitter"] == {"id": "t", "team": "sre"}
    assert (body["status"], body["version"], body["label"]) == ("new", 1, session.query)
    assert (body["pending_intervention"], body["user_inputs"]) == (None, [])


def test_a_waiting_session_says_what_it_waits_for(local, make_gate):
    gate = make_gate()
    body = local.get(f"/sessions/{gate.session_id}").json()
    assert body["status"] == "awaiting_input"
    waits = body["pending_intervention"]
    assert (waits["gate_id"], waits["tool_call_id"], waits["digest"]) == (gate.pk, gate.tool_call_id, gate.digest)
    assert waits["tool"] == "local_remediation:apply_fix"


def test_what_people_answered_is_kept_with_the_session(local, as_bob, make_gate):
    gate = make_gate(interrupts=[question_interrupt()])
    as_bob.post(f"/sessions/{gate.session_id}/resume", {"decision": "resume_with_input", "user_input": "go on"})
    assert local.get(f"/sessions/{gate.session_id}").json()["user_inputs"] == ["go on"]


def test_the_list_pages_through_everything_once(local, make_session):
    made = {make_session(query=f"number {number}").pk for number in range(5)}
    seen, cursor = [], ""
    while True:
        body = local.get("/sessions", data={"limit": 2, "cursor": cursor}).json()
        assert set(body) == {"items", "next_cursor", "total"}
        assert body["total"] == 5
        seen += [item["id"] for item in body["items"]]
        cursor = body["next_cursor"]
        if not cursor:
            break
    assert len(seen) == 5
    assert set(seen) == made
    assert set(body["items"][0]) == SESSION


def test_the_list_filters(local, make_session):
    wanted = make_session(query="disk is full", environment="staging")
    make_session()
    for asked in (
        {"environment": "staging"},
        {"q": "full"},
        {"q": wanted.pk},
        {"status": "new", "environment": "staging"},
        {"status": "new,resolved", "q": "disk"},
        {"since": "2020-01-01T00:00:00", "q": "disk"},
        {"graph": "incident", "q": "disk"},
    ):
        assert [item["id"] for item in local.get("/sessions", data=asked).json()["items"]] == [wanted.pk], asked
    assert local.get("/sessions", data={"since": "2999-01-01T00:00:00Z"}).json()["items"] == []
    assert local.get("/sessions", data={"graph": "other"}).json()["total"] == 0


def test_recent_has_duplicates_too_newest_first(local, make_session):
    first, second = make_session(status="in_progress"), make_session()
    first.move(SessionStatus.DUPLICATE, cause="a test", parent=second)
    body = local.get("/sessions/recent").json()
    assert [item["id"] for item in body] == [second.pk, first.pk]
    assert set(body[0]) == SESSION
    assert body[1]["parent_session_id"] == second.pk
    assert len(local.get("/sessions/recent", data={"limit": 1}).json()) == 1


def test_a_whole_session_has_finished_turns_calls_and_a_page_of_events(local, make_gate, make_session):
    session = make_session(status="in_progress")
    run = session.runs.get()
    for agent in ("triage", "deep_investigator"):
        AgentRun.start(session_id=session.pk, run_id=run.pk, agent=agent, key=agent)
        AgentRun.finish(
            session_id=session.pk,
            agent=agent,
            key=agent,
            report=Report(summary="s", confidence=0.9, rationale="r", signal="continue"),
            usage=Usage(input_tokens=3, output_tokens=4),
        )
    AgentRun.start(session_id=session.pk, run_id=run.pk, agent="resolution", key="resolution")
    low = Judgement(level="low", reason="low_risk", rule="read_only", rule_version="1")
    row, _ = ToolCall.enter(
        session_id=session.pk,
        run_id=run.pk,
        attempt=run.attempt,
        agent="triage",
        tool_call_id="call-of-triage-1",
        tool="local_observability:get_metrics",
        args={"service": "checkout"},
        reasoning="",
        idempotent=True,
        judge=lambda: low,
    )
    row.settle(result='{"busy": 20}', result_kind="json", latency_ms=3)
    make_gate(session)

    body = local.get(f"/sessions/{session.pk}/full").json()
    assert set(body) == {
        *("session", "agents_run", "tool_calls", "attempts", "events", "agent_definitions", "vm_seq", "more")
    }
    assert body["session"]["status"] == "awaiting_input"
    assert [turn["agent"] for turn in body["agents_run"]] == ["triage", "deep_investigator"]
    assert set(body["agents_run"][0]) == AGENT_RUN
    assert body["session"]["token_usage"] == {"input_tokens": 6, "output_tokens": 8, "total_tokens": 14}
    assert set(body["tool_calls"][0]) == TOOL_CALL
    assert body["tool_calls"][0]["result"] == {"busy": 20}
    assert set(body["events"][0]) == EVENT
    assert [event["kind"] for event in body["events"]].count("gate_fired") == 1
    waiting = [
        event
        for event in body["events"]
        if event["kind"] == "session.status_changed" and event["payload"]["to"] == "awaiting_input"
    ]
    assert len(waiting) == 1
    assert body["vm_seq"] == body["events"][-1]["seq"] == SessionEvent.objects.latest("seq").seq
    assert [agent["name"] for agent in body["agent_definitions"]] == ["triage", "deep_investigator", "resolution"]

    seqs = [event["seq"] for event in body["events"]]
    page = local.get(f"/sessions/{session.pk}/full", data={"since": seqs[1], "limit": 2}).json()
    assert [event["seq"] for event in page["events"]] == seqs[2:4]
    assert (page["vm_seq"], page["more"]["events"]) == (seqs[-1], True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("plain words", "plain words"), ("[1, 2]", [1, 2]), ("NaN", "NaN"), ("3 of 4", "3 of 4")],
)
def test_a_tool_s_result_is_json_where_it_is_json(text, value):
    from sessions_app.schemas import _read_result

    assert _read_result(text) == value


def test_delete_stops_once(as_alice, make_gate):
    gate = make_gate()
    assert as_alice.delete(f"/sessions/{gate.session_id}").status_code == 204
    gate.refresh_from_db()
    assert gate.status == "cancelled"
    assert as_alice.delete(f"/sessions/{gate.session_id}").status_code == 409
    assert as_alice.delete("/sessions/INC-20200101-001").status_code == 404


def test_retry_is_previewed_and_taken_only_after_the_end(as_alice, make_session):
    session = make_session()
    preview = as_alice.get(f"/sessions/{session.pk}/retry/preview").json()
    assert set(preview) == {"retry", "reason"}
    assert preview["retry"] is False
    assert as_alice.post(f"/sessions/{session.pk}/retry").status_code == 409
    session.stop()
    assert as_alice.get(f"/sessions/{session.pk}/retry/preview").json()["retry"] is True
    response = as_alice.post(f"/sessions/{session.pk}/retry")
    assert response.status_code == 202
    assert response.json() == {"run_id": session.runs.get(kind="rerun").pk}


def test_lessons_are_those_that_were_noted(local, make_session):
    session = make_session()
    assert local.get(f"/sessions/{session.pk}/lessons").json() == []
    SessionEvent.append(session.pk, "lesson_extracted", {"lesson": "size the pool"})
    (lesson,) = local.get(f"/sessions/{session.pk}/lessons").json()
    assert set(lesson) == {"seq", "lesson", "ts"}
    assert lesson["lesson"] == "size the pool"


def test_a_duplicate_can_be_taken_back_once(as_alice, make_session):
    session = make_session()
    session.runs.update(status="cancelled")
    session.move(SessionStatus.DUPLICATE, cause="a test")
    response = as_alice.post(f"/sessions/{session.pk}/un-duplicate", {"retracted_by": "ann", "note": "not the same"})
    assert response.status_code == 200
    assert response.json()["status"] == "new"
    assert session.runs.get(status="pending")
    detail = session.events.status_changes().last().payload["detail"]
    assert detail == "not the same (for ann)"
    assert as_alice.post(f"/sessions/{session.pk}/un-duplicate").status_code == 409


def test_approvals_are_the_undecided_calls(local, make_gate):
    gate = make_gate()
    (entry,) = local.get(f"/sessions/{gate.session_id}/approvals").json()
    assert set(entry) == APPROVAL
    assert (entry["tool_call_id"], entry["gate_id"], entry["digest"]) == (gate.tool_call_id, gate.pk, gate.digest)
    assert entry["args"] == {"service": "checkout", "action": "restart"}


def test_an_approval_answers_at_once_with_the_older_keys(as_bob, make_gate):
    gate = make_gate()
    response = as_bob.post(
        f"/sessions/{gate.session_id}/approvals/{gate.tool_call_id}",
        {"decision": "approve", "approver": "on-call", "rationale": "seen it"},
    )
    assert response.status_code == 200
    body = response.json()
    assert body.pop("gate_id") == gate.pk
    assert body == {
        "session_id": gate.session_id,
        "tool_call_id": gate.tool_call_id,
        "decision": "approve",
        "approver": "on-call",
        "rationale": "seen it",
    }
    gate.refresh_from_db()
    assert (gate.status, gate.decision.actor.username, gate.decision.approver_note) == ("approved", "bob", "on-call")
    assert as_bob.get(f"/sessions/{gate.session_id}/approvals").json() == []


def test_a_gate_is_decided_by_its_digest(as_bob, make_gate):
    gate = make_gate()
    shown = as_bob.get(f"/gates/{gate.pk}").json()
    response = as_bob.post(
        f"/gates/{gate.pk}/decisions", {"type": "reject", "digest": shown["digest"], "message": "not now"}
    )
    assert response.status_code == 201
    body = response.json()
    assert body["decision"]["actor"] == "bob"
    assert (body["gate"]["status"], body["gate"]["decision"]["message"]) == ("rejected", "not now")


def test_an_edit_changes_the_arguments_of_the_same_tool(as_bob, make_gate):
    gate = make_gate()
    args = {"service": "checkout", "action": "resize_pool", "size": 40}
    response = as_bob.post(
        f"/gates/{gate.pk}/decisions",
        {"type": "edit", "digest": gate.digest, "edited_action": {"name": gate.tool, "args": args}},
    )
    assert response.status_code == 201
    assert response.json()["decision"]["edited_args"] == args
    gate.refresh_from_db()
    assert gate.answer["edited_action"] == {"name": "local_remediation__apply_fix", "args": args}


def test_the_catalogue(local):
    agents = local.get("/agents").json()
    assert [agent["name"] for agent in agents] == ["triage", "deep_investigator", "resolution"]
    assert set(agents[0]) == {"name", "description", "model", "tools", "routes"}
    assert agents[0]["model"] == "offline"
    assert agents[-1]["routes"] == [{"next": "end"}]
    tools = {tool["name"]: tool for tool in local.get("/tools").json()}
    fix = tools["local_remediation:apply_fix"]
    assert set(fix) == words("name original_name description category server transport risk bound_agents")
    assert (fix["original_name"], fix["server"], fix["risk"]) == ("apply_fix", "local_remediation", "high")
    assert fix["bound_agents"] == ["resolution"]
    assert tools["local_observability:get_logs"]["risk"] == "low"
    assert local.get("/environments").json() == ["production", "staging", "dev", "local"]
    hints = local.get("/config/ui-hints").json()
    assert set(hints) == {
        "brand_name",
        "brand_logo_url",
        "approval_rationale_templates",
        "hitl_question_templates",
        "environments",
    }
    assert local.get("/apps/incident_management/ui-views").json() == []


def test_every_answer_fits_the_published_schema(local, as_bob, make_gate):
    document = local.get("/openapi.json").json()
    gate = make_gate()
    paths = {
        "/sessions": "/sessions",
        "/sessions/recent": "/sessions/recent",
        "/sessions/{session_id}": f"/sessions/{gate.session_id}",
        "/sessions/{session_id}/full": f"/sessions/{gate.session_id}/full",
        "/sessions/{session_id}/approvals": f"/sessions/{gate.session_id}/approvals",
        "/sessions/{session_id}/retry/preview": f"/sessions/{gate.session_id}/retry/preview",
        "/gates": "/gates",
        "/gates/{gate_id}": f"/gates/{gate.pk}",
        "/agents": "/agents",
        "/tools": "/tools",
        "/config/ui-hints": "/config/ui-hints",
    }
    for path, address in paths.items():
        operation = document["paths"][f"/api/v1{path}"]["get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        response = as_bob.get(address)
        assert response.status_code == 200, address
        jsonschema.validate(response.json(), {**schema, "components": document["components"]})
    assert Gate.objects.count() == 1
