"""How the sessions of the demo load go: one function for each way to an end, or to a gate that waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from approvals_app.models import Gate
from approvals_app.sizing.life import HEALTH, METRICS, Life
from approvals_app.states import DecisionType, Next
from sessions_app.states import CallStatus, SessionStatus

#: Tells a life; also given is the life before it, if there is one.
Plot = Callable[[Life, Life | None], None]


def _investigate(life: Life) -> None:
    life.turn("triage", HEALTH, METRICS)


def _decided(life: Life, kind: DecisionType, cause: str) -> Gate:
    """Let the fix be asked for and decided on, and the graph go on with that."""
    _investigate(life)
    gate = life.ask()
    actor = life.decide(gate, kind)
    life.go_on(gate, cause=cause, actor=actor)
    return gate


def approved(life: Life, before: Life | None) -> None:
    """The fix is approved and works."""
    _investigate(life)
    gate = life.ask()
    if life.session.pk.endswith("7"):
        life.comment(gate)
    actor = life.decide(gate, DecisionType.APPROVE)
    life.go_on(gate, cause="gate approved", actor=actor)
    life.carry_out(gate)
    life.finish(SessionStatus.RESOLVED, f"{life.fault.action} helped; {life.service} is well again.")


def edited(life: Life, before: Life | None) -> None:
    """The fix is changed, approved and works."""
    life.carry_out(_decided(life, DecisionType.EDIT, "gate edited and approved"))
    life.finish(SessionStatus.RESOLVED, f"{life.fault.action} helped; {life.service} is well again.")


def failed(life: Life, before: Life | None) -> None:
    """The fix is approved and fails."""
    life.carry_out(_decided(life, DecisionType.APPROVE, "gate approved"), CallStatus.FAILED)
    life.finish(SessionStatus.NEEDS_REVIEW, "The fix could not be applied; somebody must look.")


def rejected(life: Life, before: Life | None) -> None:
    """The fix is rejected, and the agent hands over."""
    _decided(life, DecisionType.REJECT, "gate rejected")
    life.finish(SessionStatus.ESCALATED, f"{life.service} is left to the people on call.")


def rejected_and_stopped(life: Life, before: Life | None) -> None:
    """The fix is rejected, and the session is stopped with it."""
    _investigate(life)
    gate = life.ask()
    actor = life.decide(gate, DecisionType.REJECT, then=Next.STOP)
    life.stop(actor=actor)


def answered(life: Life, before: Life | None) -> None:
    """The agent asks, is answered, and finds that all is well."""
    _investigate(life)
    gate = life.ask_in_words()
    actor = life.decide(gate, DecisionType.RESPOND)
    life.go_on(gate, cause="gate answered", actor=actor)
    life.finish(SessionStatus.RESOLVED, f"{life.service} recovered by itself.")


def expired(life: Life, before: Life | None) -> None:
    """Nobody decides in time, and the agent hands over."""
    _investigate(life)
    gate = life.ask()
    life.expire(gate)
    life.go_on(gate, cause="gate expired")
    life.finish(SessionStatus.ESCALATED, f"Nobody decided in time; {life.service} is left to the people on call.")


def stopped(life: Life, before: Life | None) -> None:
    """The requester stops it while it waits."""
    _investigate(life)
    life.stop(life.ask())


def unasked(life: Life, before: Life | None) -> None:
    """Nothing is wrong, so nothing is asked."""
    _investigate(life)
    life.turn("resolution", METRICS)
    life.finish(SessionStatus.RESOLVED, f"{life.service} is well; nothing was done.")


def broken(life: Life, before: Life | None) -> None:
    """The run fails."""
    _investigate(life)
    life.fail()


def duplicate(life: Life, before: Life | None) -> None:
    """It is the same as the one before."""
    _investigate(life)
    life.session.parent = before.session if before else None
    life.session.dedup_rationale = "The same service, minutes after the session before."
    life.finish(SessionStatus.DUPLICATE, "A duplicate.")


def waiting(life: Life, before: Life | None) -> None:
    """It waits for a decision; one in ten for an answer."""
    _investigate(life)
    if life.session.pk.endswith("3"):
        life.ask_in_words(pending=True)
    else:
        life.ask(pending=True)


def half_decided(life: Life, before: Life | None) -> None:
    """One of two is approved, and nothing runs before the other is decided."""
    _investigate(life)
    first = life.ask(pending=True)
    life.ask(pending=True)
    life.decide(first, DecisionType.APPROVE, lasts=timedelta(days=90))


def unknown(life: Life, before: Life | None) -> None:
    """An approved call was cut off, and somebody must say whether it ran."""
    gate = _decided(life, DecisionType.APPROVE, "gate approved")
    life.carry_out(gate, CallStatus.UNKNOWN)
    life.ask_what_became(gate)


#: Of a hundred that ended, how many went that way.
ENDED: dict[Plot, int] = {
    approved: 42,
    edited: 6,
    failed: 4,
    rejected: 9,
    rejected_and_stopped: 3,
    answered: 5,
    expired: 5,
    stopped: 4,
    unasked: 14,
    broken: 5,
    duplicate: 3,
}
WAITING: Plot = waiting
HALF_DECIDED: Plot = half_decided
UNKNOWN: Plot = unknown
