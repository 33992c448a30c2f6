"""Many gates whose time is over, written as rows in a few statements: what a night with every process down leaves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone

from approvals_app.models import Gate
from sessions_app.models import Run, Session, ToolCall
from sessions_app.models.ledger import call_digest

TOOL = "local_remediation:apply_fix"
ARGS = {"service": "checkout", "action": "restart"}


def overdue_gates(number: int, *, first: int = 1, **fields: Any) -> None:
    """Write `number` sessions that wait, each at one gate that ran out an hour ago, with its run and its call."""
    then = timezone.now() - timedelta(hours=5)
    sessions = Session.objects.bulk_create(
        Session(
            id=f"INC-20260101-{n:04d}",
            status="awaiting_input",
            query="checkout answers slowly",
            environment="dev",
            created_at=then,
        )
        for n in range(first, first + number)
    )
    runs = Run.objects.bulk_create(
        Run(session=session, kind="start", status="interrupted", thread_id=session.pk, attempt=1, ended_at=then)
        for session in sessions
    )
    ToolCall.objects.bulk_create(
        ToolCall(
            session=run.session,
            run=run,
            thread_id=run.thread_id,
            tool_call_id=f"call-of-{run.session_id}",
            agent="resolution",
            tool=TOOL,
            args=ARGS,
            digest=call_digest(TOOL, ARGS),
            risk="high",
            reason="high_risk",
            rule="apply_fix",
            rule_version="00000001",
            status="pending_approval",
        )
        for run in runs
    )
    gates = [
        Gate(
            session=run.session,
            run=run,
            interrupt_id=f"interrupt-of-{run.session_id}",
            kind="tool_approval",
            agent="resolution",
            tool=TOOL,
            tool_call_id=f"call-of-{run.session_id}",
            calls=[{"tool_call_id": f"call-of-{run.session_id}", "tool": TOOL, "args": ARGS}],
            headline="restart checkout in dev",
            reason="high_risk",
            risk="high",
            allowed=["approve", "edit", "reject"],
            evidence={"reports": [], "readings": [{"tool": "t", "args": {}, "excerpt": "x" * 400, "at": None}] * 4},
            request={"type": "tool_approval"},
            created_at=then,
            expires_at=then + timedelta(hours=4),
            **fields,
        )
        for run in runs
    ]
    for gate in gates:
        gate.digest = gate.digest_of_shown()
    # The desk refuses a bulk write of gates, since the sessions would not follow; here they are where they belong.
    rows: models.QuerySet[Gate] = models.QuerySet(Gate)
    rows.bulk_create(gates)
