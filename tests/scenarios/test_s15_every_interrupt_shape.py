"""S10, S15, S17, S21: however a graph asks, each question surfaces once, and each answer lands on its own call."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.tools import ToolRuntime
from langchain_core.messages import HumanMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send, interrupt

from approvals_app.models import Gate
from sessions_app.agents.context import RunContext
from sessions_app.agents.middleware import gate_middleware
from sessions_app.agents.registry import GraphSpec
from sessions_app.agents.tools import ToolSpec, wire_name
from sessions_app.models import Session
from tests.fakes import RESOLVED, FakeState, ScriptedModel, agent_graph, approval, calling, counting, graph_of, question
from tests.scenarios.conftest import LAB_RULES, Bench

pytestmark = pytest.mark.django_db

Ran = list[dict[str, Any]]
#: Handing something to another agent needs nobody.
DELEGATE = """
[tools."lab:delegate"]
sentence = "hand **${target}** over"
[[risk.rules]]
name = "lab_delegate"
tool = "lab:delegate"
risk = "low"
"""


class Logged(TypedDict, total=False):
    """What a subgraph carries: of all that its parent does, what several may write at once."""

    log: Annotated[list[Any], operator.add]


def agent(name: str, lines: Sequence[Any], tools: Sequence[ToolSpec]) -> Any:
    """Return a scripted agent behind CLM's gates."""
    return create_agent(
        ScriptedModel(lines=list(lines)),
        [tool.tool for tool in tools],
        middleware=gate_middleware(name, tools),
        context_schema=RunContext,
        name=name,
    )


def calls_of(one: Any) -> Callable[..., Any]:
    """Return a node that calls an agent, as those of `incident` do."""

    async def node(state: FakeState, runtime: Runtime[RunContext]) -> FakeState:
        await one.ainvoke({"messages": [HumanMessage("q")]}, context=runtime.context)
        return {"log": [one.name]}

    return node


def side_by_side(**nodes: Any) -> Callable[[], GraphSpec]:
    """Return the spec of a graph that runs its nodes all at once, and ends when all of them have."""

    def build(saver: Any) -> Any:
        builder: Any = StateGraph(FakeState, context_schema=RunContext)
        builder.add_node("ends", lambda state: {"outcome": RESOLVED})
        for name, node in nodes.items():
            builder.add_node(name, node)
            builder.add_edge(START, name)
        builder.add_edge(list(nodes), "ends")
        builder.add_edge("ends", END)
        return builder.compile(checkpointer=saver)

    return lambda: GraphSpec(name="side by side", build=build, nodes=(*nodes, "ends"))


def fixes(target: str, *, number: int = 1) -> list[Any]:
    """Return the script of an agent that asks for one fix."""
    return [calling(("lab:fix", {"target": target}, f"call-{target}-{number}"))]


#: What each of three questions is answered with, and what must have run then.
VERDICTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one": ("approve", {}),
    "two": ("reject", {"message": "not the second"}),
    "three": ("edit", {"edited_args": {"target": "three", "size": 30}}),
}
RAN = [{"target": "one", "size": 1}, {"target": "three", "size": 30}]


def three_branches(ran: Ran) -> Any:
    """Three agents side by side, each in a branch of its own."""
    tool = counting("lab:fix", ran)
    return side_by_side(
        **{f"of_{target}": calls_of(agent(f"of_{target}", fixes(target), [tool])) for target in VERDICTS}
    )


def three_subgraphs(ran: Ran) -> Any:
    """Three subgraphs side by side, each with a subgraph in it, in which an agent asks."""
    tool = counting("lab:fix", ran)

    def wrapped(inner: Any, name: str) -> Any:
        builder: Any = StateGraph(Logged, context_schema=RunContext)
        builder.add_node(name, inner)
        builder.add_edge(START, name)
        builder.add_edge(name, END)
        return builder.compile()

    def outer(target: str) -> Any:
        return wrapped(wrapped(calls_of(agent(f"of_{target}", fixes(target), [tool])), "innermost"), "inner")

    return side_by_side(**{f"outer_{target}": outer(target) for target in VERDICTS})


