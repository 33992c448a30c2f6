"""How a gate is worded, and gates inside the pages of sessions, which know none themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

from django import template
from django.db.models import Prefetch

from approvals_app.forms import HAND_OVER, hands_over
from approvals_app.models import Decision, Gate
from approvals_app.states import DecisionType, GateKind, OnExpiry
from sessions_app.agents import config
from sessions_app.models import Session
from sessions_app.templatetags.desk import plain_span

register = template.Library()

_WHY = {
    "high_risk": "A call like this changes something, so a person decides each one.",
    "unlisted_tool": "No rule names this tool, so it waits for a person.",
    "gated_environment": "Calls like this wait for a person in {environment}.",
    "low_confidence": "The agent is not sure enough to go on alone.",
    "unknown_outcome": "The call was cut off in the middle, and it must not run twice.",
    "asked_by_agent": "The agent asked for it.",
}


class Action(NamedTuple):
    """A button: what it says, what it sends, how it looks and which key brings you to it."""

    words: str
    value: str
    style: str
    key: str = ""


@register.filter
def actions(gate: Gate) -> list[Action]:
    """Return what may be pressed, as the graph allows it."""
    many = len(gate.calls)
    approve, reject, respond = DecisionType.APPROVE, DecisionType.REJECT, DecisionType.RESPOND
    if gate.kind == GateKind.QUESTION:
        offered = [Action("Send the answer", respond, "go", "a")]
        if hands_over(gate):
            offered.append(Action("Hand it to the on-call engineer", HAND_OVER, "quiet", "r"))
        return offered
    if gate.kind == GateKind.UNKNOWN_OUTCOME:
        offered = [
            Action("It ran: record the result", respond, "go", "a"),
            Action("It did not: run it now", approve, "quiet"),
            Action("Leave it, and say why", reject, "quiet", "r"),
        ]
    elif gate.kind == GateKind.BATCH:
        offered = [
            Action(f"Approve and run all {many}", approve, "go", "a"),
            Action(f"Reject all {many}, let it try another way", reject, "stop", "r"),
        ]
    else:
        offered = [
            Action("Approve and run", approve, "go", "a"),
            Action("Reject, let it try another way", reject, "stop", "r"),
        ]
    return [action for action in offered if action.value in gate.allowed]


@register.filter
def why(gate: Gate) -> str:
    """Return why it was asked, as a sentence."""
    text = _WHY.get(gate.reason, f"The rule says: {gate.reason}.")
    return text.format(environment=gate.session.environment)


@register.filter
def needs(gate: Gate) -> str:
    """Return who must decide, and who must not."""
    requester = gate.session.requester.get_username() if gate.session.requester else gate.session.submitter_id
    if requester and config.current().approvals.four_eyes:
        return f"One approver, not {requester}, who requested the session."
    return "One approver."


@register.filter
def if_nobody(gate: Gate) -> str:
    """Return what happens when the time runs out."""
    begins = f"At {gate.expires_at:%H:%M} UTC it expires: nothing is run, and "
    if gate.on_expiry == OnExpiry.STOP:
        return f"{begins}the session is stopped, with every other gate of it."
    if gate.on_expiry == OnExpiry.ESCALATE:
        return f"{begins}the session ends as escalated, with every other gate of it: people take over."
    return f"{begins}the agent is told that nobody {'answered' if gate.kind == GateKind.QUESTION else 'decided'}."


@register.filter
def once_approved(gate: Gate) -> str:
    """Return until when an approved call may start, or nothing where no approval runs anything."""
    if DecisionType.APPROVE not in gate.allowed:
        return ""
    return f"It may start within {plain_span(gate.execution_expires_after)}; later it does not run."


@register.filter
def dotless(text: str) -> str:
    """Return the text without its final dot, to stand inside a sentence."""
    return text.rstrip(".")


@register.simple_tag
def gates_of(session: Session) -> dict[int, Gate]:
    """Return the session's gates by id, each with its decision: two queries, however many there are."""
    decisions = Prefetch("decisions", queryset=Decision.objects.select_related("actor"), to_attr="taken")
    found = {gate.pk: gate for gate in Gate.objects.filter(session=session).prefetch_related(decisions)}
    for gate in found.values():
        gate.session = session
    return found


@register.filter
def gate(gates: dict[int, Gate] | None, number: Any) -> Gate | None:
    """Return one gate of `gates_of`."""
    return gates.get(number) if gates else None


@register.filter
def undecided(gates: dict[int, Gate] | None) -> list[Gate]:
    """Return the gates of `gates_of` that wait for somebody."""
    return [found for found in (gates or {}).values() if found.pending]
