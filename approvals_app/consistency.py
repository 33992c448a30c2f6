"""Hold sessions, runs, gates, checkpoints and the ledger against each other, and put right what has one right answer.

None of this should ever find anything: every verb writes its part of all of them in one transaction. It is there
for what no verb did: a restored backup, a hand in the database, a bug of tomorrow. What has no one right answer
becomes a repair card, for a person.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db.models import Count, Q
from django.utils import timezone

from approvals_app.models import Comparison, Gate, RepairCard
from approvals_app.states import GateStatus
from sessions_app import signals
from sessions_app.models import Run, Session, SessionEvent, ToolCall, log_transaction
from sessions_app.recovery import Repair, Seen
from sessions_app.states import TERMINAL, CallStatus, RunKind, RunStatus, SessionStatus

log = logging.getLogger("clm.sweep")

_S = SessionStatus


#: The session has an undecided gate, one of a run that did not end by asking, an active run, one that is no rerun, a
#: tool call that is not settled. Each asks from the few rows that are open, so the many sessions that have ended cost
#: nothing.
_WAITS = Q(pk__in=Gate.objects.pending().values("session"))
_STRAYS = Q(pk__in=Gate.objects.pending().exclude(run__status=RunStatus.INTERRUPTED).values("session"))
_WORKS = Q(pk__in=Run.objects.active().values("session"))
_BEGUN = Q(pk__in=Run.objects.active().exclude(kind=RunKind.RERUN).values("session"))
_HANGS = Q(pk__in=ToolCall.objects.open().values("session"))


def _wait(session: Session) -> None:
    session.move(_S.AWAITING_INPUT, cause="repaired")


def _take_up(session: Session) -> None:
    """Drive the graph on from its checkpoint; it pauses there again, or ends, and either is written down."""
    session.move(_S.IN_PROGRESS, cause="repaired")
    last = session.runs.order_by("-pk").first()
    gates = Gate.objects.filter(session=session, run=last).exclude(answer=None)
    Run.objects.create(
        session=session,
        kind=RunKind.RESUME if last else RunKind.START,
        thread_id=last.thread_id if last else session.pk,
        answers={gate.interrupt_id: gate.answer for gate in gates},
        # Not the first to drive it on from there: answers that have arrived are not sent again.
        attempt=1,
    )


def _go_on(session: Session) -> None:
    session.move(_S.IN_PROGRESS, cause="repaired")


def _close_gates(session: Session) -> None:
    for gate in Gate.objects.filter(session=session).pending():
        gate.cancel(cause=f"the session is {session.status}")


def _close_runs(session: Session) -> None:
    session.cancel_runs()


def _close_calls(session: Session) -> None:
    for call in ToolCall.objects.filter(session=session, status=CallStatus.EXECUTING):
        call.settle_unknown()
    for call in ToolCall.objects.filter(session=session, status=CallStatus.APPROVED):
        call.lapse("the session ended before it ran")


@dataclass(frozen=True)
class Disagreement:
    """One way in which the stores can disagree: how to find it, and what puts it right, if one thing does.

    Where nothing does, `remedy` is what a person can do, and a repair card asks one to.
    """

    name: str
    text: str
    found: Q
    repair: Callable[[Session], None] | None = None
    remedy: str = ""


#: In the order in which they are put right.
DISAGREEMENTS = (
    Disagreement(
        "gate_outlived", "it has ended, and a gate was still open", Q(status__in=TERMINAL) & _WAITS, _close_gates
    ),
    Disagreement(
        "run_outlived", "it has ended, and a run was still active", Q(status__in=TERMINAL) & _BEGUN, _close_runs
    ),
    Disagreement(
        "call_outlived",
        "it has ended, and a tool call was left open",
        Q(status__in=TERMINAL) & _HANGS & ~_WORKS,
        _close_calls,
    ),
    Disagreement(
        "gate_unsaid",
        "a gate is open, and the session did not say so",
        Q(status__in=[_S.NEW, _S.IN_PROGRESS]) & _WAITS & ~_WORKS,
        _wait,
    ),
    Disagreement(
        "no_gate",
        "it said that it waits, and no gate is open",
        Q(status=_S.AWAITING_INPUT) & ~_WAITS & ~_WORKS,
        _take_up,
    ),
    Disagreement(
        "run_unsaid",
        "it said that it waits, and a run goes on",
        Q(status=_S.AWAITING_INPUT) & ~_WAITS & _WORKS,
        _go_on,
    ),
    Disagreement(
        "nobody_works",
        "nobody was working on it",
        Q(status__in=[_S.NEW, _S.IN_PROGRESS]) & ~_WAITS & ~_WORKS,
        _take_up,
    ),
    # Whether the answer or the run came first cannot be told from the rows.
    Disagreement(
        "gate_and_run",
        "a gate is open while a run goes on",
        ~Q(status__in=TERMINAL) & _WAITS & _WORKS,
        remedy="Stop the session if the run should not go on; when the run ends by itself, this card goes.",
    ),
    Disagreement(
        "gate_of_ended_run",
        "a gate is open, and the run that asked did not end by asking",
        ~Q(status__in=TERMINAL) & _STRAYS & ~_WORKS,
        remedy="Decide the gate to let the graph go on from its checkpoint, or stop the session.",
    ),
)

#: Found by reading a checkpoint, so it has no query of its own; it is over when no gate is open any more.
NOT_ASKED = Disagreement(
    "not_asked",
    "a gate is open, and its graph does not ask for it",
    ~Q(status__in=TERMINAL) & _WAITS,
    remedy="The checkpoint may be lost or older than the database. Stop the session and run it again, or restore the "
    "checkpoints; a decision may reach nobody.",
)
BY_HAND = {kind.name: kind for kind in (*DISAGREEMENTS, NOT_ASKED) if kind.repair is None}


@dataclass
class Found:
    """What one comparison found: the sessions that disagree, and the two numbers that should be one."""

    awaiting: int = 0
    gates: int = 0
    disagreeing: list[tuple[str, Disagreement]] = field(default_factory=list)


def compare() -> Found:
    """Hold all rows against each other; one statement a kind, each one snapshot."""
    says_or_is = Session.objects.filter(Q(status=_S.AWAITING_INPUT) | _WAITS)
    numbers = says_or_is.aggregate(
        awaiting=Count("pk", filter=Q(status=_S.AWAITING_INPUT)), gates=Count("pk", filter=_WAITS)
    )
    return Found(**numbers, disagreeing=disagreeing())


def disagreeing() -> list[tuple[str, Disagreement]]:
    """Return each session that disagrees with its own rows, and how."""
    return [
        (session_id, kind)
        for kind in DISAGREEMENTS
        for session_id in Session.objects.filter(kind.found).order_by("pk").values_list("pk", flat=True)[:500]
    ]


def put_right(*, dry_run: bool = False) -> list[Repair]:
    """Compare, repair what has one right answer, open a card for what has none, and keep what was found.

    Each repair and each card has its event. With `dry_run`, only say what is there.
    """
    found = compare()
    if dry_run:
        return [Repair(session_id, kind.text, kind.remedy) for session_id, kind in found.disagreeing]
    repairs = []
    for session_id, kind in found.disagreeing:
        try:
            done = _repair(session_id, kind)
        except Exception:
            log.exception("%s: %s, and that could not be put right; the sweep goes on", session_id, kind.text)
        else:
            if done:
                repairs.append(Repair(session_id, kind.text, kind.remedy))
    cards = _close_cards()
    alone = sum(kind.repair is not None for _, kind in found.disagreeing)
    Comparison(
        checked_at=timezone.now(),
        awaiting=found.awaiting,
        gates=found.gates,
        disagreements=alone + cards,
        put_right=sum(not repair.by_hand for repair in repairs),
        cards=cards,
    ).keep()
    return repairs


def _repair(session_id: str, kind: Disagreement) -> bool:
    with log_transaction():
        # Looked at again inside the transaction: somebody may have moved it on in between.
        if not Session.objects.filter(kind.found, pk=session_id).exists():
            return False
        if kind.repair is None:
            return _ask(session_id, kind)
        SessionEvent.append(session_id, "session.repaired", {"what": kind.text})
        kind.repair(Session.objects.get(pk=session_id))
    return True


def _ask(session_id: str, kind: Disagreement) -> bool:
    return RepairCard.ask(session_id, kind=kind.name, what=kind.text, remedy=kind.remedy)


def _close_cards() -> int:
    """Close the cards whose disagreement is not there any more, whoever put it right; return how many are left."""
    left = 0
    for card in RepairCard.objects.open():
        kind = BY_HAND.get(card.kind)
        if kind is None or not Session.objects.filter(kind.found, pk=card.session_id).exists():
            card.close(ending="it is no longer so")
        else:
            left += 1
    return left


# Checkpoints ----------------------------------------------------------------------------------------------------


def hold_against(seen: list[Seen], *, dry_run: bool = False) -> list[Repair]:
    """Hold what the graphs ask against the gates: open what was never opened, ask about what nobody asks for."""
    return [repair for one in seen if (repair := _hold(one, dry_run=dry_run))]


def _hold(seen: Seen, *, dry_run: bool) -> Repair | None:
    run = seen.run
    with log_transaction():
        # A checkpoint moves only while a run drives it, so what was read holds if none has come since.
        if Run.objects.filter(session=run.session_id, pk__gt=run.pk).exists():
            return None
        session = Session.objects.get(pk=run.session_id)
        if session.ended:
            return None
        asked = {interrupt["id"] for interrupt in seen.interrupts}
        gates = dict(Gate.objects.filter(session=session).values_list("interrupt_id", "status"))
        if unheard := [interrupt for interrupt in seen.interrupts if interrupt["id"] not in gates]:
            text = "its graph asks, and no gate was open"
            if not dry_run:
                SessionEvent.append(session.pk, "session.repaired", {"what": text})
                run.session = session
                signals.run_interrupted.send(sender=Run, run=run, interrupts=unheard, checkpoint_id=seen.checkpoint_id)
            return Repair(session.pk, text)
        pending = {interrupt for interrupt, status in gates.items() if status == GateStatus.PENDING}
        card = RepairCard.objects.open().filter(session=session, kind=NOT_ASKED.name).first()
        if pending - asked:
            if dry_run or _ask(session.pk, NOT_ASKED):
                return Repair(session.pk, NOT_ASKED.text, NOT_ASKED.remedy)
        elif card and not dry_run:
            card.close(ending="its graph asks for it")
    return None
