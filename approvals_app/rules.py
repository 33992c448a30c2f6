"""Who may decide a gate, until when, and what happens then. Pure: facts in, a sentence, terms or nothing out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from approvals_app.states import GateKind, OnExpiry
from sessions_app.agents.config import Approvals
from sessions_app.agents.risk import RiskRule

#: From the least to the most that may follow when nobody answers, for a gate that several rules are about.
_SEVERITY = (OnExpiry.REJECT, OnExpiry.STOP, OnExpiry.ESCALATE)


def refusal(
    *,
    is_approver: bool,
    actor_id: int | None,
    actor_name: str,
    requester_id: int | None,
    submitter_id: str,
    four_eyes: bool,
) -> str:
    """Return why this person may not decide, or nothing where they may.

    Four eyes: whoever requested a session never approves its gates. A submitter's name that a client only claims
    counts as well, on the safe side.
    """
    if actor_id is None:
        return "Deciding always needs a person: sign in, or send your own token."
    if not is_approver:
        return f"{actor_name} is not in the approver group; an administrator can add them."
    if four_eyes and (requester_id == actor_id or submitter_id == actor_name):
        return f"Four eyes: {actor_name} requested this session, so somebody else must decide."
    return ""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How long a gate waits, how long its approval holds, and what happens when nobody decides."""

    expires_after: timedelta
    execution_expires_after: timedelta
    on_expiry: OnExpiry


def terms(kind: GateKind, calls: Iterable[RiskRule | None], approvals: Approvals) -> Terms:
    """Return the terms of a gate from the rule of each of its calls, None where no rule named the call.

    What a rule leaves out is taken from `[approvals]`, and for a question what `[approvals.questions]` does not say.
    Of several calls the shortest time holds and the severest end.
    """
    if kind == GateKind.QUESTION:
        questions = approvals.questions
        return Terms(
            expires_after=questions.expires_after or approvals.expires_after,
            execution_expires_after=approvals.execution_expires_after,
            on_expiry=OnExpiry(questions.on_expiry or approvals.on_expiry),
        )
    rules = list(calls) or [None]
    return Terms(
        expires_after=min((rule and rule.expires_after) or approvals.expires_after for rule in rules),
        execution_expires_after=min(
            (rule and rule.execution_expires_after) or approvals.execution_expires_after for rule in rules
        ),
        on_expiry=max(
            (OnExpiry((rule and rule.on_expiry) or approvals.on_expiry) for rule in rules), key=_SEVERITY.index
        ),
    )
