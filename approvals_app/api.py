"""The REST contract, the part about gates: the queue, a gate, decisions, and the older paths by session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from django.dispatch import receiver
from django.http import HttpRequest
from ninja import Path, Query, Router
from ninja.responses import Status
from pydantic import Field

from approvals_app.exceptions import AnswerUnfit, NotYours
from approvals_app.models import Decision, Gate
from approvals_app.outcome import CallOutcome as Outcome
from approvals_app.outcome import outcomes_of
from approvals_app.querysets import LONG, GateQuerySet
from approvals_app.requests import NOTHING, Verdict
from approvals_app.states import (
    COUNTED_TO,
    NEWEST_FIRST,
    OLDEST_FIRST,
    Channel,
    DecisionType,
    GateKind,
    GateStatus,
    QueueTab,
    order_of,
)
from sessions_app.agents.tools import public_name
from sessions_app.api import Limit, find_session, known_statuses, page_of
from sessions_app.exceptions import Conflict, Invalid, NotFound
from sessions_app.identity import Access, of
from sessions_app.models import ApiToken, Session
from sessions_app.schemas import Answer, Asked, Instant, describing, instant
from sessions_app.states import SessionStatus
from sessions_app.streams import MAX_SEQ, READ

SEE = Access(ApiToken.Scope.READ, "approvals_app.view_gate")
#: Whether this person may decide this gate is asked of the gate itself, in `Gate.decide`.
DECIDE = Access(ApiToken.Scope.DECIDE)

#: `status=` of the queue's second tab: whatever has reached an end.
DECIDED = "decided"
#: The longest reason, answer or note.
MAX_TEXT = 10_000

router = Router(auth=SEE)

GateId = Annotated[int, Path(ge=1, le=MAX_SEQ)]


# Asked ----------------------------------------------------------------------------------------------------------


class EditedAction(Asked):
    """The call as it should run instead; `name`, when given, must be the gate's own tool."""

    name: str | None = Field(None, max_length=120)
    args: dict[str, Any]


class CallDecision(Asked):
    """The decision on one of several calls."""

    tool_call_id: str = Field(max_length=120)
    type: Literal["approve", "edit", "reject", "respond"]
    edited_action: EditedAction | None = None
    message: str = Field("", max_length=MAX_TEXT, description="The reason, or the answer in its place.")


class DecisionAsked(Asked):
    """One person's decision on what they were shown: one `type` for all of it, or `decisions` call by call."""

    type: Literal["approve", "edit", "reject", "respond"] | None = None
    digest: str = Field(max_length=64, description="The gate's digest as it was shown.")
    edited_action: EditedAction | None = None
    message: str = Field("", max_length=MAX_TEXT, description="The reason, or the answer to a question.")
    answer: Any = Field(None, description="The answer to a question that takes JSON.")
    decisions: list[CallDecision] | None = Field(None, max_length=200, description="One for each call of the gate.")
    next: Literal["continue", "escalate", "stop"] = Field("continue", description="What follows a rejection.")


class OlderDecision(Asked):
    """A decision on a tool call by its id."""

    decision: Literal["approve", "reject"]
    approver: str = Field("", max_length=200, description="A note; the actor is the token's person.")
    rationale: str = Field("", max_length=MAX_TEXT)


class Resumption(Asked):
    """What to do with a session that asks a question."""

    decision: Literal["resume_with_input", "escalate", "stop"]
    user_input: str = Field("", max_length=MAX_TEXT)
    team: str = Field("", max_length=150)


# Answered -------------------------------------------------------------------------------------------------------


class PendingCall(Answer):
    """One tool call that waits for a decision."""

    tool_call_id: str
    gate_id: int
    agent: str
    tool: str
    args: dict[str, Any]
    risk: str
    reason: str
    digest: str
    expires_at: Instant
    ts: Instant
    kind: str


class DecisionTaken(Answer):
    """A decision as it was written down."""

    id: int
    type: str
    actor: str | None
    channel: str
    message: str
    edited_args: dict[str, Any] | None
    verdicts: list[dict[str, Any]]
    next: str
    approver_note: str
    ts: Instant


class GateRow(Answer):
    """A gate as a list has it."""

    id: int
    session_id: str
    environment: str
    kind: str
    status: str
    headline: str
    agent: str
    tool: str
    tool_call_id: str
    args: dict[str, Any]
    question: str
    risk: str
    weight: int
    reason: str
    allowed: list[str]
    digest: str
    ts: Instant
    expires_at: Instant
    decided_at: Instant | None
    decision: DecisionTaken | None
    refusal: str
    claimed_by: str | None
    drifted: bool
    call_digest: str


