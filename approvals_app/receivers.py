"""Where approvals hear of sessions: an interrupt opens gates, a gate moves its session, an end closes gates."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.utils import timezone

from approvals_app import asking, consistency, expiry, requests, rules, together
from approvals_app.models import Gate, RepairCard
from approvals_app.models.drift import first_facts
from approvals_app.snapshot import asked_of, evidence_of
from approvals_app.states import GateKind
from sessions_app import engine, signals
from sessions_app.agents import config, consequence
from sessions_app.models import Run, Session, SessionEvent, ToolCall
from sessions_app.recovery import Repair, Seen
from sessions_app.states import SessionStatus


def connect() -> None:
    """Wire the receivers; called once, when the app is ready."""
    signals.run_interrupted.connect(open_gates, dispatch_uid="open_gates")
    signals.session_ended.connect(cancel_gates, dispatch_uid="cancel_gates")
    signals.sweeping.connect(expiry.expire_gates, dispatch_uid="expire_gates")
    signals.sweeping.connect(expiry.lapse_calls, dispatch_uid="lapse_calls")
    signals.sweeping.connect(repair, dispatch_uid="repair")
    signals.sweeping.connect(take_up_inquiries, dispatch_uid="take_up_inquiries")
    signals.checkpoints_read.connect(repair_pauses, dispatch_uid="repair_pauses")
    signals.session_ended.connect(close_repair_cards, dispatch_uid="close_repair_cards")
    signals.sweeping.connect(together.tidy, dispatch_uid="tidy")
    post_save.connect(session_awaits_input, sender=Gate, dispatch_uid="session_awaits_input")
    engine.does_beside(asking.ANSWER, asking.answer)


def open_gates(run: Run, interrupts: list[dict[str, Any]], checkpoint_id: str, **kwargs: Any) -> None:
    """Open one gate per interrupt; an interrupt that has its gate already opens none."""
    for found in interrupts:
        known = Gate.objects.filter(session_id=run.session_id, interrupt_id=found["id"])
        if not known.exists():
            _gate_of(run, found, checkpoint_id).save()


def session_awaits_input(instance: Gate, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """Move the session of a new pending gate to `awaiting_input`, in the gate's own transaction."""
    if raw or not created or not instance.pending:
        return
    SessionEvent.append(instance.session_id, "gate_fired", instance.as_fired())
    instance.session.move(SessionStatus.AWAITING_INPUT, cause=f"gate {instance.pk} fired")


def cancel_gates(session: Session, cause: str, **kwargs: Any) -> None:
    """Cancel what is still open when its session ends, so no gate outlives it (law L3)."""
    for gate in Gate.objects.filter(session=session).pending():
        gate.cancel(cause=cause)


def take_up_inquiries(dry_run: bool = False, **kwargs: Any) -> list[Repair]:
    """Have questions answered that a crash cut off: nothing disagrees meanwhile, so there is no repair to tell of."""
    if not dry_run:
        asking.take_up()
    return []


def repair(dry_run: bool = False, **kwargs: Any) -> list[Repair]:
    """Put right what disagrees."""
    return consistency.put_right(dry_run=dry_run)


def repair_pauses(seen: list[Seen], dry_run: bool = False, **kwargs: Any) -> list[Repair]:
    """Hold what graphs ask against the gates."""
    return consistency.hold_against(seen, dry_run=dry_run)


def close_repair_cards(session: Session, cause: str, **kwargs: Any) -> None:
    """Close what asks about a session that has ended: nothing disagrees any more."""
    for card in RepairCard.objects.open().filter(session=session):
        card.close(ending=f"the session ended: {cause}")


def _gate_of(run: Run, found: dict[str, Any], checkpoint_id: str) -> Gate:
    """Return the unsaved gate of one interrupt, with the snapshot that the approver will be shown."""
    asked = requests.read(found["value"], found["response_schema"])
    ids = [one["tool_call_id"] for one in asked.calls]
    rows = ToolCall.objects.filter(session_id=run.session_id, thread_id=run.thread_id, tool_call_id__in=ids)
    judged = {row.tool_call_id: row for row in rows}
    terms = _terms(asked.kind, [judged.get(one) for one in ids])
    environment = run.session.environment
    means = [consequence.consequence(one["tool"], one["args"], environment=environment) for one in asked.calls]
    return Gate(
        session=run.session,
        run=run,
        interrupt_id=found["id"],
        checkpoint_id=checkpoint_id,
        **asked_of(asked, judged.get(ids[0]) if ids else None, means),
        evidence=evidence_of(run.session, asked),
        facts=first_facts(judged[one] for one in ids if one in judged),
        response_schema=found["response_schema"],
        request=found["value"],
        expires_at=timezone.now() + terms.expires_after,
        on_expiry=terms.on_expiry,
        execution_expires_after=terms.execution_expires_after,
    )


def _terms(kind: GateKind, calls: list[ToolCall | None]) -> rules.Terms:
    """Return the terms of a gate, from the rules that its calls were judged by."""
    current = config.current()
    named = {rule.name: rule for rule in current.risk.rules}
    return rules.terms(kind, [named.get(call.rule) if call else None for call in calls], current.approvals)
