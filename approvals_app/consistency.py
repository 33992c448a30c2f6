"""Hold sessions, runs, gates and the ledger against each other, and put right what has one right answer.

None of this should ever find anything: every verb writes its part of all of them in one transaction. It is there
for what no verb did: a restored backup, a hand in the database, a bug of tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import Q

from approvals_app.models import Gate
from sessions_app.models import Run, Session, SessionEvent, ToolCall, log_transaction
from sessions_app.recovery import Repair
from sessions_app.states import TERMINAL, CallStatus, RunKind, SessionStatus

_S = SessionStatus


#: The session has an undecided gate, an active run, one that is no rerun, a tool call that is not settled. Each asks
#: from the few rows that are open, so the many sessions that have ended cost nothing.
_WAITS = Q(pk__in=Gate.objects.pending().values("session"))
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
    """One way in which the stores can disagree: how to find it, and what puts it right, if one thing does."""

    text: str
    found: Q
    repair: Callable[[Session], None] | None


#: In the order in which they are put right.
DISAGREEMENTS = (
    Disagreement("it has ended, and a gate was still open", Q(status__in=TERMINAL) & _WAITS, _close_gates),
    Disagreement("it has ended, and a run was still active", Q(status__in=TERMINAL) & _BEGUN, _close_runs),
    Disagreement(
        "it has ended, and a tool call was left open",
        Q(status__in=TERMINAL) & _HANGS & ~_WORKS,
        _close_calls,
    ),
    Disagreement(
        "a gate is open, and the session did not say so",
        Q(status__in=[_S.NEW, _S.IN_PROGRESS]) & _WAITS & ~_WORKS,
        _wait,
    ),
    Disagreement(
        "it said that it waits, and no gate is open",
        Q(status=_S.AWAITING_INPUT) & ~_WAITS & ~_WORKS,
        _take_up,
    ),
    Disagreement("it said that it waits, and a run goes on", Q(status=_S.AWAITING_INPUT) & ~_WAITS & _WORKS, _go_on),
    Disagreement("nobody was working on it", Q(status__in=[_S.NEW, _S.IN_PROGRESS]) & ~_WAITS & ~_WORKS, _take_up),
    # Whether the answer or the run came first cannot be told from the rows: a person stops it or decides.
    Disagreement("a gate is open while a run goes on", ~Q(status__in=TERMINAL) & _WAITS & _WORKS, None),
)


def disagreeing() -> list[tuple[str, Disagreement]]:
    """Return each session that disagrees with its own rows, and how; one query a kind, each one snapshot."""
    return [
        (session_id, kind)
        for kind in DISAGREEMENTS
        for session_id in Session.objects.filter(kind.found).order_by("pk").values_list("pk", flat=True)[:500]
    ]


def put_right(*, dry_run: bool = False) -> list[Repair]:
    """Repair what has one right answer, with an event for each; with `dry_run`, only say what is there."""
    repairs = []
    for session_id, kind in disagreeing():
        if kind.repair is None:
            continue
        if dry_run or _repair(session_id, kind, kind.repair):
            repairs.append(Repair(session_id, kind.text))
    return repairs


def _repair(session_id: str, kind: Disagreement, repair: Callable[[Session], None]) -> bool:
    with log_transaction():
        # Looked at again inside the transaction: somebody may have moved it on in between.
        if not Session.objects.filter(kind.found, pk=session_id).exists():
            return False
        SessionEvent.append(session_id, "session.repaired", {"what": kind.text})
        repair(Session.objects.get(pk=session_id))
    return True
