"""What a decision writes: the verdict on each call, what follows a rejection, and the seal over all of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from approvals_app import audit
from approvals_app.exceptions import AnswerUnfit
from approvals_app.models import Decision, Gate
from approvals_app.requests import Verdict
from approvals_app.states import Channel, DecisionType
from sessions_app.agents.context import Judgement
from sessions_app.exceptions import ToolRefused
from sessions_app.models import SessionEvent, ToolCall
from tests.conftest import driven, question_interrupt, tool_interrupt

pytestmark = pytest.mark.django_db
APPROVE, EDIT, REJECT = DecisionType.APPROVE, DecisionType.EDIT, DecisionType.REJECT


def decide(gate: Gate, decision: Any, by: User, **given: Any) -> Decision:
    return gate.decide(decision, actor=by, channel=Channel.API, digest=gate.digest, **given)


def enter(session: Any, call_id: str, tool: str, args: dict[str, Any]) -> ToolCall:
    """Put a gated call into the ledger, as the agent's middleware does before it pauses."""
    judgement = Judgement(level="high", reason="high_risk", rule="lab", rule_version="1234")
    run = session.runs.get(status="running")
    row, _ = ToolCall.enter(
        session_id=session.pk,
        run_id=run.pk,
        attempt=run.attempt,
        agent="fixer",
        tool_call_id=call_id,
        tool=tool,
        args=args,
        reasoning="",
        idempotent=False,
        judge=lambda: judgement,
    )
    return row


@pytest.fixture
def batch(make_session: Any, make_gate: Any) -> Gate:
    """A gate with three calls, each in the ledger."""
    session = make_session(status="in_progress")
    actions = [{"name": "lab__fix", "args": {"target": name}, "id": f"call-{name}"} for name in ("one", "two", "three")]
    for action in actions:
        enter(session, str(action["id"]), "lab:fix", action["args"])  # type: ignore[arg-type]
    value = {"action_requests": actions, "review_configs": []}
    gate: Gate = make_gate(session, interrupts=[{"id": "batch", "value": value, "response_schema": None}])
    return gate


def test_each_call_of_a_batch_gets_its_own_grant_or_refusal_in_the_ledger(batch, bob):
    decide(
        batch,
        [
            Verdict(type=APPROVE),
            Verdict(type=REJECT, message="not the second"),
            Verdict(type=EDIT, args={"target": "3b"}),
        ],
        bob,
        message="as discussed",
    )
    rows = {row.tool_call_id: row for row in ToolCall.objects.all()}
    assert {name: row.status for name, row in rows.items()} == {
        "call-one": "approved",
        "call-two": "rejected",
        "call-three": "approved",
    }
    assert (rows["call-two"].grant, rows["call-two"].approval_rationale) == (None, "not the second")
    assert rows["call-three"].effective_args == {"target": "3b"}
    ToolCall.objects.exclude(tool_call_id="call-two").update(status="executed")
    for walk in (False, True):
        # What was rejected did not fail; the rest of it ran.
        assert Gate.objects.in_tab("executed", walk=walk).get() == batch
        assert not Gate.objects.in_tab("failed", walk=walk).exists()
    ToolCall.objects.exclude(tool_call_id="call-two").update(status="approved")
    run = batch.session.runs.latest("pk")
    with driven(run):
        rows["call-one"].claim(run_id=run.pk, attempt=run.attempt, tool="lab:fix", args={"target": "one"})
        with pytest.raises(ToolRefused, match="not the call that was approved"):
            rows["call-three"].claim(run_id=run.pk, attempt=run.attempt, tool="lab:fix", args={"target": "three"})


def test_the_verdicts_are_kept_sealed_and_told(batch, bob):
    verdicts = [Verdict(type=REJECT, message="no"), Verdict(type=APPROVE), Verdict(type=APPROVE)]
    taken = decide(batch, verdicts, bob)
    assert [(one["tool_call_id"], one["type"]) for one in taken.verdicts] == [
        ("call-one", "reject"),
        ("call-two", "approve"),
        ("call-three", "approve"),
    ]
    told = SessionEvent.objects.get(kind="gate_decided").payload
    assert [one["decision"] for one in told["verdicts"]] == ["reject", "approve", "approve"]
    assert told["seal"] == Decision.objects.get().seal()
    batch.session.refresh_from_db()
    assert not list(audit.faults_of(batch.session))
    taken.verdicts[0]["type"] = "approve"
    assert taken.seal() != told["seal"]
    batch.refresh_from_db()
    assert (batch.status, batch.decision.type) == ("approved", "approve")


@pytest.mark.parametrize(
    ("verdicts", "path"),
    [
        ([Verdict(type=APPROVE)], "decisions"),
        ([Verdict(type=APPROVE), Verdict(type=EDIT), Verdict(type=APPROVE)], "decisions.1.edited_action"),
        ([Verdict(type=APPROVE)] * 2 + [Verdict(type=DecisionType.RESPOND)], "decisions.2.message"),
    ],
    ids=["too few", "an edit of nothing", "an empty answer"],
)
def test_a_batch_that_is_not_answered_in_full_writes_nothing(batch, bob, verdicts, path):
    with pytest.raises(AnswerUnfit) as refused:
        decide(batch, verdicts, bob)
    assert refused.value.details["path"] == path
    assert not Decision.objects.exists()
    assert set(ToolCall.objects.values_list("status", flat=True)) == {"pending_approval"}


