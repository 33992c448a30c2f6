from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models
from django.utils import timezone

from sessions_app import chain
from sessions_app.agents import facts as drift
from sessions_app.agents.context import Judgement, Report, Usage
from sessions_app.agents.facts import Reading
from sessions_app.exceptions import LeaseLost, ToolRefused
from sessions_app.models.event import SessionEvent, log_transaction
from sessions_app.models.run import Run
from sessions_app.querysets import ToolCallQuerySet
from sessions_app.statements import insert, swap
from sessions_app.states import CallStatus
from sessions_app.storable import storable

#: Asked before every tool call; built anew by the ORM it would take many times as long.
_LOOK_UP = (
    "SELECT run.thread_id, row.id FROM sessions_app_run run LEFT JOIN sessions_app_toolcall row "
    "ON row.session_id = run.session_id AND row.thread_id = run.thread_id AND row.tool_call_id = %s "
    "WHERE run.id = %s AND run.status = 'running' AND run.attempt = %s"
)


#: So is this, at the end of every agent's turn.
_ADD_TOKENS = (
    "UPDATE sessions_app_session SET input_tokens = input_tokens + %s, output_tokens = output_tokens + %s WHERE id = %s"
)


def call_digest(tool: str, args: dict[str, Any]) -> str:
    """Return the SHA-256 of one call: its public tool name and its arguments, canonically."""
    return chain.digest(chain.as_stored([tool, args]))


class AgentRun(models.Model):
    """One agent's turn in a session: when, how sure, at what cost.

    `key` is the graph task's id, the same when a node runs again on a replay, so a turn is one row.
    """

    session = models.ForeignKey("sessions_app.Session", on_delete=models.PROTECT, related_name="agent_runs")
    run = models.ForeignKey("sessions_app.Run", on_delete=models.PROTECT, related_name="agent_runs")
    key = models.CharField(max_length=120)
    agent = models.CharField(max_length=60)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    summary = models.TextField(blank=True)
    confidence = models.FloatField(null=True, blank=True)
    confidence_rationale = models.TextField(blank=True)
    signal = models.CharField(max_length=40, blank=True)
    evidence = models.JSONField(default=list, blank=True)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["session", "key"], name="agent_turn_once")]

    def __str__(self) -> str:
        return f"{self.agent} in {self.session_id}"

    @classmethod
    def start(cls, *, session_id: str, run_id: int, agent: str, key: str) -> None:
        """Note that an agent's turn began; a replay of the same turn notes nothing."""
        with log_transaction():
            if not insert(cls(session_id=session_id, key=key, run_id=run_id, agent=agent), once=True):
                return
            SessionEvent.append_all(
                session_id, ("session.agent_running", {"agent": agent}), ("agent_started", {"agent": agent})
            )

    @classmethod
    def finish(cls, *, session_id: str, agent: str, key: str, report: Report, usage: Usage) -> None:
        """Note an agent's report, once; its tokens are added to the session's."""
        with log_transaction():
            ended = swap(
                cls,
                {"session": session_id, "key": key, "ended_at": None},
                ended_at=timezone.now(),
                summary=storable(report.summary),
                confidence=report.confidence,
                confidence_rationale=storable(report.rationale),
                signal=storable(report.signal)[:40],
                evidence=storable(report.evidence),
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
            )
            if not ended:
                return
            with connection.cursor() as cursor:
                cursor.execute(_ADD_TOKENS, [usage.input_tokens, usage.output_tokens, session_id])
            sure = {"agent": agent, "confidence": report.confidence, "rationale": report.rationale}
            said = {
                "agent": agent,
                "summary": report.summary,
                "confidence": report.confidence,
                "signal": report.signal,
                "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
            }
            SessionEvent.append_all(session_id, ("confidence_emitted", sure), ("agent_finished", said))


