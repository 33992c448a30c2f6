"""Who may decide a gate, and until when. Pure: facts in, a sentence or nothing out."""

from __future__ import annotations

from datetime import datetime, timedelta


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


def expiry(now: datetime, after: timedelta) -> datetime:
    """Return the instant from which on nobody can approve any more."""
    return now + after


def execution_expiry(now: datetime, after: timedelta) -> datetime:
    """Return the instant from which on an approved call must not start any more."""
    return now + after