class CallOutcome(Answer):
    """What became of one call by this gate: decided, dispatched and executed are three facts."""

    tool_call_id: str
    decided_at: Instant | None
    dispatched_at: Instant | None
    finished_at: Instant | None
    status: str
    result_excerpt: str


class GateAnswer(GateRow):
    """A gate with everything that an approver is shown."""

    calls: list[dict[str, Any]]
    request: Any
    takes_json: bool
    args_schemas: list[dict[str, Any] | None]
    reasoning: str
    rule: str
    rule_version: str
    consequence: dict[str, Any]
    evidence: dict[str, Any]
    response_schema: dict[str, Any] | None
    on_expiry: str
    execution_expires_after: int
    outcome: list[CallOutcome]
    facts: list[dict[str, Any]]
    facts_known: list[dict[str, Any]]
    facts_now: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    fingerprint_now: str


class GatePage(Answer):
    """One page of gates."""

    items: list[GateRow]
    next_cursor: str | None
    total: int


class DecisionAnswer(Answer):
    """A decision, and the gate as it is now."""

    decision: DecisionTaken
    gate: GateAnswer


class OlderDecisionAnswer(Answer):
    """What was decided, in the words of the older path."""

    session_id: str
    tool_call_id: str
    decision: str
    approver: str
    rationale: str
    gate_id: int


class Resumed(Answer):
    """What was done with a session that asked."""

    session_id: str
    decision: str
    status: str


# The queue and its gates ----------------------------------------------------------------------------------------


@router.get("/gates", response=GatePage, tags=["gates"])
def list_gates(
    request: HttpRequest,
    limit: Limit,
    status: Annotated[
        str, Query(description="`pending` (unless said), `decided`, or one or more statuses with commas.")
    ] = "",
    tab: Annotated[str, Query(description=f"A tab of the queue instead: {', '.join(QueueTab.values)}.")] = "",
    tool: str = "",
    environment: str = "",
    risk: str = "",
    graph: str = "",
    agent: str = "",
    requester: str = "",
    mine: Annotated[bool, Query(description="Only of sessions that you requested.")] = False,
    call: Annotated[str, Query(description="Only of identical calls: a gate's `call_digest`.")] = "",
    q: Annotated[str, Query(max_length=200)] = "",
    cursor: str = "",
) -> Any:
    """List gates by status, waiting ones the oldest first, others the newest first; or by tab, as the queue does."""
    viewer = of(request).person
    rows: GateQuerySet = Gate.objects.visible_to(viewer).matching(
        tool=tool, environment=environment, risk=risk, graph=graph, agent=agent, requester=requester, call=call, q=q
    )
    if mine:
        rows = rows.requested_by(viewer)
    total = None
    if tab:
        which = _known_tab(tab, status)
        order = order_of(which)
        total = rows.in_tab(which).count()
        rows = rows.in_tab(which, walk=total > COUNTED_TO)
    else:
        status = known_statuses(status, {*GateStatus.values, DECIDED}) or GateStatus.PENDING
        rows = rows.decided() if status == DECIDED else rows.matching(status=status)
        order = OLDEST_FIRST if status == GateStatus.PENDING else NEWEST_FIRST
    page = page_of(rows, cursor=cursor, limit=limit, order=order, total=total)
    taken = _decisions_on(page.items)
    return {
        "items": [_row(gate, taken.get(gate.pk), viewer) for gate in page.items],
        "next_cursor": page.next_cursor,
        "total": page.total,
    }


def _known_tab(tab: str, status: str) -> QueueTab:
    if status:
        raise Invalid("Ask by status or by tab, not by both.", fields={"tab": "Leave out status."})
    if tab not in QueueTab.values:
        known = ", ".join(QueueTab.values)
        raise Invalid(f"tab: {tab[:40]!r} is none of {known}.", fields={"tab": f"One of {known}."})
    return QueueTab(tab)


@router.get("/gates/{gate_id}", response=GateAnswer, tags=["gates"])
def get_gate(request: HttpRequest, gate_id: GateId) -> Any:
    """Return one gate with everything that an approver is shown."""
    viewer = of(request).person
    return describe_gate(find_gate(Gate.objects.visible_to(viewer), gate_id), viewer)


