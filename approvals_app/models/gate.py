from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from approvals_app import requests, rules, urgency, verdicts
from approvals_app.exceptions import (
    AnswerUnfit,
    GateCancelled,
    GateDecided,
    GateExpired,
    NotYours,
    ShownOutdated,
)
from approvals_app.models.claim import Claimable
from approvals_app.models.decision import Decision
from approvals_app.models.drift import OnFacts
from approvals_app.models.gate_call import GateCall
from approvals_app.querysets import GateQuerySet
from approvals_app.requests import Verdict
from approvals_app.states import (
    STATUS_AFTER,
    Channel,
    DecisionType,
    GateKind,
    GateStatus,
    Next,
    OnExpiry,
    summary_of,
)
from sessions_app import chain
from sessions_app.agents import config
from sessions_app.exceptions import Conflict, LogIsAppendOnly
from sessions_app.models import Run, Session, SessionEvent, ToolCall, log_transaction
from sessions_app.models.ledger import call_digest

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

#: What of a gate is in its digest: everything that the approver is shown and that must not change under them.
DIGESTED = (
    "session_id",
    "interrupt_id",
    "kind",
    "agent",
    "tool",
    "calls",
    "headline",
    "question",
    "reasoning",
    "reason",
    "risk",
    "rule",
    "rule_version",
    "consequence",
    "evidence",
    "allowed",
    "response_schema",
    "on_expiry",
    "execution_expires_after",
)


def digest_of_calls(kind: str, calls: list[dict[str, Any]], environment: str) -> str:
    """Return what gates that ask for the very same have in common; nothing for one that asks about no call."""
    if not calls:
        return ""
    return chain.digest(chain.as_stored([kind, environment, [[call["tool"], call["args"]] for call in calls]]))


