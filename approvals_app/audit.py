"""Check that history is as it was written: every event's hash, every decision's seal, what every approver was shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from approvals_app.models import Comment, Decision, FactsAcknowledgement, Gate, Inquiry, Reply
from approvals_app.models.sealed import SealedModel
from approvals_app.states import GateStatus
from sessions_app import chain, redaction
from sessions_app.models import Session, SessionEvent

#: Rows that an export holds at once.
CHUNK = 500


@dataclass(frozen=True)
class Fault:
    """A row that is not as it was written."""

    session_id: str
    row: str
    text: str

    def __str__(self) -> str:
        return f"{self.session_id}: {self.row} {self.text}"


def faults_of(session: Session) -> Iterator[Fault]:
    """Yield every row of the session that was changed, lost, added or moved, and name it."""
    events = list(session.events.order_by("position", "seq"))
    yield from _events(session, events)
    told = {event.payload.get("gate_id"): event for event in events if event.kind == "gate_fired"}
    sealed = {event.payload.get("decision_id"): event for event in events if event.kind == "gate_decided"}
    gates = list(Gate.objects.filter(session=session).order_by("pk"))
    decisions = list(Decision.objects.filter(gate__session=session).order_by("pk"))
    yield from _gates(session, gates, told, events)
    yield from _decisions(session, decisions, sealed)
    yield from _said(session, events)


def _events(session: Session, events: list[SessionEvent]) -> Iterator[Fault]:
    previous = ""
    for expected, event in enumerate(events, start=1):
        row = f"event {event.seq}"
        if event.position != expected:
            yield Fault(session.pk, row, f"is number {event.position}, where number {expected} is missing or was moved")
            return
        if event.hash != event.hash_after(previous):
            yield Fault(session.pk, row, f"({event.kind}, number {expected}) was changed, or the one before it was")
        previous = event.hash
    if session.version != len(events) or session.head != previous:
        yield Fault(
            session.pk,
            "session",
            f"says it has {session.version} events, and the log has {len(events)} or another last",
        )
    replayed = next((e.payload["to"] for e in reversed(events) if e.kind == "session.status_changed"), "new")
    if session.status != replayed:
        yield Fault(session.pk, "session", f"is {session.status}, and its events end in {replayed}")


#: The event that must follow each end of a gate.
_END_EVENT = {GateStatus.EXPIRED: "gate_expired", GateStatus.CANCELLED: "gate_cancelled"}


def _gates(
    session: Session, gates: list[Gate], told: dict[Any, SessionEvent], events: list[SessionEvent]
) -> Iterator[Fault]:
    ended = {(event.kind, event.payload.get("gate_id")) for event in events}
    for gate in gates:
        row = f"gate {gate.pk}"
        fired = told.pop(gate.pk, None)
        if fired is None:
            yield Fault(session.pk, row, "is in no event")
        elif gate.digest_of_shown() != fired.payload.get("digest"):
            yield Fault(session.pk, row, "does not show what was shown when it opened")
        elif gate.digest != _last_digest(gate.pk, fired, events):
            yield Fault(session.pk, row, "carries another digest than the log")
        if not gate.pending and (_END_EVENT.get(GateStatus(gate.status), "gate_decided"), gate.pk) not in ended:
            yield Fault(session.pk, row, f"is {gate.status}, and no event says so")
    for gate_id in told:
        yield Fault(session.pk, f"gate {gate_id}", "is in the log, and its row is gone")


def _decisions(session: Session, decisions: list[Decision], sealed: dict[Any, SessionEvent]) -> Iterator[Fault]:
    for decision in decisions:
        row = f"decision {decision.pk}"
        event = sealed.pop(decision.pk, None)
        if event is None:
            yield Fault(session.pk, row, "is in no event")
        elif decision.seal() != event.payload.get("seal"):
            yield Fault(session.pk, row, "was changed")
    for decision_id in sealed:
        yield Fault(session.pk, f"decision {decision_id}", "is in the log, and its row is gone")


def _last_digest(gate_id: int, fired: SessionEvent, events: list[SessionEvent]) -> str:
    """Return a gate's digest after every acknowledgement in the log: each is over the one before and the new facts."""
    digest = str(fired.payload.get("digest"))
    for event in events:
        if event.kind == "facts_acknowledged" and event.payload.get("gate_id") == gate_id:
            digest = chain.digest([digest, event.payload["facts"]])
    return digest