@router.post("/gates/{gate_id}/decisions", auth=DECIDE, response={201: DecisionAnswer}, tags=["gates"])
def decide_gate(request: HttpRequest, gate_id: GateId, body: DecisionAsked) -> Any:
    """Decide a gate by what was shown of it; whoever comes too late gets the gate as it is now."""
    actor = of(request).person
    gate = find_gate(Gate.objects.all(), gate_id)
    if (body.type is None) == (body.decisions is None):
        raise AnswerUnfit("type: send one for the whole gate, or `decisions` with one for each call.", path="type")
    asks_json = "answer" in body.model_fields_set
    if asks_json and not (gate.takes_json and body.type == "respond"):
        raise AnswerUnfit("answer: goes with respond, on a gate whose `takes_json` is true.", path="answer")
    edited = _edited(body, gate.tool, "")
    try:
        taken = gate.decide(
            body.type if body.type is not None else _verdicts(gate, body.decisions or []),
            actor=actor,
            channel=Channel.API,
            digest=body.digest,
            message=body.message,
            edited_args=edited,
            value=body.answer if asks_json else NOTHING,
            then=body.next,
        )
    except Conflict as late:
        raise with_gate(late, gate, actor) from None
    return Status(201, {"decision": describe_decision(taken), "gate": describe_gate(gate, actor)})


def _verdicts(gate: Gate, decisions: list[CallDecision]) -> list[Verdict]:
    """Return the verdicts in the order of the gate's calls; each call is decided once, by its id."""
    given: dict[str, Verdict] = {}
    tools = {call["tool_call_id"]: call["tool"] for call in gate.calls}
    for position, one in enumerate(decisions):
        where = f"decisions.{position}."
        if one.tool_call_id not in tools or one.tool_call_id in given:
            what = "is decided twice" if one.tool_call_id in given else "is none of this gate's calls"
            raise AnswerUnfit(f"{where}tool_call_id: {one.tool_call_id!r} {what}.", path=f"{where}tool_call_id")
        args = _edited(one, tools[one.tool_call_id], where)
        given[one.tool_call_id] = Verdict(type=DecisionType(one.type), message=one.message, args=args)
    if missing := [call_id for call_id in tools if call_id not in given]:
        raise AnswerUnfit(f"decisions: lacks {', '.join(missing)}; the calls are answered together.", path="decisions")
    return [given[call_id] for call_id in tools]


def _edited(asked: DecisionAsked | CallDecision, tool: str, where: str) -> dict[str, Any] | None:
    """Return the arguments of an edit; refuse one without, one where none belongs, and another tool's name."""
    path = f"{where}edited_action"
    if (asked.type == "edit") != (asked.edited_action is not None):
        raise AnswerUnfit(f"{path}: goes with an edit, and an edit needs it.", path=path)
    name = asked.edited_action.name if asked.edited_action else None
    if name and public_name(name) != tool:
        raise AnswerUnfit(
            f"{path}.name: an edit changes the arguments of {tool}; it cannot call {name} instead.",
            path=f"{path}.name",
        )
    return asked.edited_action.args if asked.edited_action else None


# The older paths ------------------------------------------------------------------------------------------------


@router.get("/sessions/{session_id}/approvals", auth=READ, response=list[PendingCall], tags=["gates"])
def list_approvals(request: HttpRequest, session_id: str) -> Any:
    """List the session's tool calls that wait for a decision; its open questions are not among them."""
    gates = Gate.objects.filter(session=find_session(session_id)).pending().order_by("pk")
    return [
        {
            "tool_call_id": call["tool_call_id"],
            "gate_id": gate.pk,
            "agent": gate.agent,
            "tool": call["tool"],
            "args": call["args"],
            "risk": gate.risk,
            "reason": gate.reason,
            "digest": gate.digest,
            "expires_at": instant(gate.expires_at),
            "ts": instant(gate.created_at),
            "kind": gate.kind,
        }
        for gate in gates
        for call in gate.calls
    ]


@router.post(
    "/sessions/{session_id}/approvals/{path:tool_call_id}",
    auth=DECIDE,
    response=OlderDecisionAnswer,
    tags=["gates"],
)
def decide_by_call(request: HttpRequest, session_id: str, tool_call_id: str, body: OlderDecision) -> Any:
    """Approve or reject the one tool call of that id; the graph goes on in the background."""
    actor = of(request).person
    gate = _gate_of_call(find_session(session_id), tool_call_id)
    try:
        gate.decide(
            body.decision,
            actor=actor,
            channel=Channel.API,
            digest=None,
            message=body.rationale,
            approver_note=body.approver,
        )
    except Conflict as late:
        raise with_gate(late, gate, actor) from None
    return {
        "session_id": session_id,
        "tool_call_id": tool_call_id,
        "decision": body.decision,
        "approver": body.approver or actor.get_username(),
        "rationale": body.rationale,
        "gate_id": gate.pk,
    }


