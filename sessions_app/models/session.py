from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from sessions_app import engine, signals
from sessions_app.exceptions import ConcurrentRun, Invalid, TooMany, TransitionRefused
from sessions_app.models.access import IdempotencyKey
from sessions_app.models.event import SessionEvent, log_transaction
from sessions_app.models.run import Run
from sessions_app.querysets import SessionQuerySet
from sessions_app.statements import insert, swap
from sessions_app.states import ACTIVE_RUNS, TERMINAL, TRANSITIONS, RunKind, RunStatus, SessionStatus
from sessions_app.storable import is_storable, storable

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from sessions_app.agents.checkpoints import Boundary

#: What an agent may write about the incident it works on.
DESCRIBABLE = frozenset({"summary", "severity", "category", "tags", "findings", "extra_fields"})


class SessionNumber(models.Model):
    """The last session number given out on a day; the row's lock makes two submissions take turns."""

    day = models.DateField(primary_key=True)
    last = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.day}: {self.last}"

    @classmethod
    def next_id(cls, day: date) -> str:
        """Return the next `INC-YYYYMMDD-NNN` of the day; call it inside the transaction that uses it."""
        return cls.take(day, 1)[0]

    @classmethod
    def take(cls, day: date, number: int) -> list[str]:
        """Return that many ids of the day at once, in order; call it inside the transaction that uses them."""
        if not cls.objects.filter(day=day).update(last=F("last") + number):
            cls.objects.get_or_create(day=day)
            cls.objects.filter(day=day).update(last=F("last") + number)
        last = cls.objects.values_list("last", flat=True).get(day=day)
        return [f"INC-{day:%Y%m%d}-{one:03d}" for one in range(last - number + 1, last + 1)]


