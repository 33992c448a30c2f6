"""S22: a retry after a first agent that failed finds a phantom pause."""

from __future__ import annotations

from typing import Any, cast

import pytest
from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from approvals_app.models import Gate
from sessions_app.agents.context import RunContext
from sessions_app.models import ToolCall
from tests.fakes import RESOLVED, FakeState, agent_graph, approval, calling, counting, graph_of
from tests.scenarios.conftest import Bench, until

pytestmark = pytest.mark.django_db

AGENTS = ("triage", "deep_investigator", "resolution")


def _agents(failing: str, seen: list[str], *, parallel: bool = False) -> Any:
    """Return three agents in a row: `failing` fails the first time, `resolution` asks before it ends."""
    failed: list[str] = []

    def agent(name: str) -> Any:
        def node(state: FakeState) -> FakeState:
            seen.append(name)
            if name == failing and not failed:
                failed.append(name)
                raise RuntimeError(f"{name} is away")
            if name == "resolution":
                answer = interrupt(approval(f"call-{len(seen)}"))
                return {"log": [answer["type"]], "outcome": RESOLVED}
            return {"log": [name]}

        return node

    return graph_of(*((name, agent(name)) for name in AGENTS), parallel=parallel)


@pytest.mark.parametrize("failing", AGENTS)
@pytest.mark.parametrize("parallel", [False, True], ids=["in a row", "side by side"])
def test_s22_a_rerun_after_a_failure_in_any_agent_starts_clean(bench: Bench, failing: str, parallel: bool) -> None:
    seen: list[str] = []
    session = bench.drive(bench.submit(_agents(failing, seen, parallel=parallel)))
    assert session.status == "error"
    assert f"{failing} is away" in session.resolution
    assert not Gate.objects.filter(session=session).exists()

    seen.clear()
    rerun = session.rerun()
    assert rerun.thread_id != session.runs.first().thread_id  # type: ignore[union-attr]
    session = bench.drive(session)
    assert sorted(seen) == sorted(AGENTS)
    assert session.status == "awaiting_input"
    assert session.ended_at is None
    bench.decide(bench.gate(session))
    session = bench.drive(session)
    assert session.status == "resolved"
    assert Gate.objects.filter(session=session).count() == 1
    assert [event.payload["to"] for event in session.events.status_changes()] == [
        "in_progress",
        "error",
        "in_progress",
        "awaiting_input",
        "in_progress",
        "resolved",
    ]


def test_s22_a_rerun_after_a_failure_behind_a_decided_gate_asks_anew(bench: Bench) -> None:
    failed: list[str] = []

    def asks(state: FakeState) -> FakeState:
        interrupt(approval("call-first"))
        return {"log": ["asked"]}

    def fails_once(state: FakeState) -> FakeState:
        if not failed:
            failed.append("failed")
            raise RuntimeError("the model is away")
        return {"outcome": RESOLVED}

    session = bench.drive(bench.submit(graph_of(("asks", asks), ("fails", fails_once))))
    first = bench.gate(session)
    bench.decide(first)
    assert bench.drive(session).status == "error"
    session.rerun()
    session = bench.drive(session)
    assert session.status == "awaiting_input"
    second = bench.gate(session)
    assert second.interrupt_id != first.interrupt_id
    bench.decide(second)
    assert bench.drive(session).status == "resolved"


def test_s22_a_failure_beside_a_question_leaves_no_call_waiting_for_a_decision_that_nobody_can_make(
    bench: Bench,
) -> None:
    """An agent asks, then the one beside it fails: the run failed, no gate opened, and the ledger says so."""
    turn = calling(("lab:fix", {"target": "one"}, "call-one"))
    agent = agent_graph([turn], [counting("lab:fix", [])], shape="called")().build(cast(Any, None))

    async def asking(state: FakeState, runtime: Runtime[RunContext]) -> Any:
        await agent.ainvoke({"messages": [HumanMessage("q")]}, context=runtime.context)
        return {"log": ["asked"]}

    async def failing(state: FakeState) -> Any:
        await until(ToolCall.objects.filter(status="pending_approval").exists)
        raise RuntimeError("the model is away")

    session = bench.drive(bench.submit(graph_of(("asking", asking), ("failing", failing), parallel=True)))
    assert session.status == "error"
    assert not Gate.objects.filter(session=session).exists()
    assert "pending_approval" not in bench.calls(session).values()