@router.post("/sessions/{session_id}/resume", auth=DECIDE, response={202: Resumed}, tags=["gates"])
def resume_session(request: HttpRequest, session_id: str, body: Resumption) -> Any:
    """Answer the session's open question, or hand it over, or stop it; this never lets a tool run."""
    actor = of(request).person
    session = find_session(session_id)
    gate = _open_question(session)
    if body.decision == "stop":
        # The stop cancels the gate, so only whoever could decide it may end the session this way.
        if refusal := gate.refusal_for(actor):
            raise NotYours(refusal)
        session.stop(actor=actor, note=body.user_input)
    else:
        escalates = body.decision == "escalate"
        team = {"team": body.team} if body.team else {}
        handed = f"Hand it over to {body.team}." if body.team else "Hand it over."
        try:
            gate.decide(
                DecisionType.RESPOND,
                actor=actor,
                channel=Channel.API,
                digest=None,
                message=body.user_input or (handed if escalates else ""),
                extra={"action": "escalate", **team} if escalates else None,
            )
        except Conflict as late:
            raise with_gate(late, gate, actor) from None
    session.refresh_from_db()
    return Status(202, {"session_id": session.pk, "decision": body.decision, "status": session.status})


# What sessions say of their gates -------------------------------------------------------------------------------


@receiver(describing, dispatch_uid="gates_of_sessions")
def gates_of_sessions(sessions: Sequence[Session], **kwargs: Any) -> dict[str, dict[str, Any]]:
    """Return, by session, what it waits for and what people have answered it: two queries, however many there are."""
    known: dict[str, dict[str, Any]] = {session.pk: {"user_inputs": []} for session in sessions}
    # Found by their gates, and sorted here: SQLite walks all decisions there are where it may begin with them.
    asked = Gate.objects.filter(session__in=known, kind=GateKind.QUESTION).order_by()
    answers = Decision.objects.filter(gate__in=asked.values("pk"), type=DecisionType.RESPOND)
    for _, session_id, text in sorted(answers.order_by().values_list("pk", "gate__session_id", "message")):
        known[session_id]["user_inputs"].append(text)
    waiting = [session.pk for session in sessions if session.status == SessionStatus.AWAITING_INPUT]
    if waiting:
        # Left to Python, too: by their status SQLite would read all gates that wait.
        gates = Gate.objects.filter(session__in=waiting).order_by().defer(*LONG)
        for gate in sorted(gates, key=lambda gate: -gate.pk):
            if gate.pending:
                # The oldest comes last and stays.
                known[gate.session_id]["pending_intervention"] = _describe_intervention(gate)
    return known


def _describe_intervention(gate: Gate) -> dict[str, Any]:
    return {
        "gate_id": gate.pk,
        "kind": gate.kind,
        "headline": gate.headline,
        "agent": gate.agent,
        "tool": gate.tool or None,
        "tool_call_id": gate.tool_call_id or None,
        "args": gate.args,
        "question": gate.question or None,
        "risk": gate.risk or None,
        "reason": gate.reason,
        "digest": gate.digest,
        "expires_at": instant(gate.expires_at),
        "ts": instant(gate.created_at),
    }


# Gates become shapes --------------------------------------------------------------------------------------------


def describe_gate(gate: Gate, viewer: Any) -> dict[str, Any]:
    """Return one gate with everything that an approver is shown."""
    decision = gate.decision
    return {
        **_row(gate, decision, viewer),
        "calls": gate.calls,
        "request": gate.request,
        "takes_json": gate.takes_json,
        "args_schemas": [gate.args_schema(position) for position in range(len(gate.calls))],
        "reasoning": gate.reasoning,
        "rule": gate.rule,
        "rule_version": gate.rule_version,
        "consequence": gate.consequence,
        "evidence": gate.evidence,
        "response_schema": gate.response_schema,
        "on_expiry": gate.on_expiry,
        "execution_expires_after": round(gate.execution_expires_after.total_seconds()),
        "outcome": [_describe_outcome(outcome) for outcome in outcomes_of(gate, decision)],
        "facts": gate.facts,
        "facts_known": gate.facts_known,
        "facts_now": gate.facts_now,
        "changes": gate.changes,
        "fingerprint_now": gate.fingerprint_now,
    }


