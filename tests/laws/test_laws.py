"""The laws of design.md, held against everything that may happen to sessions, in any order.

Hypothesis plays submit, claim, pause, decide, expire, stop, rerun and crash against the real models; after every
step the laws are read from the database. Each example is a transaction of its own that is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import RequestFactory
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from approvals_app.exceptions import AnswerUnfit, GateCancelled, GateDecided, GateExpired, NotYours, ShownOutdated
from approvals_app.models import Gate
from approvals_app.states import STATUS_AFTER, Channel, DecisionType, GateKind
from clm_site.context import desk
from sessions_app import recovery
from sessions_app.agents.context import Judgement
from sessions_app.agents.registry import Outcome
from sessions_app.exceptions import ConcurrentRun, LeaseLost, ToolRefused, TransitionRefused
from sessions_app.models import Run, Session, SessionEvent, ToolCall
from sessions_app.states import ACTIVE_RUNS, OUTCOMES, TERMINAL, TRANSITIONS, SessionStatus
from tests.conftest import question_interrupt, tool_interrupt

PEOPLE = ("alice", "bob", "charlie", "admin")
RULE = Judgement(level="high", reason="high_risk", rule="apply_fix", rule_version="00000001")
PROFILE = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    # Twenty-five steps read well enough, and making them fewer takes minutes.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@contextmanager
def rolled_back() -> Iterator[None]:
    """Open a transaction of which nothing stays; its commit callbacks never run."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def run_out(gate: Gate) -> None:
    """Let a gate's time be over."""
    Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=timezone.now() - timedelta(seconds=1))


def interrupts_of(run: Run, kinds: list[str]) -> list[dict[str, Any]]:
    """Return what a graph would ask, with the ledger's row of each call."""
    asked = []
    for kind in kinds:
        found = question_interrupt() if kind == "question" else tool_interrupt()
        if kind == "tool":
            value = found["value"]
            ToolCall.enter(
                session_id=run.session_id,
                run_id=run.pk,
                attempt=run.attempt,
                agent="resolution",
                tool_call_id=value["tool_call_id"],
                tool="local_remediation:apply_fix",
                args=value["args"],
                reasoning="",
                idempotent=False,
                judge=lambda: RULE,
            )
        asked.append(found)
    return asked


