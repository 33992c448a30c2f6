"""The shapes of the REST contract that are about sessions, and how rows become them.

The keys are the contract's, which other clients speak already; docs/api.md says what each means, and a test holds
it to that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from django.dispatch import Signal
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from sessions_app.models import AgentRun, Session, SessionEvent, ToolCall

#: Sessions are about to be described to a client. Sent with `sessions`; a receiver returns, by session id, the
#: values of keys that it knows better: approvals_app those of `pending_intervention` and `user_inputs`.
describing = Signal()

#: A time as text, so that a list, a stream and the log write the same instant the same way.
Instant = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class Answer(BaseModel):
    """What CLM sends: exactly these keys."""

    model_config = ConfigDict(extra="forbid")


class Asked(BaseModel):
    """What a client sends: unknown keys are refused, because a misspelt one would be a wish nobody heard."""

    model_config = ConfigDict(extra="forbid")


# Asked ----------------------------------------------------------------------------------------------------------


class Submitter(BaseModel):
    """For whom a client submits."""

    id: str = Field(max_length=150)
    team: str | None = Field(None, max_length=150)


class Submission(BaseModel):
    """What an agent should look into. Unknown keys are left alone: clients of other systems send more."""

    query: str = Field(description="What the agent should look into.")
    environment: str = Field(max_length=40, description="One of GET /environments.")
    submitter: Submitter | None = None
    graph: str | None = Field(None, max_length=60, description="Which graph runs; `incident` unless said.")
    state_overrides: dict[str, Any] | None = Field(None, description="What the graph starts with besides.")


class Retry(Asked):
    """From where a session is run again."""

    from_checkpoint: str | None = Field(
        None, min_length=1, max_length=64, description="One of GET /sessions/{id}/checkpoints; the start unless said."
    )


class DuplicateRetraction(Asked):
    """Why a session is no duplicate after all."""

    retracted_by: str = Field("", max_length=150)
    note: str = Field("", max_length=2000)


# Sessions -------------------------------------------------------------------------------------------------------


class TokenUsage(Answer):
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class SubmitterAnswer(Answer):
    """For whom a session was submitted."""

    id: str
    team: str | None


class SessionAnswer(Answer):
    """One session."""

    id: str
    status: str
    created_at: Instant
    updated_at: Instant
    query: str
    environment: str
    submitter: SubmitterAnswer
    graph: str
    summary: str | None
    severity: str | None
    category: str | None
    resolution: str | None
    tags: list[Any]
    findings: list[Any]
    token_usage: TokenUsage
    pending_intervention: dict[str, Any] | None
    user_inputs: list[str]
    parent_session_id: str | None
    dedup_rationale: str | None
    extra_fields: dict[str, Any]
    version: int
    label: str
    ended_at: Instant | None


class SessionPage(Answer):
    """One page of sessions, newest first."""

    items: list[SessionAnswer]
    next_cursor: str | None
    total: int


class Submitted(Answer):
    """The session that a submission started."""

    session_id: str


class AgentRunAnswer(Answer):
    """One agent's finished turn."""

    agent: str
    started_at: Instant
    ended_at: Instant | None
    summary: str
    token_usage: TokenUsage
    confidence: float | None
    confidence_rationale: str
    signal: str


class ToolCallAnswer(Answer):
    """One tool call, as the ledger has it."""

    id: str
    agent: str
    tool: str
    args: dict[str, Any]
    result: Any
    ts: Instant
    risk: str
    status: str
    approver: str | None
    approved_at: Instant | None
    approval_rationale: str | None
    error: str | None


class EventAnswer(Answer):
    """One event."""

    seq: int
    session_id: str
    kind: str
    payload: dict[str, Any]
    ts: Instant


class AttemptAnswer(Answer):
    """One attempt of a session: a thread of its graph, from the start or from a checkpoint."""

    number: int
    kind: str
    thread_id: str
    from_checkpoint: dict[str, Any] | None
    asked_by: str | None
    asked_at: Instant
    ended_at: Instant | None
    outcome: str
    resolution: str | None
    run_ids: list[int]


class CheckpointAnswer(Answer):
    """One checkpoint from which a session can be run again."""

    checkpoint_id: str
    attempt: int
    thread_id: str
    next: list[str]
    ts: Instant
    says: str


class AgentAnswer(Answer):
    """One agent of the catalogue."""

    name: str
    description: str
    model: str
    tools: list[str]
    routes: list[dict[str, str]]


class More(Answer):
    """Which lists of a whole session go on beyond what was sent."""

    agents_run: bool
    tool_calls: bool
    events: bool


