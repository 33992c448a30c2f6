"""How a gate is worded, and gates inside the pages of sessions, which know none themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django import template
from django.db.models import Prefetch, Q
from django.utils.safestring import SafeString

from approvals_app import changes, urgency
from approvals_app.forms import HAND_OVER, hands_over
from approvals_app.models import Decision, Gate
from approvals_app.states import LET_RUN, DecisionType, GateKind, GateStatus, OnExpiry
from sessions_app import timeline
from sessions_app.agents import config
from sessions_app.models import Session, ToolCall
from sessions_app.states import CallStatus
from sessions_app.templatetags import desk

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
    return f"It may start within {desk.plain_span(gate.execution_expires_after)}; later it does not run."


@register.filter
def urgent(gate: Gate) -> str:
    """Return why it stands where it does in the queue."""
    return urgency.words(weight=gate.weight, risk=gate.risk)


@register.simple_tag
def how_many(total: int, counted_to: int | None = None) -> str:
    """Return a number of gates; a list that was counted only so far has that many and more."""
    return f"{counted_to:,}+" if counted_to else f"{total:,}"


@register.filter
def place(gate: Gate) -> str:
    """Return what rows that wait are sorted by, ascending: MOST_URGENT_FIRST as text in which numbers count."""
    return f"{99 - gate.weight}-{gate.expires_at:%Y%m%d%H%M%S%f}-{gate.pk}"


@register.simple_tag
def became(gate: Gate) -> SafeString:
    """Return what became of a gate of `GateQuerySet.with_outcome`: of its call, where a decision let it run."""
    outcome = getattr(gate, "outcome", None)
    if outcome is None or gate.status not in LET_RUN:
        return desk.status(gate.status, gate.get_status_display())
    if outcome in {CallStatus.REJECTED, CallStatus.EXPIRED}:
        return desk.status(outcome, "approved, not run")
    return desk.status(outcome, CallStatus(outcome).label)


@register.filter
def dotless(text: str) -> str:
    """Return the text without its final dot, to stand inside a sentence."""
    return text.rstrip(".")


@register.simple_tag
def gates_in(session: Session, items: Iterable[timeline.Turn | timeline.Entry]) -> dict[int, Gate]:
    """Return the gates that these parts of a timeline tell of, and every one that waits, by id.

    Each has its decision (`taken`) and its calls with what became of them (`told`): three queries, however many.
    """
    entries = [entry for item in items for entry in (item.entries if isinstance(item, timeline.Turn) else [item])]
    named = [entry.event.payload["gate_id"] for entry in entries if entry.event.kind == "gate_fired"]
    decisions = Prefetch("decisions", queryset=Decision.objects.select_related("actor"), to_attr="taken")
    rows = Gate.objects.filter(Q(pk__in=named) | Q(status=GateStatus.PENDING), session=session)
    found = {gate.pk: gate for gate in rows.select_related("run").defer("evidence").prefetch_related(decisions)}
    ids = {call["tool_call_id"] for gate in found.values() for call in gate.calls}
    ledger = timeline.ledger_rows(session, ids)
    for gate in found.values():
        gate.session = session
        calls = [(call, ledger.get((gate.run.thread_id, call["tool_call_id"]))) for call in gate.calls]
        gate.told = [Told.of(call, row) for call, row in calls]  # type: ignore[attr-defined]
    return found


class Told(NamedTuple):
    """One call of a gate: as it was proposed, how the decision changed it, and what the ledger says became of it."""

    tool: str
    args: dict[str, Any]
    edits: list[changes.Edit]
    row: ToolCall | None

    @classmethod
    def of(cls, call: dict[str, Any], row: ToolCall | None) -> Told:
        """Hold the call against its row in the ledger, whose grant has the arguments that were approved."""
        edits = changes.between(call["args"], row.effective_args) if row and row.grant else []
        return cls(call["tool"], call["args"], edits, row)


@register.filter
def gate(gates: dict[int, Gate] | None, number: Any) -> Gate | None:
    """Return one gate of `gates_in`."""
    return gates.get(number) if gates else None


@register.filter
def undecided(gates: dict[int, Gate] | None) -> list[Gate]:
    """Return the gates of `gates_in` that wait for somebody."""
    return [found for found in (gates or {}).values() if found.pending]
