"""What may become of a gate, and the words of a decision, as data."""

from __future__ import annotations

from django.db.models import TextChoices


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


class OnExpiry(TextChoices):
    """What happens when nobody decides a gate in time. Whichever it is, nothing is run."""

    REJECT = "reject", "the call is rejected and the agent goes on"
    STOP = "stop", "the session is stopped"
    ESCALATE = "escalate", "the session is escalated"


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
