"""The record of what happens. One file per row: session, run, event, ledger, access."""

from __future__ import annotations

from sessions_app.models.access import ApiToken, IdempotencyKey
from sessions_app.models.event import SessionEvent, log_transaction
from sessions_app.models.ledger import AgentRun, ToolCall
from sessions_app.models.run import Run
from sessions_app.models.session import Session, SessionNumber

__all__ = [
    "AgentRun",
    "ApiToken",
    "IdempotencyKey",
    "Run",
    "Session",
    "SessionEvent",
    "SessionNumber",
    "ToolCall",
    "log_transaction",
]
