"""What became of a gate's calls: decided, dispatched and executed are three facts, each from its own event.

A gate's own part of a call's history is what followed its own decision: a call that was cut off is asked about again,
and what the next gate led to belongs to that one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.utils import timezone

from approvals_app.models import Decision, Gate
from approvals_app.states import DecisionType, GateKind, GateStatus
from sessions_app.models import SessionEvent, ToolCall
from sessions_app.states import CallStatus

#: Letters of a result that an outcome carries; all of it is in the ledger.
EXCERPT = 400
_RAN = frozenset({CallStatus.EXECUTED, CallStatus.EXECUTED_WITH_NOTIFY})
_SETTLED = _RAN | {CallStatus.FAILED}
_FACTS = ("tool_dispatched", "tool_invoked")


class Step(NamedTuple):
    """One of the three steps as the card shows it: its mark, what it says before its instant, and what after."""

    mark: str
    says: str
    at: datetime | None = None
    then: str = ""
    #: A span that ended at `at`, and an instant that is yet to come.
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class CallOutcome:
    """What became of one call of a gate. `row` is the ledger's, None for a call that no ledger saw."""

    gate: Gate
    call: dict[str, Any]
    row: ToolCall | None
    decision: Decision | None
    position: int = 0
    dispatched_at: datetime | None = None
    finished_at: datetime | None = None
    #: What the outcome's event says, or nothing while there is none.
    ended: str = ""
    excerpt: str = ""

    @property
    def decided_at(self) -> datetime | None:
        """When a person decided, if one did."""
        return self.decision.created_at if self.decision else None

    @property
    def decided_as(self) -> str:
        """What the decision says of this call: of several, each has its own verdict."""
        return self.decision.type_on(self.position) if self.decision else ""

    @property
    def told(self) -> bool:
        """Whether a person said what became of a call that was cut off, instead of letting it run."""
        return self.decided_as == DecisionType.RESPOND and self.gate.kind == GateKind.UNKNOWN_OUTCOME

    @property
    def refused(self) -> bool:
        """Whether the approved call was refused when the graph came for it: it was not, or not any more, what was
        approved.
        """
        rejected = self.row is not None and self.row.status == CallStatus.REJECTED
        return rejected and not self.ended and self.runs_until is not None

    @property
    def runs_until(self) -> datetime | None:
        """Until when this gate's approval lets the call start."""
        if self.row is None or self.decision is None or (self.row.grant or {}).get("decision") != self.decision.pk:
            return None
        return self.row.runs_until

    @property
    def status(self) -> str:
        """Where the call stands, in the ledger's words, as far as this gate led to it."""
        if self.ended:
            return self.ended
        if self.decision is None:
            return {
                GateStatus.PENDING: CallStatus.PENDING_APPROVAL,
                GateStatus.EXPIRED: CallStatus.EXPIRED,
            }.get(GateStatus(self.gate.status), CallStatus.REJECTED)
        if self.told:
            return CallStatus.EXECUTED
        if self.runs_until and self.row:
            return CallStatus.EXPIRED if self.row.overdue(timezone.now()) else CallStatus(self.row.status)
        rejected = self.decided_as in {DecisionType.REJECT, DecisionType.RESPOND} or self.row is not None
        return CallStatus.REJECTED if rejected else CallStatus.APPROVED

    @property
    def text(self) -> str:
        """What the call returned, or why it failed or was refused, while the ledger's row tells of this gate."""
        tells = self.row is not None and (self.refused or self.ended == self.row.status in _SETTLED)
        return (self.row.result or self.row.error) if self.row and tells else ""

    # The strip ----------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> tuple[Step, Step, Step]:
        """Return the three steps; what did not happen says so."""
        return self._decided(), self._dispatched(), self._executed()

    def _decided(self) -> Step:
        if self.decision is None:
            if self.gate.status == GateStatus.EXPIRED:
                return Step("expired", "Nobody decided by", self.gate.expires_at)
            return Step("cancelled", "Cancelled with its session", self.gate.decided_at)
        actor = self.decision.actor.get_username() if self.decision.actor else "CLM"
        if self.decided_as == DecisionType.RESPOND:
            return Step("person", f"Answered by {actor}", self.decided_at)
        rejected = self.status == CallStatus.REJECTED and not self.refused
        return Step("person", f"{'Rejected' if rejected else 'Decided'} by {actor}", self.decided_at)

    def _dispatched(self) -> Step:
        if self.dispatched_at:
            return Step("route", "Dispatched", self.dispatched_at, f"to {self.row.agent}" if self.row else "")
        match self.status:
            case CallStatus.APPROVED if self.row is None:
                return Step("dot", "Left to the graph: no ledger saw it")
            case CallStatus.APPROVED:
                return Step("awaiting_input", "Approved, not yet dispatched: may start until", until=self.runs_until)
            case CallStatus.EXPIRED if self._ran_out:
                return Step("expired", "Not dispatched by", self.runs_until)
            case CallStatus.REJECTED if self.refused:
                return Step("error", "Refused at its dispatch")
            case _:
                return Step("dot", "Not dispatched")

    def _executed(self) -> Step:
        match self.status:
            case status if status in _RAN and self.told:
                return Step("resolved", "Recorded as run")
            case status if status in _RAN:
                return Step("resolved", "Executed", self.finished_at, since=self.dispatched_at)
            case CallStatus.FAILED:
                return Step("error", "Failed", self.finished_at, since=self.dispatched_at)
            case CallStatus.UNKNOWN:
                return Step("question", "Outcome unknown: cut off, noticed", self.finished_at)
            case CallStatus.EXECUTING:
                return Step("in_progress", "Running; this page follows")
            case CallStatus.APPROVED:
                return Step("new", "Not run yet")
            case CallStatus.EXPIRED if self.decision:
                return Step("stopped", f"Not run: its {'approval expired' if self._ran_out else 'session ended first'}")
            case _ if self.gate.kind == GateKind.UNKNOWN_OUTCOME:
                return Step("question", "Left as it is: nobody knows whether it ran")
            case _:
                return Step("stopped", "Not run")

    @property
    def _ran_out(self) -> bool:
        return self.runs_until is not None and self.runs_until <= timezone.now()