class Session(models.Model):
    """One piece of agent work, from request to outcome."""

    id = models.CharField(max_length=24, primary_key=True, help_text="INC-YYYYMMDD-NNN")
    status = models.CharField(max_length=16, choices=SessionStatus.choices, default=SessionStatus.NEW)
    version = models.PositiveIntegerField(default=0, help_text="How many events the session has.")
    head = models.CharField(max_length=64, blank=True, help_text="The hash of its last event.")
    query = models.TextField(help_text="What the requester asked for.")
    environment = models.CharField(max_length=40)
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="requested_sessions",
        help_text="Who submitted it, when they were signed in or sent a token.",
    )
    submitter_id = models.CharField(max_length=150, blank=True, help_text="Who the client says it is for.")
    submitter_team = models.CharField(max_length=150, blank=True)
    graph = models.CharField(max_length=60, default="incident")
    state_overrides = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    summary = models.TextField(blank=True)
    severity = models.CharField(max_length=20, blank=True)
    category = models.CharField(max_length=60, blank=True)
    resolution = models.TextField(blank=True, help_text="How it ended, in words.")
    tags = models.JSONField(default=list, blank=True)
    findings = models.JSONField(default=list, blank=True, encoder=DjangoJSONEncoder)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="children")
    dedup_rationale = models.TextField(blank=True)
    extra_fields = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        permissions = [("stop_session", "Can stop and rerun sessions")]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=[str(status) for status in SessionStatus]), name="session_status_known"
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=False, status__in=sorted(map(str, TERMINAL)))
                | Q(ended_at__isnull=True) & ~Q(status__in=sorted(map(str, TERMINAL))),
                name="session_ended_at_iff_terminal",
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="session_newest"),
            models.Index(fields=["status", "-created_at"], name="session_by_status"),
            models.Index(fields=["environment", "-created_at"], name="session_by_environment"),
        ]

    def __str__(self) -> str:
        return self.id

    def get_absolute_url(self) -> str:
        return reverse("session", args=[self.pk])

    # What it is -------------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """The session in at most 80 characters: what was found, or else what was asked."""
        text = " ".join((self.summary or self.query).split())
        return text if len(text) <= 80 else f"{text[:79]}…"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless somebody asks for a rerun."""
        return self.status in TERMINAL

    def threads(self) -> list[str]:
        """Return the LangGraph thread of each attempt, in order: a resume goes on in its attempt's own."""
        return list(self.runs.exclude(kind=RunKind.RESUME).order_by("pk").values_list("thread_id", flat=True))

    @property
    def stoppable(self) -> bool:
        """Whether there is anything to stop: it has not ended, or a rerun of it waits to be claimed."""
        return not self.ended or self.runs.active().exists()

    # Verbs ------------------------------------------------------------------------------------------------------

    @classmethod
    def submit(
        cls,
        *,
        query: str,
        environment: str,
        requester: User | None = None,
        submitter_id: str = "",
        submitter_team: str = "",
        graph: str = "incident",
        state_overrides: dict[str, Any] | None = None,
        idempotency_key: str = "",
        extra_fields: dict[str, Any] | None = None,
    ) -> Session:
        """Write the session, its first run and `session.created`, all or nothing.

        With an idempotency key, a second submission by the same person returns the first one's session; the key
        is written in the same transaction, so a failed start frees it (S26).

        Raises Invalid (which fields, and why), Conflict (the key was used for another request), TooMany (the
        queue is full).
        """
        asked: dict[str, Any] = {
            "query": query,
            "environment": environment,
            "graph": graph,
            "state_overrides": state_overrides or {},
        }
        _refuse_unfit(**asked, submitter_id=submitter_id, submitter_team=submitter_team)
        scope = f"user:{requester.pk}" if requester else f"submitter:{submitter_id}"
        with log_transaction():
            if idempotency_key and (earlier := IdempotencyKey.find(scope, idempotency_key)):
                return earlier.session_for(asked)
            if Run.objects.filter(status=RunStatus.PENDING).count() >= _limits().max_queued_sessions:
                raise TooMany
            session = cls.objects.create(
                id=SessionNumber.next_id(timezone.localdate()),
                requester=requester,
                submitter_id=submitter_id or (requester.get_username() if requester else ""),
                submitter_team=submitter_team,
                extra_fields=extra_fields or {},
                **asked,
            )
            run = session._add_run(RunKind.START, thread_id=session.pk, asked_by=requester)
            if idempotency_key:
                IdempotencyKey.keep(scope, idempotency_key, session, asked)
            SessionEvent.append(
                session.pk,
                "session.created",
                {
                    "graph": graph,
                    "environment": environment,
                    "submitter": session.submitter_id,
                    "run_id": run.pk,
                },
                actor=requester,
            )
        session.refresh_from_db()
        return session

    def move(
        self,
        to: SessionStatus,
        *,
        cause: str,
        actor: User | None = None,
        detail: str = "",
        **fields: Any,
    ) -> bool:
        """Change the status, if it may be changed so from where the row now stands, and write the event.

        Compare-and-swap: the update names the status it was read with, and a lost race is read again. Returns
        False when the session is there already (no second event); raises TransitionRefused when the
        transition table does not allow it.
        """
        from sessions_app.models.ledger import ToolCall

        with log_transaction():
            while True:
                old = SessionStatus(self.status)
                if old == to:
                    # As far as this object knows; the row decides.
                    self.refresh_from_db()
                    if self.status == to:
                        return False
                    continue
                if to not in TRANSITIONS[old]:
                    raise TransitionRefused(f"{self.pk} is {old.label}: it cannot become {to.label}.", status=str(old))
                changes = {**fields, "status": to, "ended_at": timezone.now() if to in TERMINAL else None}
                if swap(type(self), {"pk": self.pk, "status": old}, **changes):
                    break
                self.refresh_from_db()
            for name, value in changes.items():
                setattr(self, name, value)
            payload = {
                "from": str(old),
                "to": str(to),
                "cause": cause,
                "actor": actor.get_username() if actor else None,
            }
            SessionEvent.append(
                self.pk,
                "session.status_changed",
                {**payload, "detail": detail} if detail else payload,
                actor=actor,
            )
            if to in TERMINAL:
                ToolCall.close_all(self.pk)
                signals.session_ended.send(sender=type(self), session=self, cause=cause)
        return True

    def resume(self, answers: dict[str, Any], *, thread_id: str, cause: str, actor: User | None = None) -> Run:
        """Go on after the last open question: back to `in_progress`, with a run that carries the answers."""
        with log_transaction():
            self.move(SessionStatus.IN_PROGRESS, cause=cause, actor=actor)
            return self._add_run(RunKind.RESUME, thread_id=thread_id, answers=answers, asked_by=actor)

    def stop(self, *, actor: User | None = None, note: str = "", cause: str = "stopped") -> None:
        """End the session now: its run is cancelled and its open gates with it, in one transaction.

        Where it has ended and a rerun waits to be claimed, that run is cancelled and the session stays as it ended.
        Without an actor a rule of CLM did it, which `cause` names. Raises TransitionRefused when it has ended and
        nothing is queued.
        """
        with log_transaction():
            self.refresh_from_db()
            if not self.stoppable:
                raise self._has_ended()
            SessionEvent.append(
                self.pk,
                "session.stop_requested",
                {"actor": actor.get_username() if actor else None, **({"note": note} if note else {})},
                actor=actor,
            )
            self.cancel_runs()
            if not self.ended:
                self.move(SessionStatus.STOPPED, cause=cause, actor=actor, resolution=note)

    def escalate(self, *, actor: User | None = None, note: str = "", cause: str = "escalated") -> None:
        """End the session now and leave the rest to people; otherwise as `stop`."""
        with log_transaction():
            self.refresh_from_db()
            if self.ended:
                raise self._has_ended()
            self.cancel_runs()
            self.move(SessionStatus.ESCALATED, cause=cause, actor=actor, resolution=note)

    def _has_ended(self) -> TransitionRefused:
        return TransitionRefused(f"{self.pk} has ended already: it is {self.get_status_display()}.", status=self.status)

    def cancel_runs(self) -> None:
        """End the runs that would still do something; whoever drives one is told after the commit."""
        active = list(self.runs.active().values_list("pk", flat=True))
        self.runs.active().update(status=RunStatus.CANCELLED, ended_at=timezone.now(), lease_until=None)
        for run_id in active:
            transaction.on_commit(partial(engine.cancel, run_id), robust=True)

    def rerun(self, *, actor: User | None = None, since: Boundary | None = None) -> Run:
        """Ask for another run on a thread of its own, from the start or `since` a checkpoint; earlier attempts stay.

        The claim moves the session. Refused while the session has a run or waits for a decision, so an open
        question is never dropped (S12).
        """
        with log_transaction():
            self.refresh_from_db()
            if retry_refusal := self.why_no_rerun():
                raise ConcurrentRun(retry_refusal, status=self.status)
            run = self._add_run(
                RunKind.RERUN,
                thread_id=f"{self.pk}:{self.runs.count() + 1}",
                asked_by=actor,
                origin=since.as_origin() if since else None,
            )
            named = {"from_checkpoint": since.checkpoint_id, "before": list(since.next)} if since else {}
            SessionEvent.append(
                self.pk,
                "session.rerun_requested",
                {"run_id": run.pk, "actor": actor.get_username() if actor else None, **named},
                actor=actor,
            )
        return run

    def why_no_rerun(self) -> str:
        """Return why a rerun would be refused now, or nothing where it would be taken."""
        if self.status == SessionStatus.AWAITING_INPUT:
            return f"{self.pk} waits for a decision: decide it, or stop the session, before a rerun."
        if self.status == SessionStatus.DUPLICATE:
            return f"{self.pk} is a duplicate: retract that first."
        if not self.ended or self.runs.active().exists():
            return f"{self.pk} is being worked on: wait for it, or stop it, before a rerun."
        return ""

    def retract_duplicate(self, *, actor: User | None = None, note: str = "") -> Run:
        """Take back that this is a duplicate: `new` again, with its run queued."""
        with log_transaction():
            self.refresh_from_db()
            if self.status != SessionStatus.DUPLICATE:
                raise TransitionRefused(f"{self.pk} is no duplicate.", status=self.status)
            self.move(
                SessionStatus.NEW,
                cause="duplicate retracted",
                actor=actor,
                detail=note,
                parent=None,
                dedup_rationale="",
            )
            return self._add_run(RunKind.RERUN, thread_id=f"{self.pk}:{self.runs.count() + 1}", asked_by=actor)

    def annotate_incident(self, **fields: Any) -> None:
        """Write what the agent says of the incident, with an event that names the fields."""
        if unknown := fields.keys() - DESCRIBABLE:
            raise Invalid(f"An agent cannot write {', '.join(sorted(unknown))}.")
        fields = {name: storable(value) for name, value in fields.items() if getattr(self, name) != storable(value)}
        if not fields:
            return
        with log_transaction():
            type(self).objects.filter(pk=self.pk).update(**fields)
            SessionEvent.append(self.pk, "session.updated", {"fields": fields})

    def _add_run(self, kind: RunKind, *, thread_id: str, **fields: Any) -> Run:
        run = Run(session=self, kind=kind, thread_id=thread_id, **fields)
        if not insert(run, once=True):
            raise ConcurrentRun(active=sorted(ACTIVE_RUNS))
        engine.offer(run)
        return run