class WholeSession(Answer):
    """One session with all that happened in it."""

    session: SessionAnswer
    agents_run: list[AgentRunAnswer]
    tool_calls: list[ToolCallAnswer]
    attempts: list[AttemptAnswer]
    events: list[EventAnswer]
    agent_definitions: list[AgentAnswer]
    vm_seq: int
    more: More


class RetryPreview(Answer):
    """Whether a rerun would be taken now, and why or why not."""

    retry: bool
    reason: str


class RetryAnswer(Answer):
    """The run that was asked for."""

    run_id: int


class Lesson(Answer):
    """One lesson that was noted."""

    seq: int
    lesson: Any
    ts: Instant


# Catalogue ------------------------------------------------------------------------------------------------------


class ToolAnswer(Answer):
    """One tool of the catalogue."""

    name: str
    original_name: str
    description: str
    category: str
    server: str
    transport: Literal["in_process"]
    risk: str
    bound_agents: list[str]


class UiHints(Answer):
    """Names and texts for a client's own pages."""

    brand_name: str
    brand_logo_url: str
    approval_rationale_templates: list[str]
    hitl_question_templates: list[str]
    environments: list[str]


# Errors ---------------------------------------------------------------------------------------------------------


class Problem(Answer):
    """What went wrong."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorAnswer(Answer):
    """The one shape of every error."""

    error: Problem


# Rows become shapes ---------------------------------------------------------------------------------------------


def describe_sessions(sessions: Sequence[Session]) -> list[dict[str, Any]]:
    """Return sessions as the contract has them; what only approvals know is asked once for all of them."""
    known: dict[str, dict[str, Any]] = {session.pk: {} for session in sessions}
    if sessions:
        for _receiver, answer in describing.send(sender=Session, sessions=sessions):
            by_id: dict[str, dict[str, Any]] = answer  # type: ignore[assignment]
            for session_id, values in by_id.items():
                known[session_id].update(values)
    return [{**_describe_session(session), **known[session.pk]} for session in sessions]


def describe_session(session: Session) -> dict[str, Any]:
    """Return one session as the contract has it."""
    return describe_sessions([session])[0]


def _describe_session(session: Session) -> dict[str, Any]:
    return {
        "id": session.pk,
        "status": session.status,
        "created_at": instant(session.created_at),
        "updated_at": instant(session.updated_at),
        "query": session.query,
        "environment": session.environment,
        "submitter": {"id": session.submitter_id, "team": session.submitter_team or None},
        "graph": session.graph,
        "summary": session.summary or None,
        "severity": session.severity or None,
        "category": session.category or None,
        "resolution": session.resolution or None,
        "tags": session.tags,
        "findings": session.findings,
        "token_usage": _tokens(session),
        "pending_intervention": None,
        "user_inputs": [],
        "parent_session_id": session.parent_id,
        "dedup_rationale": session.dedup_rationale or None,
        "extra_fields": session.extra_fields,
        "version": session.version,
        "label": session.label,
        "ended_at": instant(session.ended_at),
    }


def describe_agent_run(turn: AgentRun) -> dict[str, Any]:
    """Return one agent's turn as the contract has it."""
    return {
        "agent": turn.agent,
        "started_at": instant(turn.started_at),
        "ended_at": instant(turn.ended_at),
        "summary": turn.summary,
        "token_usage": _tokens(turn),
        "confidence": turn.confidence,
        "confidence_rationale": turn.confidence_rationale,
        "signal": turn.signal,
    }


def describe_tool_call(call: ToolCall) -> dict[str, Any]:
    """Return one tool call as the contract has it."""
    return {
        "id": call.tool_call_id,
        "agent": call.agent,
        "tool": call.tool,
        "args": call.args,
        "result": _read_result(call.result),
        "ts": instant(call.ts),
        "risk": call.risk,
        "status": call.status,
        "approver": call.approver or None,
        "approved_at": instant(call.approved_at),
        "approval_rationale": call.approval_rationale or None,
        "error": call.error or None,
    }


def describe_event(event: SessionEvent) -> dict[str, Any]:
    """Return one event as every stream has it."""
    return event.as_json()


def instant(when: datetime | None) -> str | None:
    """Return a time in the one form of the API."""
    return when.isoformat() if when else None


def _tokens(row: Session | AgentRun) -> dict[str, int]:
    return {
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "total_tokens": row.input_tokens + row.output_tokens,
    }


def _read_result(text: str) -> Any:
    """Return a tool's result: the value where it is JSON, or else the text; nothing where there is none yet."""
    if not text:
        return None
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> Any:
    """Refuse NaN and the infinities, which Python reads and JSON does not have."""
    raise ValueError(constant)