def three_sent(ran: Ran) -> Any:
    """One node, sent three times at once, each time with another target."""
    tool = counting("lab:fix", ran)

    async def fix(state: Any, runtime: Runtime[RunContext]) -> FakeState:
        one = agent("sent", fixes(state["target"]), [tool])
        await one.ainvoke({"messages": [HumanMessage("q")]}, context=runtime.context)
        return {"log": [state["target"]]}

    def build(saver: Any) -> Any:
        builder: Any = StateGraph(FakeState, context_schema=RunContext)
        builder.add_node("fix", fix)
        builder.add_node("ends", lambda state: {"outcome": RESOLVED})
        builder.add_conditional_edges(START, lambda state: [Send("fix", {"target": target}) for target in VERDICTS])
        builder.add_edge("fix", "ends")
        builder.add_edge("ends", END)
        return builder.compile(checkpointer=saver)

    return lambda: GraphSpec(name="sent", build=build, nodes=("fix", "ends"))


def three_in_a_turn(ran: Ran) -> Any:
    """One agent that asks for three calls in one turn."""
    turn = calling(*(("lab:fix", {"target": target}, f"call-{target}-1") for target in VERDICTS))
    return agent_graph([turn], [counting("lab:fix", ran)])


SHAPES = (three_in_a_turn, three_branches, three_subgraphs, three_sent)