class Desk(RuleBasedStateMachine):
    """Sessions and everything that may happen to them."""

    people: ClassVar[dict[str, User]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._undo = rolled_back()
        self._undo.__enter__()
        self._before = False
        #: What workers hold in their hands, the newest last: some of it is no longer theirs.
        self.held: list[Run] = []
        self.ended_gates: dict[int, str] = {}
        self.ran: dict[int, int] = {}
        self.world = World()

    def teardown(self) -> None:
        self._undo.__exit__(None, None, None)

    # What happens ---------------------------------------------------------------------------------------------

    @initialize()
    def first(self) -> None:
        self.submit("alice")

    @precondition(lambda self: len(self.world.sessions) < 3)
    @rule(who=st.sampled_from(["alice", "bob"]))
    def submit(self, who: str) -> None:
        Session.submit(query="q", environment="dev", requester=self.people[who])

    @precondition(lambda self: self.world.has(Run, "pending"))
    @rule(which=st.integers(0, 9))
    def claim(self, which: int) -> None:
        run = self._one(Run.objects.claimable(), which)
        assert run.claim("elsewhere:1:0")
        self.held.append(run)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9), kinds=st.lists(st.sampled_from(["tool", "question"]), min_size=1, max_size=3))
    def pause(self, which: int, kinds: list[str]) -> None:
        run = self._held(which)
        asked = interrupts_of(run, kinds) if self._before else [question_interrupt()]
        assert run.pause(asked, checkpoint_id="c") == self._before

    @precondition(lambda self: self.world.has(Run, "pending"))
    @rule(which=st.integers(0, 9), kinds=st.lists(st.sampled_from(["tool", "question"]), min_size=1, max_size=3))
    def drive_to_a_pause(self, which: int, kinds: list[str]) -> None:
        """What happens most, so that the examples get far."""
        self.claim(which)
        self.pause(0, kinds)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9), status=st.sampled_from(sorted(OUTCOMES)))
    def finish(self, which: int, status: str) -> None:
        run = self._held(which)
        assert run.finish(Outcome(status=SessionStatus(status), resolution="so")) == self._before

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def fail(self, which: int) -> None:
        run = self._held(which)
        assert run.fail("the model is away") == self._before

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        run = self._held(which)
        assert run.release(cause="server stopped", counts=False) == self._before

    @precondition(lambda self: self.world.has(Run, "running"))
    @rule(which=st.integers(0, 9))
    def lose_the_lease(self, which: int) -> None:
        run = self._one(Run.objects.filter(status="running"), which)
        Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))

    @precondition(lambda self: self.world.has(Gate, "pending"))
    @rule(which=st.integers(0, 9))
    def let_a_gate_run_out(self, which: int) -> None:
        run_out(self._one(Gate.objects.pending(), which))

    @precondition(lambda self: self.world.has(Gate, "pending"))
    @rule(which=st.integers(0, 9), on_expiry=st.sampled_from(["stop", "escalate"]))
    def let_a_gate_be_of_a_rule_that_ends_the_session(self, which: int, on_expiry: str) -> None:
        Gate.objects.filter(pk=self._one(Gate.objects.pending(), which).pk)._raw_update(on_expiry=on_expiry)

    @precondition(lambda self: any(row.status == "approved" for row in self.world.calls))
    @rule(which=st.integers(0, 9))
    def let_an_approval_run_out(self, which: int) -> None:
        row = self._one(ToolCall.objects.filter(status="approved").order_by("pk"), which)
        late = (timezone.now() - timedelta(seconds=1)).isoformat()
        ToolCall.objects.filter(pk=row.pk).update(grant={**row.grant, "expires_at": late})

    @rule()
    def sweep(self) -> None:
        recovery.sweep()
        assert not Gate.objects.overdue().exists()
        assert not ToolCall.objects.overdue().exists()
        assert not Run.objects.stalled().exists()

    @precondition(lambda self: self.world.gates)
    @rule(
        which=st.integers(0, 9),
        decision=st.sampled_from(DecisionType.values),
        who=st.sampled_from(["bob", "bob", "bob", "admin", "alice", "charlie"]),
        digest=st.sampled_from(["shown", "shown", "shown", "none", "other"]),
    )
    def decide(self, which: int, decision: str, who: str, digest: str, gate: Gate | None = None) -> None:
        """Somebody decides some gate, rightly or not; the decided ones come last, for the late and the curious."""
        gate = gate or self._one(Gate.objects.order_by("status", "pk").reverse(), which)
        person = self.people[who]
        expected = self._refusal(gate, decision, person, digest)
        named = {"shown": gate.digest, "none": None, "other": "0" * 64}[digest]
        before = (gate.decisions.count(), gate.session.runs.count())
        args: dict[str, Any] = (
            {"edited_args": {"service": "checkout", "action": "restart"}} if decision == "edit" else {}
        )
        given: dict[str, Any] = {"actor": person, "channel": Channel.API, "digest": named, "message": "because", **args}
        if expected is None:
            taken = gate.decide(decision, **given)
            assert (taken.actor, taken.type, taken.digest) == (person, decision, gate.digest)
            return
        with pytest.raises(expected):
            gate.decide(decision, **given)
        if expected is not GateExpired:
            assert (gate.decisions.count(), gate.session.runs.count()) == before

    @precondition(lambda self: self.world.has(Gate, "pending"))
    @rule(approve=st.booleans(), digest=st.sampled_from(["shown", "shown", "none", "other"]))
    def decide_the_next(self, approve: bool, digest: str) -> None:
        """What happens most: bob works through the queue."""
        gate = Gate.objects.pending().earliest("pk")
        decision = "respond" if gate.kind == GateKind.QUESTION else "approve" if approve else "reject"
        self.decide(0, decision, "bob", digest, gate=gate)

    @precondition(lambda self: any("reject" in gate.allowed for gate in self.world.gates if gate.pending))
    @rule(then=st.sampled_from(["stop", "escalate"]))
    def reject_and_end(self, then: str) -> None:
        """Bob rejects a call and ends its session with it."""
        gate = next(gate for gate in Gate.objects.pending().order_by("pk") if "reject" in gate.allowed)
        person = self.people["bob"]
        given: dict[str, Any] = {"channel": Channel.API, "digest": gate.digest, "message": "enough"}
        if expected := self._refusal(gate, "reject", person, "shown"):
            with pytest.raises(expected):
                gate.decide("reject", actor=person, then=then, **given)
            return
        assert gate.decide("reject", actor=person, then=then, **given).next == then
        gate.session.refresh_from_db()
        assert gate.session.status == {"stop": "stopped", "escalate": "escalated"}[then]

    @precondition(lambda self: self.world.calls)
    @rule(which=st.integers(0, 9), late=st.booleans())
    def dispatch(self, which: int, late: bool) -> None:
        """A graph comes to one of its calls, asked about or not: the ledger lets an approved one through, once.

        `late`: it is a drive whose worker was lost, and another has the run by now.
        """
        row = self._one(ToolCall.objects.order_by("pk"), which)
        run = row.session.runs.filter(status="running").first() or row.session.runs.earliest("pk")
        ours = run.status == "running" and not late
        may = row.status == "approved" and ours and row.runs_until > timezone.now()
        try:
            row.claim(run_id=run.pk, attempt=run.attempt - late, tool=row.tool, args=row.args)
        except LeaseLost:
            assert not ours
            return
        except ToolRefused:
            assert ours
            assert not may
            return
        assert may
        self.ran[row.pk] = self.ran.get(row.pk, 0) + 1
        row.settle(result="done", result_kind="text", latency_ms=1)

    @rule(which=st.integers(0, 9), who=st.sampled_from(["alice", None]))
    def stop(self, which: int, who: str | None) -> None:
        session = self._one(Session.objects.order_by("pk"), which)
        was, may = session.status, session.stoppable
        try:
            session.stop(actor=self.people[who] if who else None)
        except TransitionRefused:
            assert not may
        else:
            assert may
            session.refresh_from_db()
            assert session.status == (was if was in TERMINAL else "stopped")

    @rule(which=st.integers(0, 9))
    def rerun(self, which: int) -> None:
        session = self._one(Session.objects.order_by("pk"), which)
        why = session.why_no_rerun()
        try:
            session.rerun()
        except ConcurrentRun:
            assert why
        else:
            assert not why

    @precondition(lambda self: self.world.has(Session, "duplicate"))
    @rule(which=st.integers(0, 9))
    def retract(self, which: int) -> None:
        session = self._one(Session.objects.filter(status="duplicate").order_by("pk"), which)
        session.retract_duplicate()

    # What is picked -------------------------------------------------------------------------------------------

    def _one(self, rows: Any, which: int) -> Any:
        found = list(rows)
        return found[which % len(found)]

    def _held(self, which: int) -> Run:
        run = self.held[-1 - which % len(self.held)]
        self._before = self._is_mine(run)
        return run

    def _is_mine(self, run: Run) -> bool:
        return Run.objects.filter(pk=run.pk, status="running", worker=run.worker, attempt=run.attempt).exists()

    def _refusal(self, gate: Gate, decision: str, person: User, digest: str) -> type[Exception] | None:
        """Return what must stand in the decision's way, from the contract and not from the code."""
        if person.username in {"alice", "charlie"} or gate.session.requester_id == person.pk:
            return NotYours
        if gate.status == "cancelled":
            return GateCancelled
        if gate.status == "expired" or (gate.pending and gate.expires_at <= timezone.now()):
            return GateExpired
        if not gate.pending:
            return GateDecided
        if digest == "other":
            return ShownOutdated
        asks_text = gate.kind == GateKind.QUESTION
        if (decision == "respond") != asks_text:
            return AnswerUnfit
        return None

    # The laws -------------------------------------------------------------------------------------------------

    @invariant()
    def the_laws_hold(self) -> None:
        """Read everything once, then hold each law against it."""
        world = self.world = World()
        law_1_a_session_awaits_input_if_and_only_if_it_has_an_undecided_gate(world)
        law_2_a_gated_call_runs_at_most_once_and_only_approved(world, self.ran)
        law_3_every_gate_has_at_most_one_end_with_an_actor_or_a_rule_and_keeps_it(world, self.ended_gates)
        law_4_the_answer_of_each_interrupt_is_the_decision_on_its_own_gate(world)
        law_5_badge_list_and_total_are_the_same(world, self.people["bob"])
        law_7_replaying_the_events_gives_the_status(world)
        law_8_a_session_has_ended_or_waits_or_has_exactly_one_run_that_goes_on(world)


