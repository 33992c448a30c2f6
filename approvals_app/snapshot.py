"""What a gate keeps of the moment it opened: its headline and the evidence that the approver is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from django.db.models.functions import Left

from approvals_app.requests import Asked
from approvals_app.states import GateKind
from sessions_app import redaction
from sessions_app.agents.consequence import Consequence
from sessions_app.models import Session, ToolCall
from sessions_app.states import CallStatus

#: The latest readings that a gate keeps, and how much of each.
READINGS = 8
EXCERPT = 1200
#: How much of each is searched for the values of the call, and among how many events for where it stands.
SEARCHED = 8000
LOOKED_THROUGH = 60


def headline_of(asked: Asked, means: Consequence | None) -> str:
    """Return what is asked in a few words, for a row of the queue."""
    if asked.kind == GateKind.BATCH:
        names = ", ".join(dict.fromkeys(call["tool"].rpartition(":")[2] for call in asked.calls))
        return f"{len(asked.calls)} calls: {names}"[:300]
    if asked.kind == GateKind.UNKNOWN_OUTCOME:
        return f"did {asked.calls[0]['tool'].rpartition(':')[2]} run?"
    if means:
        return means.sentence[:300]
    return redaction.shown_text(asked.question or "a question from the agent")[:300]


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


def asked_of(asked: Asked, ledger: ToolCall | None, means: Sequence[Consequence | None]) -> dict[str, Any]:
    """Return what a gate keeps of its question, field by field.

    `ledger` is the first call's row, if the ledger has it, and `means` what each of the calls would do.
    """
    call: dict[str, Any] = asked.calls[0] if asked.calls else {"tool_call_id": "", "tool": ""}
    first = means[0] if means else None
    return {
        "kind": asked.kind,
        "agent": asked.agent or (ledger.agent if ledger else ""),
        "tool": call["tool"],
        "tool_call_id": call["tool_call_id"],
        "calls": list(asked.calls),
        "headline": headline_of(asked, first),
        "question": asked.question,
        "reasoning": (ledger.reasoning if ledger else "") or asked.reasoning,
        "reason": asked.reason or (ledger.reason if ledger else "asked_by_agent"),
        "risk": ledger.risk if ledger else ("" if asked.kind == GateKind.QUESTION else "high"),
        "rule": ledger.rule if ledger else "",
        "rule_version": ledger.rule_version if ledger else "",
        "consequence": {"calls": [words_of(one) for one in means]} if asked.kind == GateKind.BATCH else words_of(first),
        "allowed": list(asked.allowed),
    }


def evidence_of(session: Session, asked: Asked) -> dict[str, Any]:
    """Return the agents' reports and the readings they rest on, as they stood when the gate opened.

    `{reports: [{agent, summary, confidence, rationale, evidence, seq}], readings: [{tool, args, excerpt, at, seq}],
    seen: [{argument: {tool, seq}}], …}`: `seq` is the event in the session's timeline, `seen` says for each call
    where the values of its arguments stood before.
    """
    reports = list(session.agent_runs.exclude(ended_at=None).order_by("pk"))
    executed = ToolCall.objects.filter(session=session, status=CallStatus.EXECUTED)
    # Only the beginning of each result is read: a log may be long.
    readings: list[dict[str, Any]] = list(
        executed.annotate(excerpt=Left("result", SEARCHED))
        .order_by("-pk")
        .values("tool", "tool_call_id", "args", "excerpt", "finished_at")[:READINGS]  # type: ignore[arg-type]
    )
    readings.reverse()
    seqs = _seqs_of(session) if reports or readings else {}
    for reading in readings:
        reading["seq"] = seqs.get(reading["tool_call_id"])
    return {
        "reports": [
            {
                "agent": report.agent,
                "summary": report.summary,
                "confidence": report.confidence,
                "rationale": report.confidence_rationale,
                "evidence": report.evidence,
                "seq": seqs.get(("report", report.agent)),
            }
            for report in reports
        ],
        "readings": [
            {
                "tool": reading["tool"],
                "args": reading["args"],
                "excerpt": reading["excerpt"][:EXCERPT],
                "at": reading["finished_at"].isoformat() if reading["finished_at"] else None,
                "seq": reading["seq"],
            }
            for reading in readings
        ],
        "seen": [_seen(call, readings, session.query) for call in asked.calls],
        **asked.about,
    }


def _seqs_of(session: Session) -> dict[Any, int]:
    """Return where in the timeline each call ran and each agent last reported."""
    events = session.events.filter(kind__in=["tool_invoked", "agent_finished"]).order_by("-seq")
    found: dict[Any, int] = {}
    for seq, kind, payload in events.values_list("seq", "kind", "payload")[:LOOKED_THROUGH]:
        key = payload.get("tool_call_id") if kind == "tool_invoked" else ("report", payload.get("agent"))
        found.setdefault(key, seq)
    return found


def _seen(call: dict[str, Any], readings: list[dict[str, Any]], query: str) -> dict[str, dict[str, Any]]:
    """Return for each argument where its value was seen before the agent wrote it: a reading, or the request.

    A reading that was itself asked for with the value says it only where nothing else does, and one of the same
    server's tools never: what an agent proposed first proves nothing of what it asks for next.
    """
    server = call["tool"].partition(":")[0]
    others = [reading for reading in readings if reading["tool"].partition(":")[0] != server]
    found = {}
    for name, value in call["args"].items():
        if (word := _word(value)) is None:
            continue
        telling = [reading for reading in others if word.search(reading["excerpt"])]
        own = [reading for reading in telling if not word.search(json.dumps(reading["args"], ensure_ascii=False))]
        if own:
            found[name] = {"tool": own[-1]["tool"], "seq": own[-1]["seq"]}
        elif word.search(query):
            found[name] = {"tool": "", "seq": None}
        elif telling:
            found[name] = {"tool": telling[-1]["tool"], "seq": telling[-1]["seq"]}
    return found


def _word(value: Any) -> re.Pattern[str] | None:
    """Return what finds a value in a text, or nothing for one that says too little to be recognised."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = str(value).strip()
    if isinstance(value, str) and not 3 <= len(text) <= 200:
        return None
    if not isinstance(value, str) and len(text) < 2:
        return None
    return re.compile(rf"(?<![\w.-]){re.escape(text)}(?![\w-]|\.\w)")
