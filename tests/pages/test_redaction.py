"""A secret that an agent, a tool or a person wrote leaves the server on no surface, and runs as it is."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.template.loader import render_to_string
from django.test import Client

from approvals_app import audit
from approvals_app.models import Decision, Gate
from approvals_app.states import Channel
from sessions_app import streams
from sessions_app.agents.context import Judgement, Report, Usage
from sessions_app.models import AgentRun, ApiToken, SessionEvent, ToolCall
from tests.conftest import tool_interrupt

pytestmark = pytest.mark.django_db
SECRET = "hunter2hunter2"
URL = f"postgres://app:{SECRET}@db/x"


@pytest.fixture
def gate(make_session: Any, make_gate: Any, alice: Any) -> Gate:
    """A gate in whose every text there is a secret."""
    session = make_session(status="in_progress", query=f"look at {URL}", requester=alice)
    run = session.runs.get()
    AgentRun.start(session_id=session.pk, run_id=run.pk, agent="triage", key="t")
    row, _ = ToolCall.enter(
        session_id=session.pk,
        run_id=run.pk,
        attempt=run.attempt,
        agent="triage",
        tool_call_id="reading",
        tool="local_observability:get_logs",
        args={"service": "checkout", "token": SECRET},
        reasoning=f"because {URL}",
        idempotent=True,
        judge=lambda: Judgement(level="low", reason="low_risk", rule="r", rule_version="1"),
    )
    row.settle(result=json.dumps({"password": SECRET, "log": URL}), result_kind="json", latency_ms=1)
    report = Report(
        summary=f"it is {URL}", confidence=0.9, rationale=f"says {URL}", signal="continue", evidence=[f"at {URL}"]
    )
    AgentRun.finish(session_id=session.pk, agent="triage", key="t", report=report, usage=Usage())
    session.annotate_incident(summary=f"found {URL}", findings=[{"password": SECRET}], extra_fields={"dsn": URL})
    asked = tool_interrupt("lab__open", target=URL, password=SECRET, nested={"api_key": SECRET})
    asked["value"]["description"] = f"open {URL}"
    made: Gate = make_gate(session, interrupts=[asked])
    return made


def test_no_page_shows_it(client: Client, gate: Gate, admin: Any) -> None:
    client.force_login(admin)
    pages = [
        *("/approvals/", f"/approvals/{gate.pk}/", "/sessions/", f"/sessions/{gate.session_id}/"),
        f"/approvals/{gate.pk}/?edit=1",
    ]
    for _ in range(2):
        for page in pages:
            response = client.get(page)
            assert response.status_code == 200
            assert SECRET not in response.content.decode(), page
        if gate.pending:
            gate.decide(
                "edit",
                actor=admin,
                channel=Channel.PAGE,
                digest=gate.digest,
                message=f"use {URL}",
                edited_args={"target": "[redacted]", "password": SECRET + "!"} | {"target": f"x {URL}"},
            )
        pages.append("/approvals/?status=decided")


def test_no_admin_page_shows_it(client: Client, gate: Gate, admin: Any) -> None:
    client.force_login(admin)
    gate.decide("reject", actor=admin, channel=Channel.PAGE, digest=gate.digest, message=f"not {URL}")
    decision = Decision.objects.get()
    event = SessionEvent.objects.filter(kind="tool_invoked").get()
    for page in (
        "/admin/approvals_app/gate/",
        f"/admin/approvals_app/gate/{gate.pk}/change/",
        "/admin/approvals_app/decision/",
        f"/admin/approvals_app/decision/{decision.pk}/change/",
        "/admin/sessions_app/session/",
        f"/admin/sessions_app/session/{gate.session_id}/change/",
        "/admin/sessions_app/sessionevent/",
        f"/admin/sessions_app/sessionevent/{event.pk}/change/",
    ):
        response = client.get(page)
        assert SECRET not in response.content.decode(), page
        assert "[redacted]" in response.content.decode(), page


def test_no_answer_of_the_api_has_it(client: Client, gate: Gate, bob: Any, admin: Any) -> None:
    headers = {"Authorization": f"Bearer {ApiToken.issue(bob)}"}
    for path in (
        *("/gates", f"/gates/{gate.pk}", "/sessions", "/sessions/recent"),
        *(f"/sessions/{gate.session_id}{rest}" for rest in ("", "/full", "/approvals", "/lessons", "/retry/preview")),
    ):
        response = client.get(f"/api/v1{path}", headers=headers)
        assert response.status_code == 200, path
        assert SECRET not in response.content.decode(), path
    gate.decide("reject", actor=admin, channel=Channel.PAGE, digest=gate.digest, message=f"not {URL}")
    body = json.dumps({"type": "approve", "digest": gate.digest})
    late = client.post(f"/api/v1/gates/{gate.pk}/decisions", body, "application/json", headers=headers)
    assert late.status_code == 409
    assert SECRET not in late.content.decode()
    assert late.json()["error"]["details"]["gate"]["args"]["target"] == "postgres://app:[redacted]@db/x"


def test_no_stream_and_no_frame_has_it(gate: Gate) -> None:
    sent = streams._read(gate.session_id, 0)
    assert len(sent) == gate.session.events.count()
    assert SECRET not in "".join(one.text for one in sent)
    frame = render_to_string("approvals/_push.html", {"came": [gate], "gone": [], "waiting": 1})
    assert SECRET not in frame
    assert "k" in frame


def test_an_export_says_whether_it_is_redacted(gate: Gate) -> None:
    whole, redacted = io.StringIO(), io.StringIO()
    call_command("export_audit", stdout=whole)
    call_command("export_audit", "--redacted", stdout=redacted)
    assert SECRET in whole.getvalue()
    assert SECRET not in redacted.getvalue()
    assert all(json.loads(line)["redacted"] is True for line in redacted.getvalue().splitlines())
    assert len(redacted.getvalue().splitlines()) == len(whole.getvalue().splitlines())


def test_what_is_stored_hashed_and_run_is_the_original(gate: Gate, admin: Any) -> None:
    assert gate.args["password"] == SECRET
    assert gate.digest == gate.digest_of_shown()
    shown = {"target": "postgres://app:[redacted]@db/x", "password": "[redacted]", "nested": {"api_key": "[redacted]"}}
    gate.decide(
        "edit",
        actor=admin,
        channel=Channel.API,
        digest=gate.digest,
        edited_args={**shown, "nested": {"api_key": "new"}},
    )
    gate.refresh_from_db()
    assert gate.answer
    assert gate.answer["edited_action"]["args"] == {"target": URL, "password": SECRET, "nested": {"api_key": "new"}}
    gate.session.refresh_from_db()
    assert not list(audit.faults_of(gate.session))


def test_the_page_s_form_never_writes_the_mark_back(client: Client, gate: Gate, admin: Any) -> None:
    client.force_login(admin)
    address = f"/approvals/{gate.pk}/decide/"
    untouched = {"edit-0/target": "postgres://app:[redacted]@db/x", "edit-0/password": "", "edit-0/nested/api_key": ""}
    around = {**untouched, "edit-0/target": "postgres://app:[redacted]@db/other"}
    refused = client.post(address, {"decision": "preview", "digest": gate.digest, **around})
    assert refused.status_code == 422
    assert b"It has a hidden part in it" in refused.content
    fields = {"digest": gate.digest, **untouched, "edit-0/nested/api_key": "another"}
    preview = client.post(address, {"decision": "preview", **fields})
    text = preview.content.decode()
    assert SECRET not in text
    previewed = text.partition('name="previewed" value="')[2].partition('"')[0]
    assert client.post(address, {"decision": "edit", "previewed": previewed, **fields}).status_code == 302
    gate.refresh_from_db()
    assert gate.answer
    assert gate.answer["edited_action"]["args"] == {
        "target": URL,
        "password": SECRET,
        "nested": {"api_key": "another"},
    }