class World:
    """Everything that the database says, read once."""

    def __init__(self) -> None:
        self.sessions = list(Session.objects.order_by("pk"))
        self.runs = list(Run.objects.order_by("pk"))
        self.calls = list(ToolCall.objects.order_by("pk"))
        self.gates = list(Gate.objects.order_by("pk").prefetch_related("decisions"))
        self.events = list(SessionEvent.objects.order_by("seq"))

    def has(self, model: type[Session | Run | Gate], status: str) -> bool:
        rows: dict[type, list[Any]] = {Session: self.sessions, Run: self.runs, Gate: self.gates}
        return any(row.status == status for row in rows[model])

    def gates_of(self, session_id: str) -> list[Gate]:
        return [gate for gate in self.gates if gate.session_id == session_id]

    def events_of(self, session_id: str) -> list[SessionEvent]:
        return [event for event in self.events if event.session_id == session_id]


def law_1_a_session_awaits_input_if_and_only_if_it_has_an_undecided_gate(world: World) -> None:
    for session in world.sessions:
        waits = any(gate.pending for gate in world.gates_of(session.pk))
        assert (session.status == "awaiting_input") == waits


def law_2_a_gated_call_runs_at_most_once_and_only_approved(world: World, ran: dict[int, int]) -> None:
    for row in world.calls:
        if row.status in {"approved", "executing", "executed"}:
            (gate,) = [gate for gate in world.gates_of(row.session_id) if gate.tool_call_id == row.tool_call_id]
            assert gate.status in {"approved", "edited"}
            (decision,) = gate.decisions.all()
            assert row.grant is not None
            assert row.grant["decision"] == decision.pk
        told = [
            event for event in world.events_of(row.session_id) if event.payload.get("tool_call_id") == row.tool_call_id
        ]
        dispatched = [event.payload["decision_id"] for event in told if event.kind == "tool_dispatched"]
        lapsed = [event.payload["decision_id"] for event in told if event.kind == "tool_lapsed"]
        decision_of_grant = [row.grant["decision"]] if row.grant else []
        assert dispatched == (decision_of_grant if row.pk in ran else [])
        assert lapsed == (decision_of_grant if row.lapsed else [])
    assert all(times == 1 for times in ran.values())


