"""What a gate keeps of the moment it opened: its headline and the evidence that the approver is shown."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Left

from approvals_app.requests import Asked
from approvals_app.states import GateKind
from sessions_app.agents.consequence import Consequence
from sessions_app.models import Session, ToolCall
from sessions_app.states import CallStatus

#: The latest readings that a gate keeps, and how much of each.
READINGS = 8
EXCERPT = 1200


def headline_of(asked: Asked, means: Consequence | None) -> str:
    """Return what is asked in a few words, for a row of the queue."""
    if asked.kind == GateKind.BATCH:
        names = ", ".join(dict.fromkeys(call["tool"].rpartition(":")[2] for call in asked.calls))
        return f"{len(asked.calls)} calls: {names}"[:300]
    if asked.kind == GateKind.UNKNOWN_OUTCOME:
        return f"did {asked.calls[0]['tool'].rpartition(':')[2]} run?"
    if means:
        return means.sentence[:300]
    return (asked.question or "a question from the agent")[:300]


def words_of(means: Consequence | None) -> dict[str, Any]:
    """Return the sentence on the call as a gate keeps it: `{parts, undoable, reversible, breaks, described}`."""
    if means is None:
        return {}
    return {
        "parts": [{"text": part.text, "strong": part.strong} for part in means.parts],
        "reversible": means.reversible,
        "undoable": means.undoable,
        "breaks": means.breaks,
        "described": means.described,
    }


def evidence_of(session: Session, asked: Asked) -> dict[str, Any]:
    """Return the agents' reports and the readings they rest on, as they stood when the gate opened.

    `{reports: [{agent, summary, confidence, rationale, evidence}], readings: [{tool, args, excerpt, at}], …}`
    """
    reports = session.agent_runs.exclude(ended_at=None).order_by("pk")
    executed = ToolCall.objects.filter(session=session, status=CallStatus.EXECUTED)
    # Only the beginning of each result is read: a log may be long.
    readings = list(
        executed.annotate(excerpt=Left("result", EXCERPT))
        .order_by("-pk")
        .values("tool", "args", "excerpt", "finished_at")[:READINGS]
    )
    return {
        "reports": [
            {
                "agent": report.agent,
                "summary": report.summary,
                "confidence": report.confidence,
                "rationale": report.confidence_rationale,
                "evidence": report.evidence,
            }
            for report in reports
        ],
        "readings": [
            {
                "tool": reading["tool"],
                "args": reading["args"],
                "excerpt": reading["excerpt"],
                "at": reading["finished_at"].isoformat() if reading["finished_at"] else None,
            }
            for reading in reversed(readings)
        ],
        **asked.about,
    }