class Gate(OnFacts, Claimable, models.Model):
    """The audit row of one interrupt: what the agent wants, why it was asked, and what became of it.

    Saving a new one moves its session to `awaiting_input` in the same transaction (receivers.py).
    """

    session = models.ForeignKey(Session, on_delete=models.PROTECT, related_name="gates")
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="gates", help_text="The run that paused.")
    interrupt_id = models.CharField(max_length=64)
    checkpoint_id = models.CharField(max_length=64, blank=True)
    kind = models.CharField(max_length=20, choices=GateKind.choices)
    status = models.CharField(max_length=10, choices=GateStatus.choices, default=GateStatus.PENDING)
    agent = models.CharField(max_length=60, blank=True)
    tool = models.CharField(max_length=120, blank=True)
    tool_call_id = models.CharField(max_length=120, blank=True)
    calls = models.JSONField(default=list, encoder=DjangoJSONEncoder, help_text="[{tool_call_id, tool, args}]")
    headline = models.CharField(max_length=300, help_text="What it wants, in a few words.")
    question = models.TextField(blank=True)
    reasoning = models.TextField(blank=True, help_text="What the agent said when it asked.")
    reason = models.CharField(max_length=40, help_text="Why it was asked.")
    risk = models.CharField(max_length=10, blank=True)
    rule = models.CharField(max_length=120, blank=True)
    rule_version = models.CharField(max_length=16, blank=True)
    consequence = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    evidence = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    allowed = models.JSONField(default=list, help_text="The decision types that the graph takes.")
    response_schema = models.JSONField(null=True, blank=True)
    request = models.JSONField(null=True, encoder=DjangoJSONEncoder, help_text="The interrupt's value, as it came.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of what the approver is shown.")
    answer = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    weight = models.PositiveSmallIntegerField(default=4, help_text="How urgent it was when it opened (urgency.py).")
    call_digest = models.CharField(
        max_length=64, blank=True, help_text="Over its calls and where they run: the same on gates that ask the same."
    )
    expires_at = models.DateTimeField()
    on_expiry = models.CharField(max_length=10, choices=OnExpiry.choices, default=OnExpiry.REJECT)
    execution_expires_after = models.DurationField(
        default=timedelta(minutes=15), help_text="How long after an approval the call may still start."
    )
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True, blank=True)

    objects = GateQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "pk"]
        permissions = [("decide_gate", "Can decide gates")]
        constraints = [
            models.UniqueConstraint(fields=["session", "interrupt_id"], name="one_gate_per_interrupt"),
            models.CheckConstraint(
                condition=Q(status="pending", decided_at__isnull=True)
                | (~Q(status="pending") & Q(decided_at__isnull=False)),
                name="gate_pending_iff_undecided",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[str(status) for status in GateStatus]), name="gate_status_known"
            ),
            models.CheckConstraint(
                condition=Q(on_expiry__in=[str(end) for end in OnExpiry]), name="gate_on_expiry_known"
            ),
        ]
        indexes = [
            models.Index(fields=["status", "created_at", "id"], name="gate_queue"),
            models.Index(fields=["status", "expires_at"], name="gate_expiry"),
            models.Index(fields=["status", "-weight", "expires_at", "id"], name="gate_urgency"),
            models.Index(fields=["status", "decided_at", "id"], name="gate_by_end"),
            models.Index(fields=["decided_at", "id"], name="gate_ended"),
            # How many wait for the same call, or in the same session, and which of them stands first.
            models.Index(fields=["call_digest", "status", "-weight", "expires_at", "id"], name="gate_same_call"),
            models.Index(fields=["session", "status", "-weight", "expires_at", "id"], name="gate_same_session"),
            # The ended ones by when they opened, past the many newer ones that wait.
            models.Index(
                fields=["-created_at", "-id"], name="gate_ended_newest", condition=Q(decided_at__isnull=False)
            ),
            # What was decided before on the same tool (precedents.py).
            models.Index(fields=["tool", "-decided_at"], name="gate_precedents"),
        ]

    def __str__(self) -> str:
        return f"{self.headline} ({self.session_id})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the gate with its digest; the transaction is the one in which the receiver moves the session.

        A bare insert in autocommit would stay when the receiver raises. Later changes go through the verbs.
        """
        if not self._state.adding:
            raise LogIsAppendOnly("A gate is changed by its verbs, not by save().")
        self.complete()
        with log_transaction():
            super().save(*args, **kwargs)
            GateCall.link(self)

    def get_absolute_url(self) -> str:
        return reverse("gate", args=[self.pk])

    def complete(self) -> None:
        """Work out what of a new gate follows from the rest of it."""
        self.digest = self.digest_of_shown()
        self.weight = urgency.weight(severity=self.session.severity, risk=self.risk)
        self.call_digest = digest_of_calls(self.kind, self.calls, self.session.environment)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: an audit row is not deleted."""
        raise LogIsAppendOnly

    # What it is -------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether nobody has decided it."""
        return self.status == GateStatus.PENDING

    @property
    def expired(self) -> bool:
        """Whether its time is over, whether or not the sweep has written that down."""
        return self.status == GateStatus.EXPIRED or (self.pending and self.expires_at <= timezone.now())

    @property
    def args(self) -> dict[str, Any]:
        """The arguments of its first call."""
        return self.calls[0]["args"] if self.calls else {}

    @property
    def decision(self) -> Decision | None:
        """The decision that ended it, if one did."""
        return self.decisions.select_related("actor").last()

    @property
    def why_cancelled(self) -> str:
        """What ended its session under it, as the log has it: the session itself may have been run again since."""
        events = SessionEvent.objects.filter(session_id=self.session_id)
        ended = events.filter(kind="gate_cancelled", payload__gate_id=self.pk).last()
        cause = ended.payload["cause"] if ended else ""
        if ended and cause == "stopped":
            stop = events.filter(kind="session.stop_requested", seq__lt=ended.seq).last()
            who = stop.payload["actor"] if stop else None
            return f"{who} stopped {self.session_id}" if who else f"{self.session_id} was stopped"
        return f"{self.session_id} ended ({cause})" if cause else f"{self.session_id} ended"

    def shown(self) -> dict[str, Any]:
        """Return what an approver is shown when it opens, as it is digested; facts only where there are any."""
        shown = {name: getattr(self, name) for name in DIGESTED} | ({"facts": self.facts} if self.facts else {})
        return dict(chain.as_stored(shown))

    @property
    def takes_json(self) -> bool:
        """Whether its answer is JSON instead of words."""
        return requests.dialect_of(self.request).takes_json(self.response_schema)

    def allowed_for(self, position: int) -> list[str]:
        """Return the decisions that may be taken on one of its calls."""
        allowed: list[str] = self.calls[position].get("allowed", self.allowed) if self.calls else self.allowed
        return allowed

    def args_schema(self, position: int = 0) -> dict[str, Any] | None:
        """Return the schema of one call's arguments, where somebody published one."""
        return requests.args_schema(self.request, self.response_schema, position)

    def as_fired(self) -> dict[str, Any]:
        """Return the payload of `gate_fired`."""
        return {
            "gate_id": self.pk,
            "tool": self.tool,
            "agent": self.agent,
            "reason": self.reason,
            "risk": self.risk,
            "kind": self.kind,
            "expires_at": self.expires_at.isoformat(),
            "digest": self.digest,
        }

    def as_decided(self, taken: Decision) -> dict[str, Any]:
        """Return the payload of `gate_decided`."""
        told = {
            "gate_id": self.pk,
            "decision": str(taken.type),
            "actor": taken.actor.get_username() if taken.actor else None,
            "channel": str(taken.channel),
            "tool": self.tool,
            "rationale": taken.message,
            "digest": self.digest,
            "decision_id": taken.pk,
            "seal": taken.seal(),
        }
        if taken.verdicts:
            told["verdicts"] = [
                {"tool_call_id": one["tool_call_id"], "tool": one["tool"], "decision": one["type"]}
                for one in taken.verdicts
            ]
        return told if taken.next == Next.CONTINUE else {**told, "next": str(taken.next)}

    def digest_of_shown(self) -> str:
        """Return the SHA-256 of that, which a decision must name until other facts are acknowledged."""
        return chain.digest(self.shown())

    def refusal_for(self, user: User | AnonymousUser) -> str:
        """Return why this person may not decide it, or nothing where they may."""
        return rules.refusal(
            is_approver=user.has_perm("approvals_app.decide_gate"),
            actor_id=user.pk,
            actor_name=user.get_username(),
            requester_id=self.session.requester_id,
            submitter_id=self.session.submitter_id,
            four_eyes=config.current().approvals.four_eyes,
        )

    # Verbs ------------------------------------------------------------------------------------------------------

    def decide(
        self,
        decision: str | Sequence[Verdict],
        *,
        actor: User,
        channel: Channel,
        digest: str | None,
        message: str = "",
        edited_args: dict[str, Any] | None = None,
        value: Any = requests.NOTHING,
        then: str = Next.CONTINUE,
        approver_note: str = "",
        extra: dict[str, Any] | None = None,
    ) -> Decision:
        """Take one person's decision, once; the last open gate of a session also sends its graph on.

        `decision` is one word for all that the gate asks, or a verdict for each of its calls, in order. `value` is
        the answer where the graph takes JSON, `then` what follows a rejection. `digest` names what the person was
        shown; None only on the REST contract's older path. Raises NotYours, AnswerUnfit, ShownOutdated, FactsChanged,
        GateDecided (its details name the winner), GateExpired or GateCancelled, and then no decision is written.
        Reads facts over the network, so call it in no transaction.
        """
        self.refresh_from_db()
        if refusal := self.refusal_for(actor):
            raise NotYours(refusal)
        if self.pending and self.expires_at <= timezone.now():
            self.expire()
        if not self.pending:
            raise self.late()
        if digest is not None and digest != self.digest:
            raise ShownOutdated(digest=self.digest)
        given = verdicts.read(self, decision, message=message, args=edited_args, value=value, extra=extra or {})
        kind = summary_of([verdict.type for verdict in given])
        if then != Next.CONTINUE and (kind != DecisionType.REJECT or then not in Next):
            raise AnswerUnfit(f"next: goes with a rejection, and is one of {', '.join(Next.values)}.", path="next")
        # A session that ends here has nobody who would read an answer.
        goes_on = then == Next.CONTINUE
        answer = requests.answer(self.request, given, self.response_schema) if goes_on else None
        self.hold_facts([(verdict.type, verdict.args) for verdict in given])
        with log_transaction():
            self._end(STATUS_AFTER[kind], answer)
            taken = Decision.objects.create(
                gate=self,
                type=kind,
                actor=actor,
                channel=channel,
                digest=self.digest,
                message=message if message or self.kind == GateKind.BATCH else given[0].message,
                edited_args=None if self.kind == GateKind.BATCH else given[0].args,
                verdicts=verdicts.kept(self, given),
                next=then,
                approver_note=approver_note,
            )
            self._tell_ledger(taken, given)
            SessionEvent.append(self.session_id, "gate_decided", self.as_decided(taken), actor=actor)
            match then:
                case Next.STOP:
                    self.session.stop(actor=actor, note=message)
                case Next.ESCALATE:
                    self.session.escalate(actor=actor, note=message, cause="handed over")
                case _:
                    self._go_on(cause=f"gate {self.get_status_display()}", actor=actor)
        return taken

    def expire(self) -> bool:
        """End a gate that nobody decided in time: nothing runs, and `on_expiry` says what happens to the session.

        False when it is decided, or when its time is not over. Needs nobody: the clock ended it already, and this
        writes that down.
        """
        why = f"Nobody decided by {self.expires_at:%Y-%m-%d %H:%M} UTC, so the call was not run."
        answer = requests.refused(
            GateKind(self.kind), calls=self.calls, request=self.request, why=why, schema=self.response_schema
        )
        with log_transaction():
            try:
                self._end(GateStatus.EXPIRED, answer)
            except Conflict:
                return False
            self._close_calls(why, expired=True)
            SessionEvent.append(
                self.session_id,
                "gate_expired",
                {
                    "gate_id": self.pk,
                    "tool": self.tool,
                    "expires_at": self.expires_at.isoformat(),
                    "on_expiry": self.on_expiry,
                },
            )
            cause = f"gate {self.pk} expired"
            note = f"Nobody decided by {self.expires_at:%Y-%m-%d %H:%M} UTC: {self.headline}"
            if self.on_expiry == OnExpiry.STOP:
                self.session.stop(cause=cause, note=note)
            elif self.on_expiry == OnExpiry.ESCALATE:
                self.session.escalate(cause=cause, note=note)
            else:
                self._go_on(cause="gate expired")
        return True

    def cancel(self, *, cause: str) -> bool:
        """End a gate whose session ended; nothing runs and nothing goes on."""
        with log_transaction():
            try:
                self._end(GateStatus.CANCELLED, None)
            except Conflict:
                return False
            self._close_calls(f"The session ended: {cause}.", expired=False)
            SessionEvent.append(
                self.session_id, "gate_cancelled", {"gate_id": self.pk, "tool": self.tool, "cause": cause}
            )
        return True

    def late(self) -> GateDecided | GateExpired | GateCancelled:
        """Return what to tell somebody who comes too late: who decided what, or why nobody can any more."""
        if self.status in {GateStatus.EXPIRED, GateStatus.PENDING}:
            # One that is pending has run out, and the sweep has yet to write that down.
            return GateExpired(gate_id=self.pk, status=GateStatus.EXPIRED)
        if self.status == GateStatus.CANCELLED:
            return GateCancelled(
                f"{self.why_cancelled}, so this gate was cancelled; nothing was run.",
                gate_id=self.pk,
                status=self.status,
            )
        by = self.decision
        who = by.actor.get_username() if by and by.actor else "CLM"
        return GateDecided(
            f"{who} {self.get_status_display()} this at {self.decided_at:%H:%M:%S} UTC.",
            gate_id=self.pk,
            status=self.status,
            decided_by=who,
            decided_at=self.decided_at.isoformat() if self.decided_at else None,
            rationale=by.message if by else "",
        )

    def _end(self, status: GateStatus, answer: Any) -> None:
        """Compare-and-swap from `pending`, or raise what the winner left.

        One instant is both held against the gate's end and written down: a person's decision must come before it and
        an expiry after it, so at no instant are both possible, whoever's clock is asked first.
        """
        now = timezone.now()
        ended = {"status": status, "answer": answer, "decided_at": now}
        if Gate.objects.swap(self.pk, GateStatus.PENDING, _in_time(status, now), **ended):
            for name, value in ended.items():
                setattr(self, name, value)
        else:
            self.refresh_from_db()
            raise self.late()

    def _go_on(self, *, cause: str, actor: User | None = None) -> None:
        """Send the graph on with every answer, when no gate of the session is left undecided."""
        siblings = Gate.objects.filter(session_id=self.session_id, run_id=self.run_id)
        answers = list(siblings.values_list("status", "interrupt_id", "answer"))
        if any(status == GateStatus.PENDING for status, _, _ in answers):
            return
        self.session.resume(
            {interrupt_id: answer for _, interrupt_id, answer in answers},
            thread_id=self.run.thread_id,
            cause=cause,
            actor=actor,
        )

    def _tell_ledger(self, decision: Decision, given: list[Verdict]) -> None:
        """Write what the verdicts mean for each call: a grant, a refusal, or a result found by a person."""
        rows = {row.tool_call_id: row for row in self._ledger_rows()}
        for call, verdict in zip(self.calls, given, strict=False):
            if row := rows.get(call["tool_call_id"]):
                found = verdict.type == DecisionType.RESPOND and self.kind == GateKind.UNKNOWN_OUTCOME
                row.decided(
                    approver=decision.actor.get_username() if decision.actor else "",
                    rationale=verdict.message,
                    grant=self._grant(row, call, verdict, decision),
                    result=verdict.message if found else None,
                )

    def _grant(
        self, row: ToolCall, call: dict[str, Any], verdict: Verdict, decision: Decision
    ) -> dict[str, Any] | None:
        """Return what lets the call run as it was shown or edited; what the ledger has otherwise will not fit it."""
        if verdict.type not in {DecisionType.APPROVE, DecisionType.EDIT}:
            return None
        args = verdict.args if verdict.type == DecisionType.EDIT else call["args"]
        until = timezone.now() + self.execution_expires_after
        return {
            "decision": decision.pk,
            "digest": call_digest(call["tool"], args or {}),
            "args": args or {},
            # Of several calls the card names the first one's rule; the others stand under their own.
            "rule_version": self.rule_version if row.tool_call_id == self.tool_call_id else row.rule_version,
            "expires_at": until.isoformat(),
            **self.held_for(row.tool_call_id),
        }

    def _close_calls(self, why: str, *, expired: bool) -> None:
        if self.calls:
            ToolCall.close(self.session_id, self.run.thread_id, self._call_ids(), why, expired=expired)

    def _ledger_rows(self) -> list[ToolCall]:
        return list(ToolCall.objects.filter(gate_calls__gate=self).order_by("pk"))

    def _call_ids(self) -> list[str]:
        return [call["tool_call_id"] for call in self.calls]


def _in_time(status: GateStatus, now: datetime) -> dict[str, datetime]:
    """Return what must be so of a gate that may come to that end at that instant."""
    if status == GateStatus.CANCELLED:
        return {}
    return {"expires_at__lte" if status == GateStatus.EXPIRED else "expires_at__gt": now}
