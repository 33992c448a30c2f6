"""Asking the agent at a gate: it answers from what it has read, and nothing else happens."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from approvals_app import asking
from approvals_app.exceptions import AnswerUnfit, GateCancelled, GateDecided, GateExpired, NotYours
from approvals_app.models import Gate, Inquiry, Reply
from approvals_app.models.inquiry import MOST_ON_A_GATE
from approvals_app.states import Channel
from sessions_app import engine as engine_module
from sessions_app import recovery
from sessions_app.agents import config, models, registry
from sessions_app.exceptions import Conflict, LogIsAppendOnly
from sessions_app.models import Session, ToolCall
from tests.fakes import agent_graph, calling, counting, graph_of, pausing, register
from tests.fakes_llm import Answer, FakeModelServer
from tests.scenarios.conftest import LAB_RULES, Bench, until
from tests.scenarios.conftest import bench as bench
from tests.scenarios.conftest import rules as rules
from tests.scenarios.test_engine_life import submit

pytestmark = pytest.mark.django_db

TURNS = [
    calling(("lab:read", {"target": "pool"}, "call-read"), text="I read the pool first."),
    calling(("lab:fix", {"target": "checkout"}, "call-fix"), text="The pool is full. A restart frees it."),
]


def ask(bench: Bench, gate: Gate, text: str = "How full is the pool?", **given: Any) -> Inquiry:
    return Inquiry.ask(gate, text, **{"actor": bench.approver, "channel": Channel.API, **given})


def answered(bench: Bench, inquiry: Inquiry) -> Reply:
    """Let the agent answer, as the engine would."""
    async_to_sync(asking.answer)(inquiry.pk, bench.saver)
    return Reply.objects.get(inquiry=inquiry)


def paused_checkpoint(bench: Bench, gate: Gate) -> str:
    graph = registry.compiled(gate.session.graph, bench.saver)
    state = async_to_sync(graph.aget_state)({"configurable": {"thread_id": gate.run.thread_id}})
    return str(state.config["configurable"]["checkpoint_id"])


def everything_saved(bench: Bench) -> list[Any]:
    """Return each checkpoint of every thread with its writes."""
    return [(row.config, row.checkpoint, row.metadata, row.pending_writes) for row in bench.saver.list(None)]


@pytest.fixture
def gate(bench: Bench, rules: Any) -> Gate:
    """A gate of an agent that has read something before it asked."""
    rules(LAB_RULES)
    read = counting("lab:read", [], idempotent=True, answer='{"pool": {"size": 20, "in_use": 20}}')
    session = bench.drive(bench.submit(agent_graph(TURNS, [read, counting("lab:fix", [])])))
    return bench.gate(session)


def test_it_answers_from_what_was_read_and_the_paused_thread_is_exactly_as_before(bench: Bench, gate: Gate) -> None:
    checkpoint, saved = paused_checkpoint(bench, gate), everything_saved(bench)
    calls = list(ToolCall.objects.values())
    reply = answered(bench, ask(bench, gate))
    assert "read of pool: “pool.in_use: 20”" in reply.text
    assert (reply.checkpoint_id, reply.model, reply.error) == (checkpoint, "offline", "")
    assert paused_checkpoint(bench, gate) == checkpoint
    assert everything_saved(bench) == saved
    assert list(ToolCall.objects.values()) == calls
    gate.refresh_from_db()
    assert (gate.status, gate.session.status) == ("pending", "awaiting_input")
    assert not gate.session.runs.active().exists()
    # And the gate is decided as if nobody had asked.
    bench.decide(gate)
    assert bench.drive(gate.session).status == "resolved"


def test_question_and_answer_stand_in_the_log_with_who_and_from_which_checkpoint(bench: Bench, gate: Gate) -> None:
    reply = answered(bench, ask(bench, gate))
    asked, said = gate.session.events.filter(kind__in=["gate_asked", "gate_answered"]).order_by("seq")
    assert asked.payload == {
        "seal": reply.inquiry.seal(),
        "gate_id": gate.pk,
        "inquiry_id": reply.inquiry_id,
        "actor": "bob",
        "question": "How full is the pool?",
        "channel": "api",
    }
    assert asked.actor == bench.approver
    assert said.payload["answer"] == reply.text
    assert said.payload["checkpoint_id"] == reply.checkpoint_id
    assert said.actor is None


def test_what_was_asked_and_answered_is_never_changed(bench: Bench, gate: Gate) -> None:
    reply = answered(bench, ask(bench, gate))
    for row in (reply, reply.inquiry):
        with pytest.raises(LogIsAppendOnly):
            row.save()
        with pytest.raises(LogIsAppendOnly):
            row.delete()
        table, key = row._meta.db_table, row.pk
        for statement in (f"UPDATE {table} SET text = 'x' WHERE id = %s", f"DELETE FROM {table} WHERE id = %s"):
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
                connection.cursor().execute(statement, [key])


def test_the_requester_and_somebody_without_the_role_may_not_ask(bench: Bench, gate: Gate, charlie: Any) -> None:
    for person, why in ((bench.requester, "alice"), (charlie, "not in the approver group")):
        with pytest.raises(NotYours, match=why):
            ask(bench, gate, actor=person)
    assert not Inquiry.objects.exists()


@pytest.mark.parametrize(
    ("text", "why"), [("  ", "Write what"), ("x" * 1001, "At most 1,000"), ("a\x00b", "no database")]
)
def test_a_question_that_is_none_is_refused(bench: Bench, gate: Gate, text: str, why: str) -> None:
    with pytest.raises(AnswerUnfit, match=why):
        ask(bench, gate, text)
    assert not Inquiry.objects.exists()


def test_one_at_a_time_and_not_for_ever(bench: Bench, gate: Gate) -> None:
    first = ask(bench, gate)
    with pytest.raises(Conflict, match="still answering"):
        ask(bench, gate, "And the disk?")
    answered(bench, first)
    for _ in range(MOST_ON_A_GATE - 1):
        Reply.give(ask(bench, gate), text="so full")
    with pytest.raises(Conflict, match="was asked 20 times"):
        ask(bench, gate)


@pytest.mark.parametrize(("end", "late"), [("decide", GateDecided), ("stop", GateCancelled), ("expire", GateExpired)])
def test_a_gate_that_is_over_answers_nothing_more(bench: Bench, gate: Gate, end: str, late: type[Exception]) -> None:
    if end == "decide":
        bench.decide(gate)
    elif end == "stop":
        gate.session.stop()
    else:
        Gate.objects.swap(gate.pk, gate.status, expires_at=timezone.now() - timedelta(seconds=1))  # type: ignore[arg-type]
    with pytest.raises(late):
        ask(bench, gate)
    assert not Inquiry.objects.exists()


def test_an_answer_that_comes_after_the_decision_is_kept_and_changes_nothing(bench: Bench, gate: Gate) -> None:
    inquiry = ask(bench, gate)
    bench.decide(gate, "reject", message="no")
    session = bench.drive(gate.session)
    assert answered(bench, inquiry).text
    gate.refresh_from_db()
    assert (gate.status, session.status) == ("rejected", "resolved")


# What can go wrong ----------------------------------------------------------------------------------------------


def test_a_model_that_does_not_answer_is_said_and_the_question_can_be_asked_again(
    bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any) -> Any:
        raise ConnectionError("nobody is there")

    real = models.ask
    monkeypatch.setattr(models, "ask", away)
    failed = answered(bench, ask(bench, gate))
    assert (failed.text, failed.error) == ("", "ConnectionError: nobody is there")
    assert failed.inquiry.status == "failed"
    monkeypatch.setattr(models, "ask", real)
    assert answered(bench, ask(bench, gate)).text


def test_an_answer_has_a_limit(bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*args: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(models, "ask", hangs)
    monkeypatch.setattr(asking, "LIMIT", 0.01)
    assert "did not answer within" in answered(bench, ask(bench, gate)).error


def test_a_crash_leaves_it_unanswered_and_the_sweep_of_an_engine_asks_once_more(
    bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    inquiry = ask(bench, gate)
    assert inquiry.status == "waiting"
    begun: list[int] = []
    monkeypatch.setattr(asking, "begin", begun.append)
    monkeypatch.setattr(engine_module, "running", lambda: object())
    recovery.sweep()
    assert begun == []
    # Longer ago than an answer may take: whoever was at it is gone.
    monkeypatch.setattr(asking, "LIMIT", 0.0)
    assert inquiry.status == "unanswered"
    recovery.sweep(dry_run=True)
    assert begun == []
    recovery.sweep()
    assert begun == [inquiry.pk]
    # So long ago that nobody waits for it.
    monkeypatch.setattr(asking, "TAKEN_UP_FOR", 0.0)
    recovery.sweep()
    assert begun == [inquiry.pk]


def test_a_process_without_an_engine_leaves_it_to_one_that_has(bench: Bench, gate: Gate) -> None:
    inquiry = ask(bench, gate)
    recovery.sweep()
    assert inquiry.status == "waiting"
    assert not Reply.objects.exists()


def test_two_answers_to_one_question_are_one(bench: Bench, gate: Gate) -> None:
    inquiry = ask(bench, gate)
    assert Reply.give(inquiry, text="first")
    assert not Reply.give(inquiry, text="second")
    assert Reply.objects.get().text == "first"
    assert gate.session.events.filter(kind="gate_answered").count() == 1


# From where the answer comes --------------------------------------------------------------------------------------


def test_the_configured_provider_is_asked_with_the_record_and_no_tools(
    bench: Bench, gate: Gate, rules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MODEL_KEY", "sk-test-0123456789")
    with FakeModelServer(Answer(text="The pool is full: in_use 20 of 20."), key="sk-test-0123456789") as server:
        rules(
            LAB_RULES + f'[models]\ndefault = "openai:gpt-4.1"\nbase_url = "{server.openai_url}"\n'
            'api_key_env = "TEST_MODEL_KEY"\n'
        )
        reply = answered(bench, ask(bench, gate))
    assert (reply.text, reply.model) == ("The pool is full: in_use 20 of 20.", "openai:gpt-4.1")
    (request,) = server.chats
    assert "tools" not in request.body
    system, given = (message["content"] for message in request.body["messages"])
    assert "You are the `fixer` agent" in system
    for part in ('called lab:read with {"target": "pool"}', '> {"pool": {"size": 20', "> How full is the pool?"):
        assert part in given


@pytest.mark.parametrize("shape", ["alone", "called", "subgraph"])
def test_the_agent_that_asked_is_found_wherever_it_stands_in_the_graph(bench: Bench, rules: Any, shape: str) -> None:
    rules(LAB_RULES)
    read = counting("lab:read", [], idempotent=True)
    session = bench.drive(bench.submit(agent_graph(TURNS, [read, counting("lab:fix", [])], shape=shape)))
    assert "I said: “A restart frees it.”" in answered(bench, ask(bench, bench.gate(session), "restart?")).text


def test_a_question_gate_and_a_graph_without_agents_can_be_asked_too(bench: Bench) -> None:
    session = bench.drive(bench.submit(graph_of(("asks", pausing))))
    reply = answered(bench, ask(bench, bench.gate(session), "what else did you look at"))
    assert reply.text == "Nothing was looked at."


@pytest.mark.django_db(transaction=True)
async def test_the_running_engine_answers_by_itself(engine: Any, alice: Any, bob: Any) -> None:
    await engine()
    session = await submit(register("asked", graph_of(("asks", pausing))), alice)
    await until(Gate.objects.filter(session=session).pending().exists)

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def put() -> Inquiry:
        return Inquiry.ask(Gate.objects.get(session=session), "what did you read", actor=bob, channel=Channel.PAGE)

    inquiry = await put()
    await until(Reply.objects.filter(inquiry=inquiry).exists)
    assert (await Session.objects.aget(pk=session.pk)).status == "awaiting_input"
    assert config.current().models.default == "offline"
