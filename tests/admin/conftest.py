"""Somebody on call, signed in to the admin, and incidents of each shape."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from sessions_app.agents.context import Judgement, Report, Usage
from sessions_app.models import AgentRun, Session, ToolCall
from sessions_app.states import SessionStatus
from tests.conftest import driven


@pytest.fixture
def oncall(client: Client, alice: User) -> Client:
    """An operator who may enter the admin."""
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    client.force_login(alice)
    return client


@pytest.fixture
def superuser(client: Client, admin: User) -> Client:
    """Somebody who may do whatever can be done."""
    client.force_login(admin)
    return client


@pytest.fixture
def reader(client: Client, charlie: User) -> Client:
    """Somebody who may enter the admin and see sessions, and nothing more."""
    User.objects.filter(pk=charlie.pk).update(is_staff=True)
    charlie.groups.add(Group.objects.get(name="approver"))
    client.force_login(charlie)
    return client


@pytest.fixture
def ended(make_session: Callable[..., Session]) -> Callable[..., Session]:
    """Make a session that ended in some way."""

    def make(status: str = "error", **fields: Any) -> Session:
        session = make_session(status="in_progress", **fields)
        session.runs.update(status="failed", ended_at=timezone.now())
        session.move(SessionStatus(status), cause="test", resolution="the model was away")
        return session

    return make


@pytest.fixture
def worked_on() -> Callable[..., Session]:
    """Give a session some agent turns and tool calls, as a drive would."""

    def work(session: Session, *, times: int = 1) -> Session:
        run = session.runs.earliest("pk")
        for number in range(times):
            key = f"turn-{number}"
            AgentRun.start(session_id=session.pk, run_id=run.pk, agent="triage", key=key)
            report = Report(summary=f"finding {number}", confidence=0.8, rationale="two readings", signal="continue")
            AgentRun.finish(
                session_id=session.pk, agent="triage", key=key, report=report, usage=Usage(input_tokens=1200)
            )
            with driven(run):
                call, _ = ToolCall.enter(
                    session_id=session.pk,
                    run_id=run.pk,
                    attempt=run.attempt,
                    agent="triage",
                    tool_call_id=f"call-{number}",
                    tool="local_observability:get_logs",
                    args={"service": "checkout", "number": number},
                    reasoning="",
                    idempotent=True,
                    judge=lambda: Judgement(level="low", reason="", rule="read_only", rule_version="1"),
                )
            call.settle(result=f"line {number}", result_kind="text", latency_ms=3)
        return session

    return work


@pytest.fixture
def aged() -> Callable[[Session, timedelta], Session]:
    """Make a session look as if it had been submitted so long ago."""

    def age(session: Session, by: timedelta) -> Session:
        Session.objects.filter(pk=session.pk).update(created_at=timezone.now() - by)
        session.refresh_from_db()
        return session

    return age