class ToolCall(models.Model):
    """The ledger's row of one tool call: judged once, claimed before it runs, settled after.

    A gated call runs only with a `grant`: `{decision, digest, args, rule_version, expires_at, facts?}`, which the
    approving decision writes in its own transaction and `claim` checks at the tool itself (law L2).
    """

    session = models.ForeignKey("sessions_app.Session", on_delete=models.PROTECT, related_name="tool_calls")
    run = models.ForeignKey("sessions_app.Run", on_delete=models.PROTECT, related_name="tool_calls")
    thread_id = models.CharField(max_length=80, help_text="A rerun has its own, so a repeated id is another call.")
    tool_call_id = models.CharField(max_length=120)
    agent = models.CharField(max_length=60)
    tool = models.CharField(max_length=120, help_text="server:tool")
    args = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    digest = models.CharField(max_length=64)
    reasoning = models.TextField(blank=True, help_text="What the agent said when it asked for the call.")
    risk = models.CharField(max_length=10)
    reason = models.CharField(max_length=40)
    rule = models.CharField(max_length=120)
    rule_version = models.CharField(max_length=16)
    status = models.CharField(max_length=24, choices=CallStatus.choices)
    idempotent = models.BooleanField(default=False, help_text="Safe to run again after a crash.")
    grant = models.JSONField(null=True, blank=True)
    facts = models.JSONField(
        null=True, blank=True, encoder=DjangoJSONEncoder, help_text="What it rests on, as read when it was proposed."
    )
    result = models.TextField(blank=True)
    error = models.TextField(blank=True)
    approver = models.CharField(max_length=150, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    approval_rationale = models.TextField(blank=True)
    ts = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = ToolCallQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["session", "thread_id", "tool_call_id"], name="tool_call_once"),
            models.CheckConstraint(
                condition=~models.Q(status="pending_approval") | models.Q(approved_at=None),
                name="tool_call_waits_unapproved",
            ),
        ]
        indexes = [
            models.Index(
                fields=["session"],
                name="tool_call_open",
                condition=models.Q(status__in=[str(CallStatus.APPROVED), str(CallStatus.EXECUTING)]),
            ),
            models.Index(fields=["status", "approved_at"], name="tool_call_outcome"),
            # What became of calls that a decision let run, for the queue's tabs.
            models.Index(fields=["status", "id"], name="tool_call_let_run", condition=models.Q(grant__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.tool} in {self.session_id}"

    @property
    def gated(self) -> bool:
        """Whether a person must approve before the call has any effect."""
        return self.judgement.gated

    @property
    def judgement(self) -> Judgement:
        """The judgement as it was made when the call was first seen."""
        return Judgement(level=self.risk, reason=self.reason, rule=self.rule, rule_version=self.rule_version)

    @property
    def effective_args(self) -> dict[str, Any]:
        """The arguments that run: the approver's where they edited the call, else the agent's."""
        edited = (self.grant or {}).get("args")
        return edited if isinstance(edited, dict) else self.args

    @property
    def runs_until(self) -> datetime | None:
        """The instant from which on an approved call must not start any more."""
        until = (self.grant or {}).get("expires_at")
        return datetime.fromisoformat(until) if until else None

    @property
    def lapsed(self) -> bool:
        """Whether it was approved and, in the end, not run."""
        return self.status == CallStatus.EXPIRED and self.grant is not None

    def overdue(self, now: datetime) -> bool:
        """Whether it is approved and its time to start is over, whether or not the sweep has written that down."""
        until = self.runs_until
        return self.status == CallStatus.APPROVED and until is not None and until <= now

    @classmethod
    def enter(
        cls,
        *,
        session_id: str,
        run_id: int,
        attempt: int,
        agent: str,
        tool_call_id: str,
        tool: str,
        args: dict[str, Any],
        reasoning: str,
        idempotent: bool,
        judge: Callable[[], Judgement],
    ) -> tuple[ToolCall, bool]:
        """Return the call's row and whether it is new: judged now, or as it was judged when first seen.

        A new call that needs no approval is claimed by the same insert. Raises LeaseLost when this attempt at the run
        is not under way any more: another drives it, or it is over.
        """
        digest = call_digest(tool, args)
        thread_id, known_as = cls._look_up(run_id, attempt, tool_call_id)
        if known_as is not None:
            known = cls.objects.get(pk=known_as)
            if known.digest != digest:
                raise ToolRefused(
                    f"The model used the tool call id {tool_call_id!r} for two different calls in {session_id}."
                )
            return known, False
        judgement = judge()
        runs_now = not judgement.gated and not judgement.forbidden
        row = cls(
            session_id=session_id,
            run_id=run_id,
            thread_id=thread_id,
            agent=agent,
            tool_call_id=tool_call_id,
            tool=tool,
            args=storable(args),
            digest=digest,
            reasoning=storable(reasoning),
            idempotent=idempotent,
            risk=judgement.level,
            reason=judgement.reason,
            rule=judgement.rule,
            rule_version=judgement.rule_version,
            status=CallStatus.EXECUTING if runs_now else CallStatus.PENDING_APPROVAL,
            started_at=timezone.now() if runs_now else None,
        )
        insert(row)
        return row, True

    @staticmethod
    def _look_up(run_id: int, attempt: int, tool_call_id: str) -> tuple[str, int | None]:
        """Return the running run's thread, and the key of the call's row on it if there is one."""
        with connection.cursor() as cursor:
            cursor.execute(_LOOK_UP, [tool_call_id, run_id, attempt])
            found: tuple[str, int | None] | None = cursor.fetchone()
        if found is None:
            raise LeaseLost
        return found

    def keep_facts(self, reading: Reading) -> None:
        """Write down the facts that the call is proposed on, for the gate that asks about it."""
        ToolCall.objects.filter(pk=self.pk, status__in=[CallStatus.PENDING_APPROVAL, CallStatus.UNKNOWN]).update(
            facts=reading
        )

    def claim(
        self, *, run_id: int, attempt: int, tool: str, args: dict[str, Any], facts: Reading | None = None
    ) -> None:
        """Take the call for execution as it is about to run, or raise ToolRefused and say why.

        Where this attempt at the run is not under way any more, it is not for this drive to say what becomes of the
        call: it raises LeaseLost.

        For a gated call every word of the grant must hold now: the decision, the digest of what it approved, the
        rule's version, the time until which it may run, and the facts it was approved on (`facts`: as just read).
        Then `tool_dispatched` is in the same transaction.
        """
        with log_transaction():
            # One instant is both held against the grant's end and written down: no call starts after it.
            now = timezone.now()
            self._must_be_ours(run_id, attempt)
            why = self._why_not(tool, args, now) or self._why_not_on(facts)
            took = not why and self._swap(CallStatus.APPROVED, status=CallStatus.EXECUTING, started_at=now)
            if took and self.grant:
                self._log_dispatched(self.grant)
        if self.overdue(now):
            self.lapse(f"its approval expired at {self.runs_until:%H:%M:%S} UTC")
        self.refresh_from_db()
        if not (took or why) and self.status == CallStatus.EXECUTING:
            raise LeaseLost(f"{tool} was claimed by another drive of the run.")
        if not took:
            raise ToolRefused(f"{tool} was not run: {why or f'the call is {self.get_status_display()}'}.")

    @staticmethod
    def _must_be_ours(run_id: int, attempt: int) -> None:
        if not Run.objects.driven(run_id, attempt).exists():
            raise LeaseLost

    def _why_not(self, tool: str, args: dict[str, Any], now: datetime) -> str:
        if self.lapsed:
            return "its approval has expired"
        if self.status != CallStatus.APPROVED:
            return f"the call is {self.get_status_display()}"
        if not self.gated:
            return ""
        grant = self.grant
        if not grant:
            return "no decision approved it"
        if grant["digest"] != call_digest(tool, args):
            return "it is not the call that was approved"
        if grant["rule_version"] != self.rule_version:
            return "its rule is not the one it was approved under"
        if self.overdue(now):
            return "its approval has expired"
        return ""

    def _why_not_on(self, now: Reading | None) -> str:
        approved_on: Reading | None = (self.grant or {}).get("facts")
        if approved_on is None:
            return ""
        if now is None:
            return "it was approved on facts that nobody can read here"
        if drift.fingerprint(now) == drift.fingerprint(approved_on):
            return ""
        return f"{drift.OVERTAKEN}: {drift.in_words(approved_on, now)}"

    def take_over(self, *, run_id: int, attempt: int) -> None:
        """Say what becomes of a claim that an earlier drive left behind. Raises LeaseLost, as `claim` does.

        A call that may safely run again can be claimed anew; of any other, nobody knows whether it ran.
        """
        with log_transaction():
            self._must_be_ours(run_id, attempt)
            if self.idempotent:
                self.give_back()
            else:
                self.settle_unknown()

    def settle(self, *, result: str = "", error: str = "", result_kind: str, latency_ms: int) -> None:
        """Record how the call ended, with its event. Only a claimed call can be settled, and only once."""
        result, error = storable(result), storable(error)
        if error:
            status = CallStatus.FAILED
        elif self.risk == "medium":
            status = CallStatus.EXECUTED_WITH_NOTIFY
        else:
            status = CallStatus.EXECUTED
        with log_transaction():
            if self._swap(CallStatus.EXECUTING, status=status, result=result, error=error, finished_at=timezone.now()):
                self._log_invoked(status, result or error, result_kind=result_kind, latency_ms=latency_ms)

    def settle_unknown(self) -> None:
        """Record that a claimed call was cut off: nobody knows whether it ran."""
        with log_transaction():
            if self._swap(
                CallStatus.EXECUTING,
                status=CallStatus.UNKNOWN,
                error="The call was cut off; nobody knows whether it ran.",
            ):
                self._log_invoked(CallStatus.UNKNOWN, "", result_kind="unknown", latency_ms=0)
        self.refresh_from_db()

    def give_back(self) -> None:
        """Undo a claim whose tool had no effect yet: it paused inside, or it may safely run again."""
        self._swap(CallStatus.EXECUTING, status=CallStatus.APPROVED, started_at=None)
        self.refresh_from_db()

    def lapse(self, why: str) -> bool:
        """Record that an approved call will not run any more, with its event. False when it stands elsewhere."""
        with log_transaction():
            lapsed = self._swap(CallStatus.APPROVED, status=CallStatus.EXPIRED, error=f"Approved, and not run: {why}.")
            if lapsed and self.grant:
                SessionEvent.append(
                    self.session_id,
                    "tool_lapsed",
                    {
                        "tool": self.tool,
                        "agent": self.agent,
                        "tool_call_id": self.tool_call_id,
                        "why": why,
                        "decision_id": self.grant["decision"],
                        "expires_at": self.grant["expires_at"],
                    },
                )
        return lapsed

    def refuse(self, why: str) -> None:
        """Record that the call was not run and why, with its event, once; nothing will run it any more."""
        with log_transaction():
            waiting = ToolCall.objects.filter(pk=self.pk, status__in=[CallStatus.PENDING_APPROVAL, CallStatus.APPROVED])
            if waiting.update(status=CallStatus.REJECTED, error=why) or not self._is_said_to_be_refused():
                SessionEvent.append(
                    self.session_id,
                    "tool_refused",
                    {
                        "tool": self.tool,
                        "agent": self.agent,
                        "why": why,
                        "tool_call_id": self.tool_call_id,
                        "args": self.effective_args,
                        "risk": self.risk,
                    },
                )
        self.refresh_from_db()

    def _is_said_to_be_refused(self) -> bool:
        """Whether the log says so since this call's run began: a replay comes here again."""
        said = SessionEvent.objects.filter(session=self.session_id, kind="tool_refused", ts__gte=self.run.created_at)
        return any(event.payload["tool_call_id"] == self.tool_call_id for event in said)

    def decided(
        self, *, approver: str, rationale: str, grant: dict[str, Any] | None, result: str | None = None
    ) -> None:
        """Write a person's decision on this call, inside the decision's own transaction.

        With a `grant` the call may run; with a `result` (found by a person after a crash) it has run; with
        neither it is rejected.
        """
        if grant:
            changes: dict[str, Any] = {"status": CallStatus.APPROVED, "grant": grant, "error": ""}
        elif result is not None:
            changes = {"status": CallStatus.EXECUTED, "result": result, "finished_at": timezone.now()}
        else:
            changes = {"status": CallStatus.REJECTED, "error": rationale}
        self._answer(approver=approver, approved_at=timezone.now(), approval_rationale=rationale, **changes)

    @classmethod
    def close(cls, session_id: str, thread_id: str, ids: list[str], why: str, *, expired: bool) -> None:
        """Write that nobody decided these calls and nobody will; one that may have run stays unknown."""
        status = CallStatus.EXPIRED if expired else CallStatus.REJECTED
        for one in ids:
            waiting = {"session": session_id, "thread_id": thread_id, "tool_call_id": one}
            swap(cls, {**waiting, "status": CallStatus.PENDING_APPROVAL}, status=status, error=why)

    @classmethod
    def close_all(cls, session_id: str) -> None:
        """Close what an ended session leaves: nothing waits for a decision or for its run any more."""
        rows = cls.objects.filter(session_id=session_id)
        rows.filter(status=CallStatus.PENDING_APPROVAL).update(
            status=CallStatus.REJECTED, error="The session ended before anybody decided."
        )
        for row in rows.filter(status=CallStatus.APPROVED):
            row.lapse("the session ended before it ran")

    def _swap(self, old: CallStatus, **changes: Any) -> bool:
        # Whose claim it is: a drive that was cut off must not end the one that another made after it.
        return swap(ToolCall, {"pk": self.pk, "status": old, "started_at": self.started_at}, **changes)

    def _answer(self, **changes: Any) -> None:
        ToolCall.objects.filter(pk=self.pk, status__in=[CallStatus.PENDING_APPROVAL, CallStatus.UNKNOWN]).update(
            **changes
        )

    def _log_dispatched(self, grant: dict[str, Any]) -> None:
        SessionEvent.append(
            self.session_id,
            "tool_dispatched",
            {
                "tool": self.tool,
                "agent": self.agent,
                "tool_call_id": self.tool_call_id,
                "args": self.effective_args,
                "decision_id": grant["decision"],
            },
        )

    def _log_invoked(self, status: CallStatus, text: str, *, result_kind: str, latency_ms: int) -> None:
        SessionEvent.append(
            self.session_id,
            "tool_invoked",
            {
                "tool": self.tool,
                "agent": self.agent,
                "args": self.effective_args,
                "result_kind": result_kind,
                "latency_ms": latency_ms,
                "risk": self.risk,
                "status": str(status),
                "tool_call_id": self.tool_call_id,
                "excerpt": text[:400],
            },
        )
