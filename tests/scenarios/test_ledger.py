"""The tool ledger: a gated call runs at most once, with a grant that holds; what a crash cut off is asked about.

Laws L2 and L8; scenarios S5, S9, S11 and S17.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.utils import timezone
from langchain.agents.middleware import AgentMiddleware

from approvals_app.exceptions import AnswerUnfit
from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app import recovery
from sessions_app.agents.middleware import gate_middleware
from sessions_app.models import Session, ToolCall
from tests.fakes import SHAPES, Killed, agent_graph, calling, counting
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db

CALL = "call-of-the-ledger"
TURN = calling(("lab:fix", {"target": "checkout"}, CALL))


class Deadly:
    """What a tool does after its effect: it kills its worker, the first so many times."""

    def __init__(self, times: int = 1) -> None:
        self.left = times

    async def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise Killed


def _cut_off(bench: Bench, ran: list[dict[str, Any]], *, times: int = 1, shape: str = "called") -> tuple[Session, Gate]:
    """Return a session whose approved call killed its worker after the effect, at the gate that asks about it."""
    fix = counting("lab:fix", ran, then=Deadly(times))
    session = bench.drive(bench.submit(agent_graph([TURN], [fix], shape=shape)))
    bench.decide(bench.gate(session))
    bench.kill(session)
    session = bench.recover(session)
    return session, bench.gate(session)


# A crash in the middle of a tool --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_s05_a_call_cut_off_by_a_crash_is_not_run_again_but_asked_about(bench: Bench, shape: str) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _cut_off(bench, ran, shape=shape)
    assert len(ran) == 1
    assert session.status == "awaiting_input"
    assert (gate.kind, gate.reason, gate.tool) == ("unknown_outcome", "unknown_outcome", "lab:fix")
    assert gate.allowed == ["approve", "respond", "reject"]
    assert bench.calls(session) == {CALL: "unknown"}
    assert "run_recovered" in bench.kinds(session)


def test_s05_approving_the_question_runs_the_call_once_more(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _cut_off(bench, ran)
    bench.decide(gate, "approve")
    session = bench.drive(session)
    assert len(ran) == 2
    assert bench.calls(session) == {CALL: "executed"}
    assert session.status == "resolved"


def test_s05_an_answer_to_the_question_is_the_result_and_nothing_runs(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _cut_off(bench, ran)
    bench.decide(gate, "respond", message="I looked: it was restarted.")
    session = bench.drive(session)
    assert len(ran) == 1
    row = session.tool_calls.get()
    assert (row.status, row.result, row.approver) == ("executed", "I looked: it was restarted.", "bob")
    assert session.status == "resolved"


def test_s05_rejecting_the_question_runs_nothing_and_the_session_goes_on(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session, gate = _cut_off(bench, ran)
    bench.decide(gate, "reject", message="leave it")
    session = bench.drive(session)
    assert len(ran) == 1
    assert bench.calls(session) == {CALL: "rejected"}
    assert session.status == "resolved"


@pytest.mark.parametrize("times", [2, 3, 4])
def test_s05_a_call_that_is_cut_off_again_and_again_is_asked_about_each_time(
    bench: Bench, settings: Any, times: int
) -> None:
    settings.CLM_MAX_ATTEMPTS = 9
    ran: list[dict[str, Any]] = []
    session, gate = _cut_off(bench, ran, times=times)
    for again in range(2, times + 1):
        bench.decide(gate, "approve")
        bench.kill(session)
        session = bench.recover(session)
        assert len(ran) == again
        earlier, gate = gate, bench.gate(session)
        assert (gate.kind, gate.pk != earlier.pk) == ("unknown_outcome", True)
    bench.decide(gate, "respond", message="it is done")
    assert bench.drive(session).status == "resolved"
    assert len(ran) == times
    assert session.tool_calls.get().result == "it is done"


def test_s05_the_question_about_an_edited_call_names_the_arguments_that_ran(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran, then=Deadly())])))
    bench.decide(bench.gate(session), "edit", edited_args={"target": "checkout", "size": 7})
    bench.kill(session)
    session = bench.recover(session)
    gate = bench.gate(session)
    assert gate.args == {"target": "checkout", "size": 7}
    bench.decide(gate, "approve")
    bench.drive(session)
    assert ran == [{"target": "checkout", "size": 7}] * 2


def test_s05_a_call_of_an_idempotent_tool_that_was_cut_off_runs_again_unasked(bench: Bench, lab_rules: None) -> None:
    ran: list[dict[str, Any]] = []
    turn = calling(("lab:read", {"target": "log"}, CALL))
    read = counting("lab:read", ran, idempotent=True, then=Deadly())
    session = bench.submit(agent_graph([turn], [read]))
    bench.kill(session)
    session = bench.recover(session)
    assert (session.status, len(ran)) == ("resolved", 2)
    assert bench.calls(session) == {CALL: "executed"}


def test_s05_an_approved_idempotent_call_that_was_cut_off_runs_again_under_the_same_decision(bench: Bench) -> None:
    ran: list[dict[str, Any]] = []
    fix = counting("lab:fix", ran, idempotent=True, then=Deadly())
    session = bench.drive(bench.submit(agent_graph([TURN], [fix])))
    bench.decide(bench.gate(session))
    bench.kill(session)
    session = bench.recover(session)
    assert (session.status, len(ran)) == ("resolved", 2)
    assert Gate.objects.filter(session=session).count() == 1


def test_s05_an_ungated_call_that_was_cut_off_is_asked_about_too(bench: Bench, lab_rules: None) -> None:
    ran: list[dict[str, Any]] = []
    turn = calling(("lab:notify", {"target": "oncall"}, CALL))
    session = bench.submit(agent_graph([turn], [counting("lab:notify", ran, then=Deadly())]))
    bench.kill(session)
    session = bench.recover(session)
    gate = bench.gate(session)
    assert (gate.kind, len(ran)) == ("unknown_outcome", 1)
    bench.decide(gate, "approve")
    session = bench.drive(session)
    assert (session.status, len(ran)) == ("resolved", 2)
    assert bench.calls(session) == {CALL: "executed_with_notify"}


def test_s05_a_run_that_kills_every_worker_ends_in_error_and_its_call_stays_unknown(
    bench: Bench, settings: Any
) -> None:
    settings.CLM_MAX_ATTEMPTS = 1
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran, then=Deadly())])))
    bench.decide(bench.gate(session))
    bench.kill(session)
    recovery.sweep()
    session.refresh_from_db()
    assert session.status == "error"
    assert bench.calls(session) == {CALL: "unknown"}


# The check at the tool itself -----------------------------------------------------------------------------------


def _approved(bench: Bench, ran: list[dict[str, Any]]) -> tuple[Session, ToolCall]:
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)])))
    bench.decide(bench.gate(session))
    return session, session.tool_calls.get()


def _grant_with(row: ToolCall, **changes: Any) -> None:
    assert row.grant
    ToolCall.objects.filter(pk=row.pk).update(grant={**row.grant, **changes})


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda row: ToolCall.objects.filter(pk=row.pk).update(grant=None), "no decision approved it"),
        (lambda row: _grant_with(row, digest="0" * 64), "not the call that was approved"),
        (lambda row: _grant_with(row, rule_version="00000000"), "its rule is not the one"),
        (
            lambda row: _grant_with(row, expires_at=(timezone.now() - timedelta(seconds=1)).isoformat()),
            "its approval has expired",
        ),
        (lambda row: ToolCall.objects.filter(pk=row.pk).update(status="rejected"), "the call is rejected"),
    ],
    ids=["no grant", "another digest", "another rule", "too late", "not approved"],
)
def test_s11_a_call_whose_grant_does_not_hold_is_refused_whatever_the_graph_does(
    bench: Bench, spoil: Any, why: str
) -> None:
    ran: list[dict[str, Any]] = []
    session, row = _approved(bench, ran)
    spoil(row)
    session = bench.drive(session)
    assert ran == []
    assert session.status == "resolved"
    (refused,) = session.events.filter(kind="tool_refused")
    assert why in refused.payload["why"]
    assert refused.payload["tool_call_id"] == CALL
    # A replay that comes here once more is told so, and adds nothing to the log.
    ToolCall.objects.get(pk=row.pk).refuse("the call is rejected")
    assert bench.kinds(session).count("tool_refused") == 1
    # Not "approved" for ever: nothing will run it any more.
    assert bench.calls(session)[CALL] not in {"approved", "pending_approval", "executing"}


def test_s11_without_its_gate_a_gated_call_is_refused_at_the_tool(bench: Bench) -> None:
    def without_the_question(agent: str, tools: Any) -> Any:
        judge, _, ledger = gate_middleware(agent, tools)
        return [judge, ledger]

    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)], guard=without_the_question)))
    assert ran == []
    assert bench.calls(session) == {CALL: "rejected"}
    assert bench.kinds(session).count("tool_refused") == 1


def test_s11_a_forbidden_call_never_runs_and_asks_nobody(bench: Bench, lab_rules: None) -> None:
    ran: list[dict[str, Any]] = []
    turn = calling(("lab:wipe", {"target": "disk"}, CALL))
    session = bench.drive(bench.submit(agent_graph([turn], [counting("lab:wipe", ran)])))
    assert (ran, session.status) == ([], "resolved")
    assert not Gate.objects.filter(session=session).exists()
    assert bench.calls(session) == {CALL: "rejected"}
    assert bench.kinds(session).count("tool_refused") == 1


def test_s11_an_edit_cannot_turn_a_call_into_a_forbidden_one(bench: Bench, lab_rules: None) -> None:
    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)])))
    gate = bench.gate(session)
    with pytest.raises(AnswerUnfit):
        bench.decide(gate, "edit", edited_args={"target": "all"})
    gate.refresh_from_db()
    assert gate.pending
    assert ran == []


def test_s11_an_edit_without_arguments_is_refused(make_gate: Any, bob: Any) -> None:
    gate = make_gate()
    with pytest.raises(AnswerUnfit):
        gate.decide("edit", actor=bob, channel=Channel.API, digest=gate.digest)


@pytest.mark.parametrize("tool", ["lab:read", "lab:notify"])
def test_s24_a_call_that_needs_no_approval_does_not_start_once_the_session_is_stopped(
    bench: Bench, lab_rules: None, tool: str
) -> None:
    """Another process stops it while the model thinks: the drive is cancelled at its next renewal, the tool at once."""
    ran: list[dict[str, Any]] = []
    sessions: list[Session] = []

    async def stopped_meanwhile() -> Any:
        await database_sync_to_async(sessions[0].stop)()
        return calling((tool, {"target": "x"}, CALL))

    session = bench.submit(agent_graph([stopped_meanwhile], [counting(tool, ran)]))
    sessions.append(session)
    session = bench.drive(session)
    assert session.status == "stopped"
    assert ran == []


# Replays --------------------------------------------------------------------------------------------------------


class Falls(AgentMiddleware[Any, Any]):
    """Stands between the question and the ledger, and kills the worker there the first so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.deadly = Deadly(times)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        await self.deadly()
        return await handler(request)