def law_3_every_gate_has_at_most_one_end_with_an_actor_or_a_rule_and_keeps_it(
    world: World, ended: dict[int, str]
) -> None:
    sessions = {session.pk: session for session in world.sessions}
    for gate in world.gates:
        decisions = list(gate.decisions.all())
        ends = [
            event.kind
            for event in world.events_of(gate.session_id)
            if event.kind in {"gate_decided", "gate_expired", "gate_cancelled"} and event.payload["gate_id"] == gate.pk
        ]
        if gate.pending:
            assert (decisions, ends, gate.decided_at) == ([], [], None)
            assert not sessions[gate.session_id].ended
            continue
        assert gate.decided_at is not None
        assert ended.setdefault(gate.pk, gate.status) == gate.status
        if gate.status in {"expired", "cancelled"}:
            assert (decisions, ends) == ([], [f"gate_{gate.status}"])
            if gate.status == "expired":
                # The rule that ended the session is named, and a gate that only rejects ends none.
                named = [
                    event.payload["to"]
                    for event in world.events_of(gate.session_id)
                    if event.kind == "session.status_changed" and event.payload["cause"] == f"gate {gate.pk} expired"
                ]
                assert named == {"stop": ["stopped"], "escalate": ["escalated"], "reject": []}[gate.on_expiry]
        else:
            (decision,) = decisions
            assert (decision.actor_id is not None, ends) == (True, ["gate_decided"])
            assert STATUS_AFTER[DecisionType(decision.type)] == gate.status


def law_4_the_answer_of_each_interrupt_is_the_decision_on_its_own_gate(world: World) -> None:
    answered = set()
    for run in world.runs:
        for interrupt_id, answer in run.answers.items():
            (gate,) = [gate for gate in world.gates_of(run.session_id) if gate.interrupt_id == interrupt_id]
            assert gate.pk not in answered
            answered.add(gate.pk)
            assert answer == gate.answer
            approves = isinstance(answer, dict) and answer.get("type") in {"approve", "edit"}
            assert approves == (gate.status in {"approved", "edited"})


def law_5_badge_list_and_total_are_the_same(world: World, viewer: User) -> None:
    rows = Gate.objects.visible_to(viewer).pending()
    page = rows.page(limit=200)
    assert rows.count() == len(page.items) == page.total == sum(gate.pending for gate in world.gates)


def law_7_replaying_the_events_gives_the_status(world: World) -> None:
    for session in world.sessions:
        status = SessionStatus.NEW
        events = world.events_of(session.pk)
        for event in events:
            if event.kind == "session.status_changed":
                assert event.payload["from"] == status
                to = SessionStatus(event.payload["to"])
                assert to in TRANSITIONS[status]
                status = to
        assert session.status == status
        assert session.version == len(events)
        assert session.ended == (session.ended_at is not None)


