"""How a gate is worded, and gates inside the pages of sessions, which know none themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from django import template
from django.db.models import Prefetch, Q
from django.utils.safestring import SafeString

from approvals_app import requests, urgency
from approvals_app.arguments import Difference, differences
from approvals_app.forms import EACH, ESCALATE, HAND_OVER, STOP, CallForm, DecisionForm, hands_over
from approvals_app.models import Decision, Gate
from approvals_app.states import LET_RUN, DecisionType, GateKind, GateStatus, OnExpiry
from sessions_app import redaction, timeline
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
def actions(gate: Gate, form: DecisionForm | None = None) -> list[Action]:
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
            Action(f"Approve and run all {many}", approve, "quiet", "a"),
            Action(f"Reject all {many}, let it try another way", reject, "stop", "r"),
        ]
        offered = [action for action in offered if action.value in gate.allowed]
        return [Action("Decide each as marked", EACH, "go", "e"), *offered]
    elif form is not None and form.shows_changes:
        return [
            Action("Approve and run as changed", DecisionType.EDIT, "go", "a"),
            *([Action("Reject, let it try another way", reject, "stop", "r")] if reject in gate.allowed else []),
        ]
    else:
        offered = [
            Action("Approve and run", approve, "go", "a"),
            Action("Answer in its place, run nothing", respond, "quiet"),
            Action("Reject, let it try another way", reject, "stop", "r"),
        ]
    return [action for action in offered if action.value in gate.allowed]


@register.filter
def endings(gate: Gate) -> list[Action]:
    """Return the rejections after which the session does not go on."""
    if DecisionType.REJECT not in gate.allowed:
        return []
    return [
        Action("Reject, and hand the session over to people", ESCALATE, "quiet"),
        Action("Reject, and stop the session", STOP, "quiet"),
    ]


@register.filter
def if_rejected(gate: Gate) -> str:
    """Return what a rejection leads to."""
    if gate.kind == GateKind.UNKNOWN_OUTCOME:
        return "It is left as it is, and not run again. The agent reads the reason."
    if isinstance(requests.dialect_of(gate.request), requests.HumanInterrupt):
        return (
            "Nothing is run. The agent is told to go on without it; your reason stays here, because it asks for none."
        )
    return "Nothing is run. The agent reads the reason and looks for another way."


_CHOICES = {
    DecisionType.APPROVE: "Run it",
    DecisionType.EDIT: "Run it as I change it",
    DecisionType.REJECT: "Reject it",
    DecisionType.RESPOND: "Answer in its place",
}


@register.filter
def choices(call: CallForm) -> list[tuple[str, str]]:
    """Return how one of several calls may be marked, with the words for it."""
    return [(str(kind), words) for kind, words in _CHOICES.items() if kind in call.allowed]


class CallDecided(NamedTuple):
    """What was decided on one call, for the card of a decided gate."""

    tool: str
    type: str
    words: str
    said: str
    differences: list[Difference]


_TOLD = {
    DecisionType.APPROVE: "approved as it was",
    DecisionType.EDIT: "edited and approved",
    DecisionType.REJECT: "rejected",
    DecisionType.RESPOND: "answered in its place",
}


@register.filter
def call_by_call(decision: Decision | None, gate: Gate) -> list[CallDecided]:
    """Return what was decided on each of several calls, and what an edit changed."""
    if decision is None:
        return []
    if not decision.verdicts:
        changed = differences(gate.args, decision.edited_args) if decision.edited_args is not None else []
        return [CallDecided(gate.tool, decision.type, "", "", changed)] if changed else []
    return [
        CallDecided(
            call["tool"],
            one["type"],
            _TOLD[DecisionType(one["type"])],
            "" if one["message"] == decision.message else one["message"],
            differences(call["args"], one["edited_args"]) if one["edited_args"] is not None else [],
        )
        for call, one in zip(gate.calls, decision.verdicts, strict=True)
    ]


@register.filter
def at(items: Any, position: int) -> Any:
    """Return an item of a list, or nothing where there is none."""
    return items[position] if isinstance(items, list) and position < len(items) else None


@register.filter
def source(seen: Any, name: str) -> dict[str, Any] | None:
    """Return where an argument's value was seen before, if it was."""
    found = seen.get(name) if isinstance(seen, dict) else None
    return found if isinstance(found, dict) else None


@register.filter
def request_text(gate: Gate) -> str:
    """Return the interrupt's value as it came, for a card that knows no better words."""
    return json.dumps(redaction.shown(gate.request), ensure_ascii=False, indent=2)


@register.filter
def is_raw(gate: Gate) -> bool:
    """Whether nobody knows how to read what the graph asks, beside its JSON."""
    dialect = requests.dialect_of(gate.request)
    return isinstance(dialect, requests.Raw) or (isinstance(dialect, requests.Words) and isinstance(gate.request, dict))


@register.filter
def schema_text(gate: Gate) -> str:
    """Return the schema of the answer, laid out."""
    return json.dumps(gate.response_schema, ensure_ascii=False, indent=2) if gate.response_schema else ""


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
    edits: list[Difference]
    row: ToolCall | None

    @classmethod
    def of(cls, call: dict[str, Any], row: ToolCall | None) -> Told:
        """Hold the call against its row in the ledger, whose grant has the arguments that were approved."""
        edits = differences(call["args"], row.effective_args) if row and row.grant else []
        return cls(call["tool"], call["args"], edits, row)


@register.filter
def gate(gates: dict[int, Gate] | None, number: Any) -> Gate | None:
    """Return one gate of `gates_in`."""
    return gates.get(number) if gates else None


@register.filter
def undecided(gates: dict[int, Gate] | None) -> list[Gate]:
    """Return the gates of `gates_in` that wait for somebody."""
    return [found for found in (gates or {}).values() if found.pending]