@pytest.mark.parametrize("shape", SHAPES)
def test_s17_a_call_that_is_tried_four_times_has_one_gate_one_decision_and_one_execution(
    bench: Bench, settings: Any, shape: str
) -> None:
    """The worker dies between the decision and the tool, three times: the same call again, never another question."""
    settings.CLM_MAX_ATTEMPTS = 9
    falls = Falls(3)

    def deadly(agent: str, tools: Any) -> Any:
        *before, ledger = gate_middleware(agent, tools)
        return [*before, falls, ledger]

    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)], shape=shape, guard=deadly)))
    bench.decide(bench.gate(session))
    for _ in range(3):
        bench.kill(session)
        recovery.sweep()
    session = bench.drive(session)
    assert (session.status, len(ran)) == ("resolved", 1)
    (gate,) = Gate.objects.filter(session=session)
    assert gate.decisions.count() == 1


def test_a_rerun_whose_model_repeats_a_call_id_asks_again_and_runs_again(bench: Bench) -> None:
    """A model behind a cache gives the same ids on a rerun: an old result must not pass for a new execution."""

    def as_in_the_incident_graph(agent: str, tools: Any) -> Any:
        return gate_middleware(agent, tools, unique_ids=True)

    ran: list[dict[str, Any]] = []
    session = bench.drive(bench.submit(agent_graph([TURN], [counting("lab:fix", ran)], guard=as_in_the_incident_graph)))
    bench.decide(bench.gate(session))
    session = bench.drive(session)
    assert (session.status, len(ran)) == ("resolved", 1)

    session.rerun()
    session = bench.drive(session)
    assert session.status == "awaiting_input"
    bench.decide(bench.gate(session))
    session = bench.drive(session)
    assert (session.status, len(ran)) == ("resolved", 2)
