"""S27 and S9: several questions in a row, and an earlier answer is taken for a later one's."""

from __future__ import annotations

from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from langgraph.types import interrupt

from approvals_app.models import Gate
from sessions_app import recovery, runner
from tests.fakes import (
    RESOLVED,
    SHAPES,
    FakeState,
    Killed,
    agent_graph,
    approval,
    calling,
    counting,
    graph_of,
    question,
)
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("shape", SHAPES)
def test_s27_the_first_call_is_approved_and_the_second_rejected_each_with_its_own_decider(
    bench: Bench, admin: Any, shape: str
) -> None:
    ran: list[dict[str, Any]] = []
    lines = [
        calling(("lab:fix", {"target": "one"}, "call-one")),
        calling(("lab:fix", {"target": "two"}, "call-two")),
    ]
    session = bench.drive(bench.submit(agent_graph(lines, [counting("lab:fix", ran)], shape=shape)))
    first = bench.gate(session)
    bench.decide(first, "approve")
    session = bench.drive(session)
    assert session.status == "awaiting_input"
    assert ran == [{"target": "one", "size": 1}]
    second = bench.gate(session)
    assert (second.tool_call_id, second.interrupt_id == first.interrupt_id) == ("call-two", False)
    bench.decide(second, "reject", by=admin, message="one is enough")
    session = bench.drive(session)
    assert session.status == "resolved"
    assert ran == [{"target": "one", "size": 1}]
    rows = {row.tool_call_id: (row.status, row.approver) for row in session.tool_calls.all()}
    assert rows == {"call-one": ("executed", "bob"), "call-two": ("rejected", "admin")}


def asking_four_times(ran: list[str]) -> Any:
    """Return a node that counts itself, asks four times in a row, and keeps the answers."""

    def node(state: FakeState) -> FakeState:
        ran.append("node")
        answers = [interrupt(question(f"round {number}")) for number in range(1, 5)]
        return {"log": [answer["message"] for answer in answers], "outcome": RESOLVED}

    return node


def test_s09_four_rounds_of_questions_in_one_node_open_one_gate_each_and_end_with_their_own_answers(
    bench: Bench,
) -> None:
    ran: list[str] = []
    session = bench.drive(bench.submit(graph_of(("only", asking_four_times(ran)))))
    for number in range(1, 5):
        gate = bench.gate(session)
        assert gate.question == f"round {number}"
        bench.decide(gate, "respond", message=f"answer {number}")
        session = bench.drive(session)
    assert session.status == "resolved"
    assert Gate.objects.filter(session=session).count() == 4
    assert len(ran) == 5
    assert _log(bench, session) == [f"answer {number}" for number in range(1, 5)]


def test_s09_what_a_tool_did_before_the_questions_is_not_done_again_by_them(bench: Bench, lab_rules: None) -> None:
    ran: list[dict[str, Any]] = []
    lines = [
        calling(("lab:notify", {"target": "oncall"}, "call-notify")),
        calling(("lab:fix", {"target": "one"}, "call-one")),
        calling(("lab:fix", {"target": "two"}, "call-two")),
        calling(("lab:fix", {"target": "three"}, "call-three")),
    ]
    tools = [counting("lab:notify", ran), counting("lab:fix", ran)]
    session = bench.drive(bench.submit(agent_graph(lines, tools)))
    for _ in range(3):
        bench.decide(bench.gate(session))
        session = bench.drive(session)
    assert session.status == "resolved"
    assert [one["target"] for one in ran] == ["oncall", "one", "two", "three"]


@pytest.mark.parametrize("how", ["released", "killed", "stopped"])
@pytest.mark.parametrize("shape", ["one node", "called"])
def test_s27_a_crash_between_the_second_question_and_its_gate_does_not_answer_it_with_the_first_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str, shape: str
) -> None:
    """The checkpoint has the second question, the database has no gate for it yet, and the run is driven again."""

    def two(state: FakeState) -> FakeState:
        first = interrupt(approval("call-one"))
        second = interrupt(approval("call-two"))
        return {"log": [first["type"], second["type"]], "outcome": RESOLVED}

    inner = graph_of(("two", two))().build(cast(Any, None))

    async def called(state: FakeState) -> Any:
        result = await inner.ainvoke({"query": "q"})
        return {"log": result["log"], "outcome": RESOLVED}

    session = bench.drive(bench.submit(graph_of(("only", two if shape == "one node" else called))))
    first = bench.gate(session)
    bench.decide(first, "approve")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("the disk is full")

    async def dies(*args: Any, **kwargs: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if how == "killed":
            patch.setattr("sessions_app.runner._conclude", dies)
            bench.kill(session)
            recovery.sweep()
        elif how == "stopped":
            patch.setattr("sessions_app.runner._conclude", dies)
            run = bench.claim(session)
            with pytest.raises(Killed):
                async_to_sync(runner.execute)(run, bench.saver)
            # What the engine does with a drive that a clean stop cut off.
            assert run.release(cause="server stopped", counts=False)
        else:
            patch.setattr("sessions_app.models.Run.pause", full)
            bench.drive(session)
    session = bench.drive(session)
    assert session.status == "awaiting_input"
    second = bench.gate(session)
    assert second.tool_call_id == "call-two"
    bench.decide(second, "reject", message="no")
    session = bench.drive(session)
    assert _log(bench, session) == ["approve", "reject"]


def _log(bench: Bench, session: Any) -> list[Any]:
    from sessions_app.agents import registry

    run = session.runs.last()
    graph = registry.compiled(session.graph, bench.saver)
    return list(graph.get_state({"configurable": {"thread_id": run.thread_id}}).values["log"])
