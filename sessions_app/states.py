"""Statuses and the transitions between them, as data (design.md, section 4 and law L7)."""

from __future__ import annotations

from django.db.models import TextChoices


class SessionStatus(TextChoices):
    """Where a session stands, from request to outcome."""

    NEW = "new", "new"
    IN_PROGRESS = "in_progress", "in progress"
    AWAITING_INPUT = "awaiting_input", "awaiting input"
    RESOLVED = "resolved", "resolved"
    ESCALATED = "escalated", "escalated"
    NEEDS_REVIEW = "needs_review", "needs review"
    ERROR = "error", "error"
    STOPPED = "stopped", "stopped"
    DUPLICATE = "duplicate", "duplicate"


class RunStatus(TextChoices):
    """Where one drive of the graph stands."""

    PENDING = "pending", "pending"
    RUNNING = "running", "running"
    SUCCEEDED = "succeeded", "succeeded"
    INTERRUPTED = "interrupted", "interrupted"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"


class RunKind(TextChoices):
    """Why a run was asked for."""

    START = "start", "start"
    RESUME = "resume", "resume"
    RERUN = "rerun", "rerun"


class CallStatus(TextChoices):
    """Where one tool call stands in the ledger (the words of the REST contract)."""

    PENDING_APPROVAL = "pending_approval", "waiting for approval"
    APPROVED = "approved", "approved"
    EXECUTING = "executing", "executing"
    EXECUTED = "executed", "executed"
    EXECUTED_WITH_NOTIFY = "executed_with_notify", "executed, on-call notified"
    REJECTED = "rejected", "rejected"
    EXPIRED = "expired", "expired"
    FAILED = "failed", "failed"
    UNKNOWN = "unknown", "outcome unknown"


_S = SessionStatus

#: The statuses in which nothing more happens unless a person asks for a rerun.
TERMINAL = frozenset({_S.RESOLVED, _S.ESCALATED, _S.NEEDS_REVIEW, _S.ERROR, _S.STOPPED, _S.DUPLICATE})

#: An outcome is what a graph may end in; `error` and `stopped` come from the runner and from people.
OUTCOMES = frozenset({_S.RESOLVED, _S.ESCALATED, _S.NEEDS_REVIEW, _S.DUPLICATE})

#: From each status, the ones that may follow. Nothing else is ever written.
TRANSITIONS: dict[SessionStatus, frozenset[SessionStatus]] = {
    _S.NEW: frozenset({_S.IN_PROGRESS, _S.AWAITING_INPUT, _S.STOPPED, _S.DUPLICATE, _S.ERROR}),
    _S.IN_PROGRESS: frozenset({_S.AWAITING_INPUT, *TERMINAL}),
    _S.AWAITING_INPUT: frozenset({_S.IN_PROGRESS, _S.ESCALATED, _S.STOPPED, _S.ERROR}),
    # A rerun's claim takes an ended session up again; a retracted duplicate starts as new.
    **{status: frozenset({_S.IN_PROGRESS}) for status in TERMINAL},
    _S.DUPLICATE: frozenset({_S.NEW}),
}

#: A run that will still do something; at most one of them a session.
ACTIVE_RUNS = frozenset({RunStatus.PENDING, RunStatus.RUNNING})
