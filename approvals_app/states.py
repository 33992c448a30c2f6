"""What may become of a gate, and the words of a decision, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.db.models import TextChoices

from sessions_app.states import CallStatus


class GateStatus(TextChoices):
    """Where a gate stands; every one but `pending` is an end (law L3)."""

    PENDING = "pending", "pending"
    APPROVED = "approved", "approved"
    EDITED = "edited", "edited and approved"
    REJECTED = "rejected", "rejected"
    RESPONDED = "responded", "answered"
    EXPIRED = "expired", "expired"
    CANCELLED = "cancelled", "cancelled"


class GateKind(TextChoices):
    """What a gate asks."""

    TOOL_APPROVAL = "tool_approval", "may this call run?"
    BATCH = "batch", "may these calls run?"
    QUESTION = "question", "a question"
    UNKNOWN_OUTCOME = "unknown_outcome", "did this call run?"


class DecisionType(TextChoices):
    """How a person answers a gate."""

    APPROVE = "approve", "approve"
    EDIT = "edit", "edit and approve"
    REJECT = "reject", "reject"
    RESPOND = "respond", "answer"


class InquiryStatus(TextChoices):
    """Where a person's question to the agent stands; derived from its reply and its age, never stored."""

    WAITING = "waiting", "the agent is answering"
    ANSWERED = "answered", "answered"
    FAILED = "failed", "could not be answered"
    UNANSWERED = "unanswered", "was not answered"


class OnExpiry(TextChoices):
    """What happens when nobody decides a gate in time. Whichever it is, nothing is run."""

    REJECT = "reject", "the call is rejected and the agent goes on"
    STOP = "stop", "the session is stopped"
    ESCALATE = "escalate", "the session is escalated"


class Next(TextChoices):
    """What follows a rejection."""

    CONTINUE = "continue", "the agent tries another way"
    ESCALATE = "escalate", "handed over to people"
    STOP = "stop", "the session is stopped"


class Channel(TextChoices):
    """Through which surface a decision came."""

    PAGE = "page", "the approvals queue"
    API = "api", "the API"
    ADMIN = "admin", "the admin"
    SYSTEM = "system", "CLM itself"


#: What a gate becomes by each decision.
STATUS_AFTER: dict[DecisionType, GateStatus] = {
    DecisionType.APPROVE: GateStatus.APPROVED,
    DecisionType.EDIT: GateStatus.EDITED,
    DecisionType.REJECT: GateStatus.REJECTED,
    DecisionType.RESPOND: GateStatus.RESPONDED,
}


def summary_of(types: Sequence[DecisionType]) -> DecisionType:
    """Return the one word for the decisions on several calls: whether any runs, and then how."""
    for kind in (DecisionType.EDIT, DecisionType.APPROVE, DecisionType.RESPOND):
        if kind in types:
            return kind
    return DecisionType.REJECT


# The queue's tabs ---------------------------------------------------------------------------------------------------


class QueueTab(TextChoices):
    """Where a gate stands in the queue. Each gate is in exactly one tab, and the ended ones in `decided` as well."""

    PENDING = "pending", "pending"
    EXECUTING = "executing", "executing"
    UNKNOWN = "unknown", "unknown"
    EXECUTED = "executed", "executed"
    FAILED = "failed", "failed"
    REJECTED = "rejected", "rejected"
    ANSWERED = "answered", "answered"
    EXPIRED = "expired", "expired"
    CANCELLED = "cancelled", "cancelled"
    DECIDED = "decided", "all decided"


#: The gates whose calls a decision let run: the ledger says what became of those.
LET_RUN = frozenset({GateStatus.APPROVED, GateStatus.EDITED})

#: The gates of a tab that the gate's own status decides.
GATES_IN: dict[QueueTab, frozenset[GateStatus]] = {
    QueueTab.PENDING: frozenset({GateStatus.PENDING}),
    QueueTab.REJECTED: frozenset({GateStatus.REJECTED}),
    QueueTab.ANSWERED: frozenset({GateStatus.RESPONDED}),
    QueueTab.EXPIRED: frozenset({GateStatus.EXPIRED}),
    QueueTab.CANCELLED: frozenset({GateStatus.CANCELLED}),
    QueueTab.DECIDED: frozenset(GateStatus) - {GateStatus.PENDING},
}

#: The gates of a tab by what became of a call that they let run. A batch with several outcomes stands in the first of
#: these, and `executed` is what is left. A call that was approved and then not run counts as failed, because it did not
#: do what the approver wanted.
CALLS_IN: dict[QueueTab, frozenset[CallStatus]] = {
    QueueTab.UNKNOWN: frozenset({CallStatus.UNKNOWN}),
    QueueTab.EXECUTING: frozenset({CallStatus.PENDING_APPROVAL, CallStatus.APPROVED, CallStatus.EXECUTING}),
    QueueTab.FAILED: frozenset({CallStatus.FAILED, CallStatus.REJECTED, CallStatus.EXPIRED}),
    QueueTab.EXECUTED: frozenset({CallStatus.EXECUTED, CallStatus.EXECUTED_WITH_NOTIFY}),
}

#: The tabs whose number is shown: those that somebody must look after.
COUNTED = (QueueTab.PENDING, QueueTab.EXECUTING, QueueTab.UNKNOWN)
#: How far the page counts a list that may be long; a page of a longer tab is found by walking (`in_tab`).
COUNTED_TO = 500

#: How lists of gates are ordered; every one ends in the key, and a page goes on after any of them.
OLDEST_FIRST = ("created_at", "pk")
NEWEST_FIRST = ("-created_at", "-pk")
MOST_URGENT_FIRST = ("-weight", "expires_at", "pk")
LAST_DECIDED_FIRST = ("-decided_at", "-pk")


def order_of(tab: QueueTab) -> tuple[str, ...]:
    """Return in which order a tab is read."""
    return MOST_URGENT_FIRST if tab == QueueTab.PENDING else LAST_DECIDED_FIRST


class Grouping(NamedTuple):
    """How pending gates stand together: by which column, in words, and how many are on a page beside the first ones."""

    column: str
    words: str
    room: int


#: By the name that the address has for it.
GROUPS = {
    "session": Grouping("session_id", "by session", room=50),
    "call": Grouping("call_digest", "by identical call", room=10),
}
