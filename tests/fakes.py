"""Small graphs that pause, end and fail as told, shipped so that every test drives the same ones."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from sessions_app.agents import registry
from sessions_app.agents.context import RunContext
from sessions_app.agents.middleware import gate_middleware
from sessions_app.agents.registry import GraphSpec, Outcome
from sessions_app.agents.tools import ToolSpec, wire_name
from sessions_app.states import SessionStatus


class FakeState(TypedDict, total=False):
    """What the fake graphs carry."""

    query: str
    environment: str
    session_id: str
    log: Annotated[list[Any], operator.add]
    outcome: dict[str, Any]


RESOLVED = {"status": "resolved", "resolution": "it is well again"}


def question(text: str) -> dict[str, Any]:
    """Return an interrupt value that asks for text."""
    return {"type": "question", "reason": "asked_by_agent", "agent": "fake", "question": text}


def approval(call_id: str, **args: Any) -> dict[str, Any]:
    """Return an interrupt value that asks whether a call may run."""
    return {
        "type": "tool_approval",
        "tool_call_id": call_id,
        "name": "local_remediation__apply_fix",
        "args": args or {"service": "checkout", "action": "restart"},
        "description": "because",
    }


def graph_of(*nodes: tuple[str, Callable[..., Any]], parallel: bool = False) -> Callable[[], GraphSpec]:
    """Return the spec of a graph whose nodes run one after the other, or all at once."""

    def build(saver: Any) -> Any:
        builder = StateGraph(FakeState, context_schema=RunContext)
        for name, node in nodes:
            builder.add_node(name, node)
        if parallel:
            for name, _ in nodes:
                builder.add_edge(START, name)
                builder.add_edge(name, END)
        else:
            names = [START, *(name for name, _ in nodes), END]
            for before, after in pairwise(names):
                builder.add_edge(before, after)
        return builder.compile(checkpointer=saver)

    return lambda: GraphSpec(name="fake", build=build, nodes=tuple(name for name, _ in nodes))


def register(name: str, make: Callable[[], GraphSpec]) -> str:
    """Put a fake graph in the registry and return its name."""
    registry.register(name, make)
    return name


def pausing(state: FakeState) -> FakeState:
    """Ask once, then end resolved, with the answer in the log."""
    answer = interrupt(approval("call-of-the-pausing-node"))
    return {"log": [answer], "outcome": RESOLVED}


def completing(state: FakeState) -> FakeState:
    """End resolved without asking."""
    return {"outcome": RESOLVED}


def silent(state: FakeState) -> FakeState:
    """End without an outcome."""
    return {"log": ["nothing to say"]}


def failing(state: FakeState) -> FakeState:
    """Raise."""
    raise RuntimeError("the model is away")


# Agents with a script -----------------------------------------------------------------------------------------


class Killed(BaseException):
    """What a tool raises where the process would be gone: nothing of CLM catches it, so nothing is tidied up."""


class ScriptedModel(BaseChatModel):
    """A chat model that gives its lines in order: the n-th to a conversation with n answers in it.

    What it says depends on the conversation alone, so a replay of the same turn gets the same line. A line is a
    message, or what makes one when its turn comes.
    """

    lines: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Take any tools: the script knows which it calls."""
        return self

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        line = self.lines[turn] if turn < len(self.lines) else AIMessage("That is all.")
        said = await line() if callable(line) else line
        return ChatResult(generations=[ChatGeneration(message=said.model_copy(deep=True))])

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("CLM drives its graphs on the event loop.")


def calling(*calls: tuple[str, dict[str, Any], str], text: str = "I would do this.") -> AIMessage:
    """Return one turn of a model: its tool calls, each as public name, arguments and id."""
    return AIMessage(
        text,
        tool_calls=[
            {"name": wire_name(tool), "args": args, "id": call_id, "type": "tool_call"} for tool, args, call_id in calls
        ],
    )


def counting(
    name: str,
    effects: list[dict[str, Any]],
    *,
    idempotent: bool = False,
    then: Callable[[], Awaitable[Any]] | None = None,
    answer: str = "",
) -> ToolSpec:
    """Return a tool that notes every execution in `effects`; `then` comes after the effect, before the result."""

    async def run(target: str, size: int = 1) -> str:
        effects.append({"target": target, "size": size})
        if then is not None:
            await then()
        return answer or f"done: {target} {size}"

    tool = StructuredTool.from_function(coroutine=run, name=wire_name(name), description="Change the target.")
    return ToolSpec(
        name=name,
        description="Change the target.",
        category="lab",
        server=name.partition(":")[0],
        idempotent=idempotent,
        tool=tool,
    )


class TalkState(FakeState, total=False):
    """What a graph with a scripted agent carries."""

    messages: Annotated[list[AnyMessage], add_messages]


def _initial(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "query": given["query"],
        "environment": given["environment"],
        "messages": [HumanMessage(given["query"])],
    }


#: How an agent may stand in a graph: as the graph itself, as one of its nodes, or called by one (as in `incident`).
SHAPES = ("alone", "subgraph", "called")


def agent_graph(
    lines: Sequence[Any],
    tools: Sequence[ToolSpec],
    *,
    shape: str = "called",
    guard: Callable[[str, Sequence[ToolSpec]], Any] = gate_middleware,
) -> Callable[[], GraphSpec]:
    """Return the spec of a graph whose one agent speaks the script; it ends resolved."""

    def build(saver: Any) -> Any:
        agent: Any = create_agent(
            ScriptedModel(lines=list(lines)),
            [tool.tool for tool in tools],
            middleware=guard("fixer", tools),
            context_schema=RunContext,
            checkpointer=saver if shape == "alone" else None,
            name="fixer",
        )
        if shape == "alone":
            return agent

        async def call(state: TalkState, runtime: Runtime[RunContext]) -> dict[str, Any]:
            result = await agent.ainvoke({"messages": state["messages"]}, context=runtime.context)
            return {"messages": result["messages"]}

        builder = StateGraph(TalkState, context_schema=RunContext)
        builder.add_node("fixer", agent if shape == "subgraph" else call)
        builder.add_edge(START, "fixer")
        builder.add_edge("fixer", END)
        return builder.compile(checkpointer=saver)

    return lambda: GraphSpec(
        name="scripted",
        build=build,
        initial=_initial,
        outcome=lambda values: Outcome(status=SessionStatus.RESOLVED, resolution=values["messages"][-1].text),
        nodes=("fixer",),
    )