def law_8_a_session_has_ended_or_waits_or_has_exactly_one_run_that_goes_on(world: World) -> None:
    for session in world.sessions:
        active = [run for run in world.runs if run.session_id == session.pk and run.status in ACTIVE_RUNS]
        assert len(active) <= 1
        if session.status == "awaiting_input":
            assert not active
        elif not session.ended:
            assert len(active) == 1
        elif active:
            assert (active[0].kind, active[0].status) == ("rerun", "pending")


@pytest.fixture
def people(request: pytest.FixtureRequest) -> dict[str, User]:
    """Everybody, by name, with their permissions read once."""
    return {name: request.getfixturevalue(name) for name in PEOPLE}


@pytest.mark.django_db
def test_the_laws_hold_whatever_happens_in_whatever_order(people: dict[str, User]) -> None:
    machine = type("Desk", (Desk,), {"people": people})
    run_state_machine_as_test(machine, settings=PROFILE)


FATES = ("waits", "approve", "reject", "expire", "overdue")


@st.composite
def desks(draw: Any) -> list[dict[str, Any]]:
    """Return a few sessions: who asked, where, what became of each of their gates, and whether they were stopped."""
    wanted: list[dict[str, Any]] = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "requester": st.sampled_from(["alice", "bob", "admin"]),
                    "environment": st.sampled_from(["dev", "staging"]),
                    "kinds": st.lists(st.sampled_from(["tool", "question"]), min_size=1, max_size=3),
                    "fates": st.lists(st.sampled_from(FATES), min_size=3, max_size=3),
                    "stopped": st.booleans(),
                    "same_instant": st.booleans(),
                }
            ),
            max_size=4,
        )
    )
    return wanted


@pytest.mark.django_db
@settings(PROFILE, max_examples=25)
@given(
    sessions=desks(),
    limit=st.integers(1, 4),
    filters=st.sampled_from([{}, {"environment": "dev"}, {"tool": "local_remediation:apply_fix"}, {"risk": "high"}]),
)
def test_law_5_badge_list_and_total_are_one_predicate_for_every_viewer(
    people: dict[str, User], rf: RequestFactory, sessions: list[dict[str, Any]], limit: int, filters: dict[str, str]
) -> None:
    with rolled_back():
        for wanted in sessions:
            _play(people, wanted)
        for name, viewer in people.items():
            rows = Gate.objects.visible_to(viewer).pending()
            request = rf.get("/")
            request.user = viewer
            badge = int(str(desk(request)["waiting"]))
            assert badge == rows.count() == rows.page(limit=limit).total
            assert [gate.pk for gate in _walk(rows, limit)] == [
                gate.pk for gate in Gate.objects.order_by("created_at", "pk") if gate.pending and name != "charlie"
            ]
            narrowed = rows.matching(**filters)
            assert len(_walk(narrowed, limit)) == narrowed.page(limit=1).total


def _play(people: dict[str, User], wanted: dict[str, Any]) -> None:
    session = Session.submit(query="q", environment=wanted["environment"], requester=people[wanted["requester"]])
    run = session.runs.get()
    assert run.claim("elsewhere:1:0")
    assert run.pause(interrupts_of(run, wanted["kinds"]), checkpoint_id="c")
    gates = list(session.gates.order_by("pk"))
    if wanted["same_instant"]:
        Gate.objects.filter(session=session)._raw_update(created_at=session.created_at)
    decider = people["bob" if wanted["requester"] != "bob" else "admin"]
    for gate, fate in zip(gates, wanted["fates"], strict=False):
        if fate in {"approve", "reject"}:
            decision = fate if gate.kind != GateKind.QUESTION else "respond"
            gate.decide(decision, actor=decider, channel=Channel.API, digest=gate.digest, message="because")
        elif fate in {"expire", "overdue"}:
            run_out(gate)
            if fate == "expire":
                gate.refresh_from_db()
                assert gate.expire()
    session.refresh_from_db()
    if wanted["stopped"] and not session.ended:
        session.stop()


def _walk(rows: Any, limit: int) -> list[Gate]:
    page = rows.page(limit=limit)
    seen: list[Gate] = list(page.items)
    while page.next_cursor:
        page = rows.page(limit=limit, cursor=page.next_cursor)
        seen += page.items
    return seen
