"""A session's attempts: each thread of its graph, from the start or from a checkpoint, with what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sessions_app.models import Run, Session
from sessions_app.states import RunKind, RunStatus, SessionStatus

#: What became of an attempt, beside the session's own statuses: it waits to be claimed, or never was.
QUEUED, CANCELLED = "queued", "cancelled"
#: Where an attempt that did not reach an end of its own was left: a session that waits or works ends by a stop.
_LEFT = {
    RunStatus.PENDING: QUEUED,
    RunStatus.RUNNING: str(SessionStatus.IN_PROGRESS),
    RunStatus.FAILED: str(SessionStatus.ERROR),
    RunStatus.INTERRUPTED: str(SessionStatus.STOPPED),
    RunStatus.CANCELLED: str(SessionStatus.STOPPED),
}


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt: its first run and those that resumed it."""

    number: int
    runs: tuple[Run, ...]
    outcome: str

    @property
    def first(self) -> Run:
        """The run that began it."""
        return self.runs[0]

    @property
    def last(self) -> Run:
        """The run that it has come to."""
        return self.runs[-1]

    @property
    def says(self) -> str:
        """How it ended, in words, where somebody said."""
        return self.last.resolution or self.last.error

    @property
    def thread_id(self) -> str:
        """The LangGraph thread that it drives."""
        return self.first.thread_id

    @property
    def origin(self) -> dict[str, Any] | None:
        """The checkpoint that it went on from; none where it began at the start."""
        origin: dict[str, Any] | None = self.first.origin
        return origin

    @property
    def asked_by(self) -> str:
        """Who asked for it, or nothing where nobody was signed in."""
        return self.first.asked_by.get_username() if self.first.asked_by else ""

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, if it did: an attempt that waits for a decision goes on."""
        goes_on = self.outcome in {SessionStatus.AWAITING_INPUT, SessionStatus.IN_PROGRESS, SessionStatus.NEW}
        return None if goes_on else self.last.ended_at

    @property
    def label(self) -> str:
        """The outcome in words."""
        return self.outcome.replace("_", " ")


def attempts_of(session: Session) -> list[Attempt]:
    """Return the session's attempts, the first one first: one query, however many runs there are."""
    threads: dict[str, list[Run]] = {}
    for run in session.runs.select_related("asked_by").order_by("pk"):
        threads.setdefault(run.thread_id, []).append(run)
    latest = list(threads)[-1] if threads else ""
    return [
        Attempt(
            number=number,
            runs=tuple(runs),
            outcome=_outcome(session, runs, latest=thread == latest),
        )
        for number, (thread, runs) in enumerate(threads.items(), 1)
    ]


def _outcome(session: Session, runs: list[Run], *, latest: bool) -> str:
    last = runs[-1]
    if last.status == RunStatus.SUCCEEDED:
        # Rows from before this was written down have it only in the session, and only for the latest attempt.
        return last.outcome or (session.status if latest else "ended")
    if latest and not session.ended:
        return session.status
    if last.status == RunStatus.CANCELLED and last.kind != RunKind.RESUME and last.started_at is None:
        return CANCELLED
    return _LEFT[RunStatus(last.status)]


def describe_attempt(attempt: Attempt) -> dict[str, Any]:
    """Return one attempt as the REST contract has it."""
    origin = attempt.origin
    return {
        "number": attempt.number,
        "kind": attempt.first.kind,
        "thread_id": attempt.thread_id,
        "from_checkpoint": {key: origin[key] for key in ("attempt", "checkpoint_id", "next")} if origin else None,
        "asked_by": attempt.asked_by or None,
        "asked_at": attempt.first.created_at.isoformat(),
        "ended_at": attempt.ended_at.isoformat() if attempt.ended_at else None,
        "outcome": attempt.outcome,
        "resolution": attempt.says or None,
        "run_ids": [run.pk for run in attempt.runs],
    }
