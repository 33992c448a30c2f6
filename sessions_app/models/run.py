from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from sessions_app import engine, signals
from sessions_app.exceptions import TransitionRefused
from sessions_app.models.event import SessionEvent, log_transaction
from sessions_app.querysets import RunQuerySet
from sessions_app.statements import swap
from sessions_app.states import ACTIVE_RUNS, RunKind, RunStatus, SessionStatus
from sessions_app.storable import storable

if TYPE_CHECKING:
    from sessions_app.agents.registry import Outcome

#: How the error of a run begins that was lost too often.
GIVEN_UP = "Given up"


class Run(models.Model):
    """One drive of a session's graph. The row is the request for work; whoever is awake claims it.

    Every verb that ends or takes a run is a compare-and-swap that also names the worker and the attempt, so a
    worker that lost its lease can write nothing any more.
    """

    session = models.ForeignKey("sessions_app.Session", on_delete=models.PROTECT, related_name="runs")
    kind = models.CharField(max_length=10, choices=RunKind.choices)
    status = models.CharField(max_length=12, choices=RunStatus.choices, default=RunStatus.PENDING)
    thread_id = models.CharField(max_length=80, help_text="The LangGraph thread that this run drives.")
    answers = models.JSONField(
        default=dict,
        blank=True,
        encoder=DjangoJSONEncoder,
        help_text="For a resume: the answer to each interrupt, by interrupt id.",
    )
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Who asked for it; none where nobody was signed in, or CLM itself went on.",
    )
    origin = models.JSONField(
        null=True,
        blank=True,
        help_text="For a rerun from a checkpoint: {attempt, thread_id, checkpoint_id, next, at, becomes}.",
    )
    worker = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0, help_text="How often it was claimed.")
    losses = models.PositiveSmallIntegerField(default=0, help_text="How often its worker was lost over it.")
    error = models.TextField(blank=True)
    outcome = models.CharField(max_length=16, blank=True, help_text="Where its end left the session.")
    resolution = models.TextField(blank=True, help_text="The same in words; a rerun writes the session's anew.")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["session"],
                condition=Q(status__in=[str(status) for status in sorted(ACTIVE_RUNS)]),
                name="one_active_run_per_session",
            ),
            models.CheckConstraint(
                condition=~Q(status="running") | (Q(lease_until__isnull=False) & ~Q(worker="")),
                name="running_run_has_worker_and_lease",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[str(status) for status in RunStatus]), name="run_status_known"
            ),
        ]
        indexes = [models.Index(fields=["status", "lease_until"], name="run_by_status_and_lease")]

    def __str__(self) -> str:
        return f"{self.kind} run {self.pk} of {self.session_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and offer it to whoever drives runs when this is a new request for work."""
        asked = self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if asked:
                engine.offer(self)

    # Verbs: each returns whether this call did it; a lost race is a normal answer. -----------------------------

    def claim(self, worker: str) -> bool:
        """Take a pending run and move its session on, in one transaction."""
        now = timezone.now()
        with log_transaction():
            taken = {
                "status": RunStatus.RUNNING,
                "worker": worker,
                "lease_until": now + _lease(),
                "started_at": now,
                "attempt": self.attempt + 1,
            }
            if not swap(Run, {"pk": self.pk, "status": RunStatus.PENDING, "attempt": self.attempt}, **taken):
                return False
            for name, value in taken.items():
                setattr(self, name, value)
            if self.session.status != SessionStatus.IN_PROGRESS:
                self.session.move(SessionStatus.IN_PROGRESS, cause=f"{self.kind} claimed")
        return True

    def renew(self) -> bool:
        """Hold the lease longer; False means the run is no longer this worker's and must stop."""
        return swap(Run, self._mine(), lease_until=timezone.now() + _lease())

    def pause(self, interrupts: list[dict[str, Any]], *, checkpoint_id: str) -> bool:
        """End the run `interrupted`; the same transaction opens the gates and moves the session.

        The receiver of `run_interrupted` does the latter. If it raises, or leaves the session anywhere but in
        `awaiting_input`, nothing of this is written.
        """
        with log_transaction():
            if not self._end(RunStatus.INTERRUPTED):
                return False
            self.session.refresh_from_db()
            signals.run_interrupted.send(sender=Run, run=self, interrupts=interrupts, checkpoint_id=checkpoint_id)
            (status,) = type(self.session).objects.filter(pk=self.session_id).values_list("status", flat=True)
            if status != SessionStatus.AWAITING_INPUT:
                raise TransitionRefused(f"The graph paused, but no gate opened: {self.session_id} is {status}.")
        return True

    def finish(self, outcome: Outcome) -> bool:
        """End the run `succeeded` and the session in its outcome."""
        with log_transaction():
            if not self._end(RunStatus.SUCCEEDED, outcome=str(outcome.status), resolution=storable(outcome.resolution)):
                return False
            self.session.move(outcome.status, cause="graph ended", resolution=outcome.resolution)
        return True

    def fail(self, error: str) -> bool:
        """End the run `failed` and the session in `error`, with the reason in both and in the log."""
        return self._fail(error, self._mine())

    def _fail(self, error: str, held: dict[str, Any]) -> bool:
        error = storable(error)
        with log_transaction():
            if not self._end(RunStatus.FAILED, error=error, held=held):
                return False
            SessionEvent.append(self.session_id, "run_failed", {"run_id": self.pk, "error": error})
            self.session.move(SessionStatus.ERROR, cause="run failed", resolution=error)
        return True

    def release(self, *, cause: str, counts: bool = True) -> bool:
        """Give this worker's own run back for anybody to claim: a clean stop, or an end that could not be written.

        At CLM_MAX_ATTEMPTS losses it fails instead, so that a run that kills its worker ends. A claim that ended for
        no fault of the run's does not count.
        """
        return self._give_back(self._mine(), cause=cause, counts=counts)

    def take_away(self, *, cause: str) -> bool:
        """Release the run of a worker that is gone, unless it has shown itself since this row was read.

        A slow worker may renew its lease between the sweep's look and this: the lease that was read is part of the
        swap, so whoever renewed keeps the run.
        """
        return self._give_back({**self._mine(), "lease_until": self.lease_until}, cause=cause, counts=True)

    def _give_back(self, held: dict[str, Any], *, cause: str, counts: bool) -> bool:
        losses = self.losses + counts
        with log_transaction():
            if losses >= settings.CLM_MAX_ATTEMPTS:
                return self._fail(f"{GIVEN_UP} after {losses} attempts: {cause}.", held)
            back = swap(Run, held, status=RunStatus.PENDING, worker="", lease_until=None, losses=losses)
            if back:
                SessionEvent.append(
                    self.session_id,
                    "run_recovered",
                    {"run_id": self.pk, "cause": cause, "attempt": self.attempt},
                )
                engine.offer(self)
        return back

    def _end(self, status: RunStatus, *, held: dict[str, Any] | None = None, **said: str) -> bool:
        held = self._mine() if held is None else held
        ended = swap(Run, held, status=status, ended_at=timezone.now(), lease_until=None, **said)
        if ended:
            self.status = status
            for name, value in said.items():
                setattr(self, name, value)
        return ended

    def _mine(self) -> dict[str, Any]:
        """Return what the row must be for this worker to write: running, and claimed by it this time."""
        return {"pk": self.pk, "status": RunStatus.RUNNING, "worker": self.worker, "attempt": self.attempt}


def _lease() -> timedelta:
    return timedelta(seconds=settings.CLM_LEASE_SECONDS)
