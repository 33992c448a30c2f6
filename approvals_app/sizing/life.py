"""One session's life as the rows that the verbs would have left, with a clock of its own instead of the real one."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import models

from approvals_app import requests
from approvals_app.models import Comment, Decision, Gate, GateCall
from approvals_app.requests import Verdict
from approvals_app.sizing.incidents import ENVIRONMENTS, FAULTS, SERVICES, TEAMS
from approvals_app.sizing.writing import Keys
from approvals_app.snapshot import asked_of
from approvals_app.states import STATUS_AFTER, Channel, DecisionType, GateKind, GateStatus, Next
from sessions_app import events
from sessions_app.agents import config, consequence, risk
from sessions_app.agents.context import Judgement
from sessions_app.models import AgentRun, Run, Session, SessionEvent, ToolCall
from sessions_app.models.ledger import call_digest
from sessions_app.states import CallStatus, RunKind, RunStatus, SessionStatus

#: The graph of those that wait. No process has it, so no decision can make anything run (docs/sizing.md).
GRAPH = "loaddemo"
FIX = "local_remediation:apply_fix"
HEALTH = "local_observability:get_service_health"
METRICS = "local_observability:get_metrics"
#: How long a gate that waits may still wait, in days: long enough to measure.
PATIENCE_DAYS = (30, 90)

_NAMES = {
    "operator": ("ada", "bela", "chiara", "deniz", "emil", "fatou", "goran", "hana", "ines", "jonas", "kofi", "lena"),
    "approver": ("marit", "nuria", "oskar", "priya", "quentin", "rosa", "soren", "tomoko"),
}


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who asks and who decides."""

    requesters: Sequence[User]
    approvers: Sequence[User]

    @classmethod
    def assemble(cls) -> Cast:
        """Return the people of the demo load, made where they are missing; none of them can sign in."""
        found = {group: [_person(name, group) for name in names] for group, names in _NAMES.items()}
        return cls(requesters=found["operator"], approvers=found["approver"])


def _person(name: str, group: str) -> User:
    person, new = User.objects.get_or_create(username=f"{name}.loaddemo", defaults={"is_active": False})
    if new:
        person.set_unusable_password()
        person.save()
        person.groups.set(Group.objects.filter(name=group))
    return person