#: How long a submitter's id and team may be.
_MAX_NAME = 150


def _refuse_unfit(
    *,
    query: str,
    environment: str,
    graph: str,
    state_overrides: dict[str, Any],
    submitter_id: str,
    submitter_team: str,
) -> None:
    """Raise Invalid with what is wrong with each field of a submission, before anything is written."""
    from sessions_app.agents import config, registry

    current = config.current()
    wrong = {}
    if not query.strip():
        wrong["query"] = "Say what the agent should look into."
    elif len(query) > current.limits.max_query_chars:
        wrong["query"] = f"At most {current.limits.max_query_chars:,} characters; this has {len(query):,}."
    if environment not in current.environments.names:
        wrong["environment"] = f"Unknown; it is one of {', '.join(current.environments.names)}."
    if graph not in registry.names():
        wrong["graph"] = f"Unknown; it is one of {', '.join(registry.names())}."
    if not isinstance(state_overrides, dict):
        wrong["state_overrides"] = "Must be an object."
    for name, text in (("submitter.id", submitter_id), ("submitter.team", submitter_team)):
        if len(text) > _MAX_NAME:
            wrong[name] = f"At most {_MAX_NAME} characters; this has {len(text):,}."
    given = {"query": query, "submitter": [submitter_id, submitter_team], "state_overrides": state_overrides}
    for name, value in given.items():
        if not is_storable(value):
            wrong.setdefault(name, "Has a NUL or half a surrogate pair in it; no database keeps that.")
    if wrong:
        raise Invalid("; ".join(f"{field}: {text}" for field, text in wrong.items()), fields=wrong)


def _limits() -> Any:
    from sessions_app.agents import config

    return config.current().limits