@dataclass(frozen=True)
class _Told:
    """Rows that an event tells of: the event's kind, the key by which it names a row, and what it says of one."""

    model: type[SealedModel]
    name: str
    kind: str
    #: The event's key, and the row's.
    key: str
    column: str
    #: What the event says of the row itself, as the row has it, and the row's columns of that. It is compared where an
    #: event was written before it carried a seal.
    says: dict[str, str]
    gate: str = "gate"


_TOLD = (
    _Told(Comment, "comment", "gate_commented", "comment_id", "pk", {"gate_id": "gate_id", "text": "text"}),
    _Told(
        Inquiry,
        "inquiry",
        "gate_asked",
        "inquiry_id",
        "pk",
        {"gate_id": "gate_id", "question": "text", "channel": "channel"},
    ),
    _Told(
        Reply,
        "reply to inquiry",
        "gate_answered",
        "inquiry_id",
        "inquiry_id",
        {"answer": "text", "error": "error", "model": "model", "checkpoint_id": "checkpoint_id"},
        gate="inquiry__gate",
    ),
    _Told(
        FactsAcknowledgement,
        "acknowledgement",
        "facts_acknowledged",
        "acknowledgement_id",
        "pk",
        {"gate_id": "gate_id", "facts": "facts", "changes": "changes", "digest": "digest", "channel": "channel"},
    ),
)
#: What a row says by whom.
_WHO = {Comment: "author_id", Inquiry: "asker_id", FactsAcknowledgement: "actor_id"}


def _said(session: Session, events: list[SessionEvent]) -> Iterator[Fault]:
    """Hold what people and the agent said about gates against the events that tell of it."""
    kinds = {event.kind for event in events}
    for told in _TOLD:
        rows = list(told.model._default_manager.filter(**{f"{told.gate}__session": session}).order_by("pk"))
        if not rows and told.kind not in kinds:
            continue
        logged = [event for event in events if event.kind == told.kind]
        named = {event.payload[told.key]: event for event in logged if told.key in event.payload}
        # Those of before did not name their row; they stand in the same order.
        nameless = iter([event for event in logged if told.key not in event.payload])
        for row in rows:
            key = getattr(row, told.column)
            event = named.pop(key, None) or next(nameless, None)
            if event is None:
                yield Fault(session.pk, f"{told.name} {key}", "is in no event")
            elif not _agrees(row, event, told):
                yield Fault(session.pk, f"{told.name} {key}", "was changed")
        for key in [*named, *(f"of event {event.seq}" for event in nameless)]:
            yield Fault(session.pk, f"{told.name} {key}", "is in the log, and its row is gone")


def _agrees(row: SealedModel, event: SessionEvent, told: _Told) -> bool:
    if "seal" in event.payload:
        return bool(row.seal() == event.payload["seal"])
    said = {name: event.payload[name] for name in told.says if name in event.payload}
    who = _WHO.get(told.model)
    same = all(getattr(row, told.says[name]) == value for name, value in said.items())
    return same and (who is None or getattr(row, who) == event.actor_id)


def export_redacted(session: Session) -> Iterator[dict[str, Any]]:
    """Yield the same rows without their secrets, each marked as redacted: to be read, not to be verified."""
    for row in export(session):
        yield {**redaction.shown(row), "redacted": True}


def export(session: Session) -> Iterator[dict[str, Any]]:
    """Yield the session's history as JSON-native rows that verify without CLM (docs/audit.md)."""
    yield {"type": "session", "id": session.pk, "events": session.version, "head": session.head}
    for gate in Gate.objects.filter(session=session).order_by("pk").iterator(CHUNK):
        yield {"type": "gate", "id": gate.pk, "shown": gate.shown()}
    decisions = Decision.objects.filter(gate__session=session).select_related("actor").order_by("pk")
    for decision in decisions.iterator(CHUNK):
        actor = decision.actor.get_username() if decision.actor else None
        yield {"type": "decision", "id": decision.pk, "actor_name": actor, "sealed": decision.sealed()}
    for event in session.events.order_by("position").iterator(CHUNK):
        yield {"type": "event", "seq": event.seq, "hash": event.hash, "hashed": event.hashed()}