class Life:
    """One session, told in order; every method is one thing that happens, and moves the clock on."""

    def __init__(
        self, *, keys: Keys, rng: random.Random, cast: Cast, session_id: str, at: datetime, now: datetime
    ) -> None:
        self.rows: list[models.Model] = []
        self.at, self.now = at, now
        self._keys, self._rng, self._cast = keys, rng, cast
        self.service, self.fault = rng.choice(SERVICES), rng.choice(FAULTS)
        requester = rng.choice(cast.requesters)
        self.session = Session(
            id=session_id,
            query=self.fault.query.format(service=self.service),
            environment=rng.choice(ENVIRONMENTS),
            requester=requester,
            submitter_id=requester.username,
            submitter_team=rng.choice(TEAMS),
            severity=rng.choice(self.fault.severities),
            category=self.fault.category,
            tags=[self.fault.name, self.service],
            extra_fields={"loaddemo": True},
            created_at=at,
            updated_at=at,
        )
        self._calls, self._reports, self._readings = 0, list[dict[str, Any]](), list[dict[str, Any]]()
        self.rows.append(self.session)
        self.run = self._drive(RunKind.START, session_id)
        self._tell(
            "session.created",
            {
                "graph": self.session.graph,
                "environment": self.session.environment,
                "submitter": self.session.submitter_id,
                "run_id": self.run.pk,
            },
            actor=requester,
        )
        self._passes(0.1, 3)
        self.run.started_at = self.at
        self.move(SessionStatus.IN_PROGRESS, cause="start claimed")

    # What happens -----------------------------------------------------------------------------------------------

    def turn(self, agent: str, *reads: str) -> None:
        """Let an agent look with these tools and report."""
        turn = self._new(
            AgentRun,
            session_id=self.session.pk,
            run_id=self.run.pk,
            key=f"{agent}-{self.run.pk}",
            agent=agent,
            started_at=self._passes(0.1, 1),
        )
        self._tell("agent_started", {"agent": agent})
        for tool in reads:
            self._read(agent, tool)
        turn.ended_at = self._passes(0.5, 20)
        turn.summary = self.fault.finding.format(service=self.service)
        turn.confidence = round(self._rng.uniform(0.55, 0.98), 2)
        turn.confidence_rationale = "The readings agree with each other."
        turn.signal = self.fault.name
        turn.input_tokens, turn.output_tokens = self._rng.randint(800, 6000), self._rng.randint(100, 900)
        self.session.input_tokens += turn.input_tokens
        self.session.output_tokens += turn.output_tokens
        self.session.summary = turn.summary
        usage = {"input_tokens": turn.input_tokens, "output_tokens": turn.output_tokens}
        said = {"summary": turn.summary, "confidence": turn.confidence, "signal": turn.signal, "usage": usage}
        seq = self._tell("agent_finished", {"agent": agent, **said}).seq
        self._reports.append(
            {
                "agent": agent,
                "summary": turn.summary,
                "confidence": turn.confidence,
                "rationale": turn.confidence_rationale,
                "evidence": [],
                "seq": seq,
            }
        )

    def ask(self, *, pending: bool = False) -> Gate:
        """Let the resolution agent ask whether its fix may run; the session waits."""
        args = {"service": self.service, **self.fault.args(self._rng)}
        judged = risk.judge(FIX, args, self.session.environment, config.current().risk.rules)
        call = self._call("resolution", FIX, args, judged)
        call.reasoning = self.fault.reasoning.format(service=self.service)
        value = {
            "type": "tool_approval",
            "tool_call_id": call.tool_call_id,
            "name": FIX.replace(":", "__"),
            "args": args,
            "description": call.reasoning,
        }
        return self._open(value, call, pending=pending)

    def ask_in_words(self, *, pending: bool = False) -> Gate:
        """Let an agent that is not sure ask a question; the session waits."""
        value = {
            "type": "question",
            "reason": "low_confidence",
            "agent": "deep_investigator",
            "question": f"Is {self.service} the service to look at?",
            "confidence": 0.4,
        }
        return self._open(value, None, pending=pending)

    def ask_what_became(self, of: Gate) -> Gate:
        """Let CLM ask whether a call ran that was cut off."""
        call = self._call_of(of)
        value = {
            "type": "unknown_outcome",
            "tool_call_id": call.tool_call_id,
            "name": call.tool,
            "args": call.args,
            "description": "The call was cut off; nobody knows whether it ran.",
        }
        return self._open(value, call, pending=True)

    def comment(self, gate: Gate) -> None:
        """Let somebody say something about it."""
        author, text = self._rng.choice(self._cast.approvers), f"Looked at {self.service} as well: it fits."
        at = self._passes(1, 60)
        row = self._new(Comment, gate=gate, author=author, channel=Channel.PAGE, text=text, created_at=at)
        self._tell("gate_commented", row.as_commented(), actor=author)

    def decide(
        self, gate: Gate, kind: DecisionType, *, then: Next = Next.CONTINUE, lasts: timedelta | None = None
    ) -> User:
        """Let an approver decide, after a while; return who. `lasts` is how long an approval holds."""
        actor = self._rng.choice(self._cast.approvers)
        self.at = gate.created_at + timedelta(seconds=min(14_000.0, self._rng.lognormvariate(5.2, 1.3)))
        message = {
            DecisionType.REJECT: "Not now: the evidence does not support it.",
            DecisionType.RESPOND: "Go on: the finding is right.",
        }.get(kind, "")
        args = {**gate.args, "reason": "as agreed"} if kind == DecisionType.EDIT else None
        verdict = Verdict(type=kind, message=message, args=args)
        gate.status, gate.decided_at = STATUS_AFTER[kind], self.at
        if then == Next.CONTINUE:
            gate.answer = requests.answer(gate.request, [verdict], None)
        taken = self._new(
            Decision,
            gate=gate,
            type=kind,
            actor=actor,
            channel=self._rng.choice([Channel.PAGE, Channel.PAGE, Channel.PAGE, Channel.API]),
            digest=gate.digest,
            message=message,
            edited_args=args,
            next=then,
            created_at=self.at,
        )
        if gate.kind == GateKind.TOOL_APPROVAL:
            call = self._call_of(gate)
            call.approver, call.approved_at, call.approval_rationale = actor.username, self.at, message
            if kind == DecisionType.REJECT:
                call.status, call.error = CallStatus.REJECTED, message
            else:
                granted = args or gate.args
                call.status = CallStatus.APPROVED
                call.grant = {
                    "decision": taken.pk,
                    "digest": call_digest(call.tool, granted),
                    "args": granted,
                    "rule_version": gate.rule_version,
                    "expires_at": (self.at + (lasts or gate.execution_expires_after)).isoformat(),
                }
        self._tell("gate_decided", gate.as_decided(taken), actor=actor)
        return actor

    def go_on(self, *gates: Gate, cause: str, actor: User | None = None) -> None:
        """Send the graph on with the answers of these gates."""
        self.move(SessionStatus.IN_PROGRESS, cause=cause, actor=actor)
        self.run = self._drive(RunKind.RESUME, self.run.thread_id, asked_by_id=actor.pk if actor else None)
        self.run.answers = {gate.interrupt_id: gate.answer for gate in gates}
        self.run.started_at = self._passes(0.1, 1)

    def carry_out(self, gate: Gate, status: CallStatus = CallStatus.EXECUTED) -> None:
        """Run the call that the gate's decision let run."""
        call = self._call_of(gate)
        grant: dict[str, Any] = call.grant or {}
        call.started_at = self._passes(0.1, 1)
        told = {"tool": call.tool, "agent": call.agent, "tool_call_id": call.tool_call_id, "args": grant["args"]}
        self._tell("tool_dispatched", {**told, "decision_id": grant["decision"]})
        call.status, at = status, self._passes(0.2, 12)
        if status == CallStatus.EXECUTED:
            call.result, call.finished_at = json.dumps({"service": self.service, "applied": grant["args"]}), at
        elif status == CallStatus.FAILED:
            call.error, call.finished_at = f"{self.service} refused it: its controller is busy.", at
        else:
            call.error = "The call was cut off; nobody knows whether it ran."
        self._invoked(call, grant["args"])

    def expire(self, gate: Gate) -> None:
        """Let the gate's time run out."""
        self.at = gate.decided_at = gate.expires_at + timedelta(seconds=self._rng.uniform(0.5, 5))
        why = f"Nobody decided by {gate.expires_at:%Y-%m-%d %H:%M} UTC, so the call was not run."
        gate.status = GateStatus.EXPIRED
        gate.answer = requests.refused(GateKind(gate.kind), calls=gate.calls, request=gate.request, why=why)
        self._close_call(gate, CallStatus.EXPIRED, why)
        self._tell(
            "gate_expired",
            {
                "gate_id": gate.pk,
                "tool": gate.tool,
                "expires_at": gate.expires_at.isoformat(),
                "on_expiry": gate.on_expiry,
            },
        )

    def stop(self, gate: Gate | None = None, *, actor: User | None = None) -> None:
        """Let somebody stop the session; the gate goes with it."""
        who = actor or self.session.requester
        if not actor:
            self._passes(30, 900)
        self._tell("session.stop_requested", {"actor": who.get_username() if who else None}, actor=who)
        if self.run.ended_at is None:
            self.run.status, self.run.ended_at = RunStatus.CANCELLED, self.at
        self.move(SessionStatus.STOPPED, cause="stopped", actor=who)
        if gate:
            gate.status, gate.decided_at = GateStatus.CANCELLED, self.at
            self._close_call(gate, CallStatus.REJECTED, "The session ended before anybody decided.")
            self._tell("gate_cancelled", {"gate_id": gate.pk, "tool": gate.tool, "cause": "stopped"})

    def fail(self) -> None:
        """Let the run fail, and the session with it."""
        error = "TimeoutError: the model did not answer in 120 s"
        self._end_run(RunStatus.FAILED)
        self.run.error = self.session.resolution = error
        self._tell("run_failed", {"run_id": self.run.pk, "error": error})
        self.move(SessionStatus.ERROR, cause="run failed")

    def finish(self, status: SessionStatus, resolution: str) -> None:
        """Let the graph end."""
        self._end_run(RunStatus.SUCCEEDED)
        self.run.outcome, self.run.resolution = str(status), resolution
        self.session.resolution = resolution
        self.move(status, cause="graph ended")

    def move(self, to: SessionStatus, *, cause: str, actor: User | None = None) -> None:
        """Change the status, with its event."""
        self._tell(
            "session.status_changed",
            {
                "from": str(self.session.status),
                "to": str(to),
                "cause": cause,
                "actor": actor.get_username() if actor else None,
            },
            actor=actor,
        )
        self.session.status = to

    def close(self) -> None:
        """Write into the session's row what follows from its events."""
        self.session.updated_at = self.at
        if self.session.ended:
            self.session.ended_at = self.at

    # Rows -------------------------------------------------------------------------------------------------------

    def _new(self, model: Any, **fields: Any) -> Any:
        row = model(pk=self._keys.next(model), **fields)
        self.rows.append(row)
        return row

    def _passes(self, least: float, most: float) -> datetime:
        """Move the clock on, and never past the present."""
        self.at = min(self.at + timedelta(seconds=self._rng.uniform(least, most)), max(self.at, self.now))
        return self.at

    def _tell(self, kind: str, payload: dict[str, Any], *, actor: User | None = None) -> SessionEvent:
        events.check(kind, payload)
        self.session.version += 1
        event: SessionEvent = self._new(
            SessionEvent,
            session_id=self.session.pk,
            position=self.session.version,
            kind=kind,
            payload=payload,
            actor_id=actor.pk if actor else None,
            ts=self.at,
        )
        event.hash = self.session.head = event.hash_after(self.session.head)
        return event

    def _drive(self, kind: RunKind, thread_id: str, **fields: Any) -> Run:
        run: Run = self._new(
            Run,
            session_id=self.session.pk,
            kind=kind,
            status=RunStatus.RUNNING,
            thread_id=thread_id,
            worker="loaddemo:0:0",
            attempt=1,
            created_at=self.at,
            **fields,
        )
        return run

    def _end_run(self, status: RunStatus) -> None:
        self.run.status, self.run.ended_at = status, self._passes(0.1, 2)

    def _call(self, agent: str, tool: str, args: dict[str, Any], judged: Judgement) -> ToolCall:
        self._calls += 1
        call: ToolCall = self._new(
            ToolCall,
            session_id=self.session.pk,
            run_id=self.run.pk,
            thread_id=self.run.thread_id,
            tool_call_id=f"call-{self.session.pk}-{self._calls}",
            agent=agent,
            tool=tool,
            args=args,
            digest=call_digest(tool, args),
            risk=judged.level,
            reason=judged.reason,
            rule=judged.rule,
            rule_version=judged.rule_version,
            status=CallStatus.PENDING_APPROVAL,
            ts=self._passes(0.1, 1),
        )
        return call

    def _read(self, agent: str, tool: str) -> None:
        args = {"service": self.service}
        judged = _read_only(tool)
        call = self._call(agent, tool, args, judged)
        call.idempotent = True
        call.result = json.dumps(self.fault.reading(self._rng, self.service, self.session.environment))
        call.started_at, call.finished_at, call.status = self.at, self._passes(0.05, 2), CallStatus.EXECUTED
        seq = self._invoked(call, args).seq
        at = call.finished_at.isoformat() if call.finished_at else None
        self._readings.append({"tool": tool, "args": args, "excerpt": call.result, "at": at, "seq": seq})

    def _invoked(self, call: ToolCall, args: dict[str, Any]) -> SessionEvent:
        return self._tell(
            "tool_invoked",
            {
                "tool": call.tool,
                "agent": call.agent,
                "args": args,
                "result_kind": "unknown" if call.status == CallStatus.UNKNOWN else ("error" if call.error else "json"),
                "latency_ms": self._rng.randint(20, 2000),
                "risk": call.risk,
                "status": str(call.status),
                "tool_call_id": call.tool_call_id,
                "excerpt": (call.result or call.error)[:400],
            },
        )

    def _open(self, value: dict[str, Any], call: ToolCall | None, *, pending: bool) -> Gate:
        asked = requests.read(value, None)
        if pending:
            self.session.graph = GRAPH
        if self.run.ended_at is None:
            self._end_run(RunStatus.INTERRUPTED)
        means = _means(call.tool, json.dumps(call.args), self.session.environment) if call else None
        approvals = config.current().approvals
        days = timedelta(days=self._rng.randint(*PATIENCE_DAYS))
        number = self._keys.next(Gate)
        gate = Gate(
            pk=number,
            session=self.session,
            run_id=self.run.pk,
            interrupt_id=f"{self.session.pk}-{number}",
            checkpoint_id=f"loaddemo-{number}",
            **asked_of(asked, call, [means] if means else []),
            evidence={"reports": self._reports, "readings": self._readings, "seen": [{}] * len(asked.calls)},
            request=value,
            created_at=self.at,
            expires_at=self.now + days if pending else self.at + approvals.expires_after,
            # Nothing stands behind a gate that waits, so nothing could go on after it.
            on_expiry="stop" if pending else approvals.on_expiry,
            execution_expires_after=approvals.execution_expires_after,
        )
        gate.complete()
        self.rows.append(gate)
        if call:
            self._new(GateCall, gate_id=gate.pk, call_id=call.pk, position=0)
        self._tell("gate_fired", gate.as_fired())
        if self.session.status != SessionStatus.AWAITING_INPUT:
            self.move(SessionStatus.AWAITING_INPUT, cause=f"gate {gate.pk} fired")
        return gate

    def _call_of(self, gate: Gate) -> ToolCall:
        return next(row for row in self.rows if isinstance(row, ToolCall) and row.tool_call_id == gate.tool_call_id)

    def _close_call(self, gate: Gate, status: CallStatus, why: str) -> None:
        if gate.kind == GateKind.TOOL_APPROVAL:
            call = self._call_of(gate)
            call.status, call.error = status, why


@lru_cache(maxsize=4096)
def _means(tool: str, args: str, environment: str) -> Any:
    return consequence.consequence(tool, json.loads(args), environment=environment)


@lru_cache(maxsize=16)
def _read_only(tool: str) -> Judgement:
    return risk.judge(tool, {}, "", config.current().risk.rules)