def by_target(bench: Bench, session: Session) -> dict[str, Gate]:
    return {gate.args["target"]: gate for gate in bench.gates(session)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", list(itertools.permutations(VERDICTS)), ids="-".join)
def test_three_questions_answered_in_any_order_land_each_on_its_own_call(
    bench: Bench, shape: Callable[[Ran], Any], order: Sequence[str]
) -> None:
    ran: Ran = []
    session = bench.drive(bench.submit(shape(ran)))
    gates = by_target(bench, session)
    assert set(gates) == set(VERDICTS)
    for target in order:
        session.refresh_from_db()
        # Until the last is answered it waits, and nothing has run (S21).
        assert (session.status, ran) == ("awaiting_input", [])
        decision, given = VERDICTS[target]
        bench.decide(gates[target], decision, **given)
    session = bench.drive(session)
    assert session.status == "resolved"
    assert sorted(ran, key=str) == RAN
    assert set(bench.calls(session).values()) == {"executed", "rejected"}
    rows = {row.args["target"]: row for row in session.tool_calls.all()}
    assert rows["two"].approval_rationale == "not the second"
    assert Gate.objects.filter(session=session).count() == 3


def test_the_same_tool_twice_with_the_same_arguments_is_two_calls(bench: Bench) -> None:
    ran: Ran = []
    turn = calling(("lab:fix", {"target": "one"}, "call-first"), ("lab:fix", {"target": "one"}, "call-second"))
    session = bench.drive(bench.submit(agent_graph([turn], [counting("lab:fix", ran)])))
    gates = {gate.tool_call_id: gate for gate in bench.gates(session)}
    assert len({gate.interrupt_id for gate in gates.values()}) == 2
    bench.decide(gates["call-second"], "approve")
    bench.decide(gates["call-first"], "reject", message="once is enough")
    session = bench.drive(session)
    assert bench.calls(session) == {"call-first": "rejected", "call-second": "executed"}
    assert len(ran) == 1


def test_the_same_call_again_in_the_next_turn_is_asked_about_again(bench: Bench) -> None:
    """S17 and S27: one approval, one execution, and the first verdict is not replayed for the second call."""
    ran: Ran = []
    turns = [calling(("lab:fix", {"target": "one"}, f"call-{number}")) for number in (1, 2)]
    session = bench.drive(bench.submit(agent_graph(turns, [counting("lab:fix", ran)])))
    bench.decide(bench.gate(session))
    session = bench.drive(session)
    assert (session.status, len(ran)) == ("awaiting_input", 1)
    bench.decide(bench.gate(session), "reject", message="once is enough")
    session = bench.drive(session)
    assert (session.status, len(ran)) == ("resolved", 1)


def test_s15_a_gate_of_an_agent_that_is_another_agents_tool_resumes_the_inner_call(bench: Bench, rules: Any) -> None:
    """The inner agent pauses inside the outer agent's call, which is given back and not settled, and runs once."""
    rules(LAB_RULES + DELEGATE)
    ran: Ran = []
    delegated: list[str] = []
    inner = agent("inner", [*fixes("one"), *fixes("two")], [counting("lab:fix", ran)])

    async def delegate(target: str, runtime: ToolRuntime[Any, Any]) -> str:
        result = await inner.ainvoke({"messages": [HumanMessage(target)]}, context=runtime.context)
        delegated.append(target)
        return str(result["messages"][-1].text)

    tool = StructuredTool.from_function(coroutine=delegate, name=wire_name("lab:delegate"), description="Hand it over.")
    spec = ToolSpec(name="lab:delegate", description="d", category="lab", server="lab", idempotent=False, tool=tool)
    session = bench.drive(bench.submit(agent_graph([calling(("lab:delegate", {"target": "x"}, "call-outer"))], [spec])))
    first = bench.gate(session)
    assert (first.agent, first.args, bench.calls(session)["call-outer"]) == ("inner", {"target": "one"}, "approved")
    bench.decide(first)
    session = bench.drive(session)
    second = bench.gate(session)
    assert (second.args, ran) == ({"target": "two"}, [{"target": "one", "size": 1}])
    bench.decide(second, "reject", message="enough")
    session = bench.drive(session)
    assert (session.status, delegated) == ("resolved", ["x"])
    assert ran == [{"target": "one", "size": 1}]
    assert bench.calls(session) == {"call-outer": "executed", "call-one-1": "executed", "call-two-1": "rejected"}


def test_a_question_and_a_call_side_by_side_are_each_answered_by_their_own_kind(bench: Bench) -> None:
    ran: Ran = []
    heard: list[Any] = []

    def asks(state: FakeState) -> FakeState:
        heard.append(interrupt(question("Which region?")))
        return {"log": ["asked"]}

    calls = calls_of(agent("fixer", fixes("one"), [counting("lab:fix", ran)]))
    session = bench.drive(bench.submit(side_by_side(asks=asks, fixer=calls)))
    (asked,) = bench.gates(session, kind="question")
    (call,) = bench.gates(session, kind="tool_approval")
    bench.decide(asked, "respond", message="eu-west")
    session.refresh_from_db()
    assert (session.status, ran) == ("awaiting_input", [])
    bench.decide(call)
    session = bench.drive(session)
    assert session.status == "resolved"
    assert heard[-1] == {"type": "respond", "message": "eu-west"}
    assert len(ran) == 1


def test_one_node_that_asks_twice_opens_two_gates_one_after_the_other(bench: Bench) -> None:
    heard: list[Any] = []

    def asks(state: FakeState) -> FakeState:
        first, second = interrupt(approval("call-a")), interrupt(approval("call-b"))
        heard.append((first["type"], second["type"]))
        return {"outcome": RESOLVED}

    session = bench.drive(bench.submit(graph_of(("asks", asks))))
    bench.decide(bench.gate(session), "approve")
    session = bench.drive(session)
    assert bench.gate(session).tool_call_id == "call-b"
    bench.decide(bench.gate(session), "reject", message="no")
    session = bench.drive(session)
    assert (session.status, heard) == ("resolved", [("approve", "reject")])


BATCH = calling(("lab:fix", {"target": "one"}, "call-one"), ("lab:fix", {"target": "two"}, "call-two"))


def batched(tool: ToolSpec) -> Any:
    """Return LangChain's own middleware as other people's agents use it: it asks once for all calls of a turn."""
    return HumanInTheLoopMiddleware(interrupt_on={tool.wire_name: True}, interrupt_mode="batched")


@pytest.mark.parametrize(("verdict", "targets"), [("approve", ["one", "two"]), ("reject", [])])
def test_a_batched_request_is_one_gate_whose_calls_are_answered_together(
    bench: Bench, verdict: str, targets: list[str]
) -> None:
    ran: Ran = []
    tool = counting("lab:fix", ran)
    spec = agent_graph([BATCH], [tool], guard=lambda name, tools: [batched(tool)])
    session = bench.drive(bench.submit(spec))
    gate = bench.gate(session)
    assert (gate.kind, [call["args"]["target"] for call in gate.calls]) == ("batch", ["one", "two"])
    bench.decide(gate, verdict, message="together")
    assert bench.drive(session).status == "resolved"
    assert sorted(call["target"] for call in ran) == targets


def test_behind_the_ledger_an_approved_batch_runs_nothing_because_it_was_asked_before_its_calls_were_judged(
    bench: Bench,
) -> None:
    """It names no call ids, so its approval is a grant for no row: the calls are refused, not run on a guess (L2)."""
    ran: Ran = []
    tool = counting("lab:fix", ran)

    def guard(name: str, tools: Sequence[ToolSpec]) -> list[Any]:
        first, *_, ledger = gate_middleware(name, tools)
        return [first, batched(tool), ledger]

    session = bench.drive(bench.submit(agent_graph([BATCH], [tool], guard=guard)))
    bench.decide(bench.gate(session))
    session = bench.drive(session)
    assert (session.status, ran) == ("resolved", [])
    assert set(bench.calls(session).values()) == {"rejected"}