def outcomes_of(gate: Gate, decision: Decision | None) -> list[CallOutcome]:
    """Return what became of each of the gate's calls by its decision: two queries at most, none while it waits."""
    if gate.pending or not gate.calls:
        return [CallOutcome(gate=gate, call=call, row=None, decision=None) for call in gate.calls]
    ids = [call["tool_call_id"] for call in gate.calls]
    rows = {row.tool_call_id: row for row in ToolCall.objects.filter(gate_calls__gate=gate)}
    facts = dict(_facts(gate, decision, ids)) if decision else {}
    return [
        CallOutcome(
            gate=gate,
            call=call,
            row=rows.get(call["tool_call_id"]),
            decision=decision,
            position=position,
            **facts.get(call["tool_call_id"], _told(decision)),
        )
        for position, call in enumerate(gate.calls)
    ]


def _facts(gate: Gate, decision: Decision, ids: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the log says of each call that this decision let through: its last dispatch, and the end of that."""
    events = SessionEvent.objects.filter(
        session_id=gate.session_id, kind__in=_FACTS, ts__gte=decision.created_at, payload__tool_call_id__in=ids
    )
    known: dict[str, dict[str, Any]] = {}
    for event in events.order_by("seq"):
        call_id = event.payload["tool_call_id"]
        if event.kind == "tool_dispatched":
            if event.payload["decision_id"] == decision.pk:
                known[call_id] = {"dispatched_at": event.ts}
        elif call_id in known and "ended" not in known[call_id]:
            known[call_id] |= {
                "finished_at": event.ts,
                "ended": event.payload["status"],
                "excerpt": event.payload.get("excerpt", "")[:EXCERPT],
            }
    yield from known.items()


def _told(decision: Decision | None) -> dict[str, Any]:
    """Return the result that a person wrote down, for a call that this gate did not dispatch."""
    if decision is None or decision.type != DecisionType.RESPOND:
        return {}
    return {"excerpt": decision.message[:EXCERPT]}