def _row(gate: Gate, decision: Decision | None, viewer: Any) -> dict[str, Any]:
    return {
        "id": gate.pk,
        "session_id": gate.session_id,
        "environment": gate.session.environment,
        "kind": gate.kind,
        "status": gate.status,
        "headline": gate.headline,
        "agent": gate.agent,
        "tool": gate.tool,
        "tool_call_id": gate.tool_call_id,
        "args": gate.args,
        "question": gate.question,
        "risk": gate.risk,
        "weight": gate.weight,
        "reason": gate.reason,
        "allowed": gate.allowed,
        "digest": gate.digest,
        "ts": instant(gate.created_at),
        "expires_at": instant(gate.expires_at),
        "decided_at": instant(gate.decided_at),
        "decision": describe_decision(decision) if decision else None,
        "refusal": gate.refusal_for(viewer) if gate.pending else "",
        "claimed_by": gate.held_by.get_username() if gate.held_by else None,
        "drifted": gate.drifted,
        "call_digest": gate.call_digest,
    }


def describe_decision(decision: Decision) -> dict[str, Any]:
    """Return a decision as it was written down."""
    return {
        "id": decision.pk,
        "type": decision.type,
        "actor": decision.actor.get_username() if decision.actor else None,
        "channel": decision.channel,
        "message": decision.message,
        "edited_args": decision.edited_args,
        "verdicts": decision.verdicts,
        "next": decision.next,
        "approver_note": decision.approver_note,
        "ts": instant(decision.created_at),
    }


def _describe_outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "tool_call_id": outcome.call["tool_call_id"],
        "decided_at": instant(outcome.decided_at),
        "dispatched_at": instant(outcome.dispatched_at),
        "finished_at": instant(outcome.finished_at),
        "status": outcome.status,
        "result_excerpt": outcome.excerpt,
    }


def _decisions_on(gates: Sequence[Gate]) -> dict[int, Decision]:
    """Return the last decision on each gate that has one: one query for a page, none where nothing is decided."""
    ended = [gate.pk for gate in gates if not gate.pending]
    rows = Decision.objects.filter(gate__in=ended).select_related("actor").order_by("gate", "pk") if ended else []
    return {decision.gate_id: decision for decision in rows}


# Finding --------------------------------------------------------------------------------------------------------


def find_gate(gates: GateQuerySet, gate_id: int) -> Gate:
    """Return the gate with its session and run, or raise NotFound where these gates have it not."""
    gate = gates.select_related("session", "run").filter(pk=gate_id).first()
    if gate is None:
        raise NotFound(f"There is no gate {gate_id}.")
    return gate


def _gate_of_call(session: Session, tool_call_id: str) -> Gate:
    """Return the gate that asks about that call and no other, or raise.

    A question is not answered here (S25). An unknown outcome asks of a call that was approved once already, so a
    client that only repeats itself must not start it again; and one call's id must not approve its whole batch.
    """
    gates = [
        gate
        for gate in Gate.objects.filter(session=session).select_related("session", "run").order_by("pk")
        if any(call["tool_call_id"] == tool_call_id for call in gate.calls)
    ]
    if not gates:
        raise NotFound(f"No gate of {session.pk} asks about the call {tool_call_id[:120]!r}.")
    gate = next((gate for gate in gates if gate.pending), gates[-1])
    if gate.kind == GateKind.UNKNOWN_OUTCOME or len(gate.calls) > 1:
        raise Conflict(
            f"This needs a closer look than a call's id: decide gate {gate.pk} at /gates/{gate.pk}/decisions.",
            gate_id=gate.pk,
            kind=gate.kind,
        )
    return gate


def _open_question(session: Session) -> Gate:
    """Return the session's oldest open question, or raise Conflict: nothing else is answered in words."""
    gates = Gate.objects.filter(session=session).select_related("session", "run").order_by("pk")
    gate = gates.pending().filter(kind=GateKind.QUESTION).first()
    if gate is None:
        open_calls = gates.pending().exists()
        raise Conflict(
            f"{session.pk} waits for a decision on a tool call, which is not answered here."
            if open_calls
            else f"{session.pk} asks nothing: it is {session.get_status_display()}.",
            status=session.status,
        )
    return gate


def with_gate(late: Conflict, gate: Gate, viewer: Any) -> Conflict:
    """Return the conflict with the gate as it is now in its details."""
    gate.refresh_from_db()
    late.details = {**late.details, "gate": describe_gate(gate, viewer)}
    return late