def test_one_word_for_a_batch_decides_each_of_its_calls(batch, bob):
    assert [one["type"] for one in decide(batch, "reject", bob, message="no").verdicts] == ["reject"] * 3
    assert set(ToolCall.objects.values_list("status", flat=True)) == {"rejected"}


@pytest.mark.parametrize(("tool", "args"), [("lab:fix", {"target": "everything"}), ("lab:drop", {"target": "one"})])
def test_a_grant_is_for_the_call_that_was_shown_whatever_the_ledger_says(make_session, make_gate, bob, tool, args):
    session = make_session(status="in_progress")
    row = enter(session, "call-x", tool, args)
    shown = {"type": "tool_approval", "tool_call_id": "call-x", "name": "lab__fix", "args": {"target": "one"}}
    gate = make_gate(session, interrupts=[{"id": "x", "value": shown, "response_schema": None}])
    decide(gate, "approve", bob)
    row.refresh_from_db()
    run = session.runs.latest("pk")
    with driven(run), pytest.raises(ToolRefused, match="not the call that was approved"):
        row.claim(run_id=run.pk, attempt=run.attempt, tool=tool, args=args)
    row.refuse("it is not the call that was approved")
    assert Gate.objects.in_tab("failed").get() == gate


@pytest.mark.parametrize(("then", "status"), [("stop", "stopped"), ("escalate", "escalated")])
def test_a_rejection_can_end_the_session_in_its_own_transaction(make_gate, bob, then, status):
    first = make_gate(interrupts=[tool_interrupt(), tool_interrupt()])
    second = Gate.objects.latest("pk")
    taken = decide(first, "reject", bob, message="this is for people", then=then)
    first.session.refresh_from_db()
    assert (first.session.status, first.session.resolution) == (status, "this is for people")
    assert first.session.ended_at
    assert taken.next == then
    assert first.session.events.filter(kind="session.status_changed").last().actor == bob
    assert first.session.events.get(kind="gate_decided").payload["next"] == then
    second.refresh_from_db()
    assert (first.status, second.status, first.answer) == ("rejected", "cancelled", None)
    assert not first.session.runs.active().exists()
    assert not list(audit.faults_of(first.session))


def test_what_follows_is_undone_with_the_decision_when_it_fails(make_gate, bob, monkeypatch):
    gate = make_gate()

    def fail(*args, **kwargs):
        raise RuntimeError("the database went away")

    monkeypatch.setattr("sessions_app.models.Session.escalate", fail)
    with pytest.raises(RuntimeError):
        decide(gate, "reject", bob, message="why", then="escalate")
    gate.refresh_from_db()
    assert (gate.pending, gate.session.status, Decision.objects.count()) == (True, "awaiting_input", 0)


@pytest.mark.parametrize("decision", ["approve", "edit"])
def test_only_a_rejection_has_something_that_follows(make_gate, bob, decision):
    with pytest.raises(AnswerUnfit, match="goes with a rejection"):
        decide(make_gate(), decision, bob, edited_args={"service": "cart", "action": "restart"}, then="stop")


def test_a_session_handed_over_can_be_run_again(make_gate, bob, alice):
    gate = make_gate()
    decide(gate, "reject", bob, message="why", then="escalate")
    assert gate.session.rerun(actor=alice).kind == "rerun"


def test_an_answer_in_the_place_of_a_call_runs_nothing(make_session, make_gate, bob):
    session = make_session(status="in_progress")
    row = enter(session, "call-x", "lab:fix", {"target": "one"})
    action = {"name": "lab__fix", "args": {"target": "one"}, "id": "call-x"}
    gate = make_gate(session, interrupts=[{"id": "x", "value": {"action_requests": [action]}, "response_schema": None}])
    decide(gate, "respond", bob, message="I did it by hand")
    row.refresh_from_db()
    assert (row.status, row.result, row.approval_rationale) == ("rejected", "", "I did it by hand")


def test_a_raw_question_keeps_the_json_that_was_answered(make_gate, bob):
    raw = {**question_interrupt(), "value": {"pick": [1, 2]}}
    gate = make_gate(interrupts=[raw])
    taken = decide(gate, "respond", bob, value={"picked": 2})
    gate.refresh_from_db()
    assert (gate.answer, taken.message) == ({"picked": 2}, '{"picked": 2}')


def test_an_expired_question_gets_the_first_refusal_that_its_schema_takes(make_gate):
    raw = {"id": "x", "value": {"pick": [1, 2]}, "response_schema": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
    gate = make_gate(interrupts=[raw])
    Gate.objects.filter(pk=gate.pk)._raw_update(expires_at=timezone.now())
    gate.refresh_from_db()
    assert gate.expire()
    gate.refresh_from_db()
    assert (gate.status, gate.answer) == ("expired", None)
