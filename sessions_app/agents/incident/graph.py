"""The incident graph: intake -> triage -> deep_investigator -> confidence -> resolution.

Each agent is a LangChain agent with its own prompt file and tools, and ends with a `Report`. The state is
JSON and nothing else, so a checkpoint can be read by any later version. A node may run again when its
thread is resumed: before an agent is driven it only writes to the journal, which writes once per key.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, cast

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer, interrupt
from pydantic import ValidationError

from sessions_app.agents.context import Report, RunContext, Usage
from sessions_app.agents.incident import ABOUT, ANSWER, REPORT_OF, SERVICES
from sessions_app.agents.tools import CATALOGUE, ToolSpec, public_name
from sessions_app.agents.tools.inventory import services

ENOUGH = 0.75
#: A model that does not come to an end is stopped after so many turns; what its tools did stays on record.
MOST_TURNS = 30
PROMPTS = Path(__file__).with_name("prompts")
UPDATE = "local_inc:update_incident"
RESOLVED = "local_inc:mark_resolved"
ESCALATED = "local_inc:mark_escalated"
ONCALL = "local_remediation:notify_oncall"


@dataclass(frozen=True, kw_only=True)
class AgentSpec:
    """One agent of the graph: what it may call, and what it is for."""

    name: str
    description: str
    tools: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The agent's system prompt."""
        return _prompt(self.name)

    @property
    def specs(self) -> list[ToolSpec]:
        """The agent's tools, from the catalogue."""
        return [CATALOGUE[name] for name in self.tools]


@lru_cache
def _prompt(agent: str) -> str:
    return (PROMPTS / f"{agent}.md").read_text(encoding="utf-8").strip()


AGENTS: dict[str, AgentSpec] = {
    spec.name: spec
    for spec in (
        AgentSpec(
            name="triage",
            description="Reads health and metrics of the environment; says what is affected, and how badly.",
            tools=("local_observability:get_service_health", "local_observability:get_metrics", UPDATE),
        ),
        AgentSpec(
            name="deep_investigator",
            description="Reads logs, deployments and metrics; forms one hypothesis about the cause.",
            tools=(
                "local_observability:get_logs",
                "local_observability:check_deployment_history",
                "local_observability:get_metrics",
                "local_observability:get_service_health",
                UPDATE,
            ),
        ),
        AgentSpec(
            name="resolution",
            description="Proposes a fix, applies it once allowed, checks that it healed, or hands over.",
            tools=(
                "local_observability:get_service_health",
                "local_observability:get_metrics",
                "local_observability:get_logs",
                UPDATE,
                "local_remediation:propose_fix",
                "local_remediation:apply_fix",
                ONCALL,
                RESOLVED,
                ESCALATED,
            ),
        ),
    )
}


class Outcome(TypedDict):
    """How the graph ended."""

    status: Literal["resolved", "escalated", "needs_review"]
    resolution: str
    team: str | None


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return {**old, **new}


class IncidentState(TypedDict, total=False):
    """The graph's state: JSON values only."""

    query: str
    environment: str
    state_overrides: dict[str, Any]
    intake: dict[str, Any]
    reports: Annotated[dict[str, Any], _merge]
    answer: str
    outcome: Outcome | None


#: What answers the question about confidence.
ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"const": "respond"},
        "message": {"type": "string"},
        "action": {"enum": ["continue", "escalate"]},
        "team": {"type": "string"},
    },
    "required": ["type", "message"],
}


# Intake -----------------------------------------------------------------------------------------------------

_HINTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("database", ("pool", "connection", "database", "sql", "deadlock")),
    ("deployment", ("deploy", "release", "version", "rollout", "rollback")),
    ("memory", ("memory", "leak", "oom", "heap")),
    ("disk", ("disk", "no space", "quota", "volume", "inode")),
    ("latency", ("slow", "latency", "timeout", "timed out")),
    ("errors", ("error", "exception", "5xx", "500", "503", "failing", "crash")),
)
_SEVERE = ("outage", " down", "nobody can", "all customers", "data loss", "critical", "sev1", "p1")


def take_in(query: str, environment: str, known: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Read what rules can read from a query: which services it is about, what kind, how bad.

    `state_overrides` may name `services`, `severity` and `category`; what it names is not guessed.
    """
    text = " ".join(query.split())
    lower = f" {text.lower()}"
    named = overrides.get("services")
    about = (
        [str(name) for name in named if name in known]
        if isinstance(named, list)
        else [name for name in known if name.lower() in lower]
    )
    if (severity := overrides.get("severity")) not in {"low", "medium", "high", "critical"}:
        severe = any(word in lower for word in _SEVERE)
        severity = "high" if severe or environment == "production" else "medium"
    category = overrides.get("category")
    if not isinstance(category, str) or not category:
        category = next((kind for kind, words in _HINTS if any(word in lower for word in words)), "")
    return {
        "query": text,
        "known_services": list(known),
        "services": about or list(known),
        "severity": severity,
        "category": category,
    }


async def intake(state: IncidentState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Normalise the query and guess what it is about, by rules: no model is asked."""
    query = str(state.get("query") or runtime.context.query)
    environment = str(state.get("environment") or runtime.context.environment)
    taken = take_in(query, environment, sorted(services(environment)), state.get("state_overrides") or {})
    return {"query": query, "environment": environment, "intake": taken, "outcome": None}


# The agents -------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """Quote what a person wrote, so that no line of it passes for a heading of the briefing."""
    return "\n".join(f"> {line}" for line in text.splitlines()) or "> "


def briefing(state: IncidentState, session_id: str) -> str:
    """Tell an agent everything that it starts from; every agent starts afresh, with this alone."""
    taken = state.get("intake") or {}
    known = ", ".join(taken.get("known_services", [])) or "none"
    parts = [
        f"Session {session_id}, environment {state.get('environment', '')}.",
        "",
        "The requester wrote:",
        quoted(str(state.get("query", ""))),
        "",
        f"{SERVICES} {known}.",
        f"{ABOUT} {', '.join(taken.get('services', [])) or 'not clear'}.",
        f"First guess by rules: severity {taken.get('severity', 'unknown')}, "
        f"category {taken.get('category') or 'unknown'}.",
    ]
    if overrides := state.get("state_overrides"):
        parts += ["Given along with the query:", quoted(json.dumps(overrides, ensure_ascii=False)[:2000])]
    for agent, report in (state.get("reports") or {}).items():
        parts += [
            "",
            f"{REPORT_OF} {agent}, confidence {report['confidence']:.2f}, signal {report['signal']}:",
            str(report["summary"]),
            f"Why so sure: {report['rationale']}",
            *(f"- {line}" for line in report.get("evidence", [])),
        ]
    if answer := state.get("answer"):
        parts += ["", ANSWER, quoted(answer)]
    return "\n".join(parts)


class TurnLimit(AgentMiddleware[Any, Any]):
    """Stop an agent that goes on for ever, keeping its messages.

    It wraps the model call, so it adds no node and no checkpoint.
    """

    def __init__(self, most: int) -> None:
        """Allow `most` turns."""
        super().__init__()
        self.most = most

    def _spent(self, request: ModelRequest[Any]) -> bool:
        return sum(isinstance(message, AIMessage) for message in request.messages) >= self.most

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Answer in the model's place once the turns are spent."""
        return self._stop() if self._spent(request) else handler(request)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Answer in the model's place once the turns are spent."""
        return self._stop() if self._spent(request) else await handler(request)

    def _stop(self) -> ModelResponse[Any]:
        return ModelResponse(result=[AIMessage(content=f"Stopped after {self.most} turns without a report.")])


def read_report(result: Mapping[str, Any]) -> Report:
    """Return an agent's report; a missing or unreadable one becomes a report that is sure of nothing."""
    found = result.get("structured_response")
    if isinstance(found, Report):
        return found
    try:
        return Report.model_validate(found)
    except ValidationError:
        pass
    messages = result.get("messages") or []
    last = next((m.text for m in reversed(messages) if isinstance(m, AIMessage) and m.text), "")
    return Report(
        summary=str(last)[:600] or "The agent ended without a report.",
        confidence=0,
        rationale="The agent gave no report that could be read.",
        signal="unsure",
    )


def read_usage(messages: Sequence[AnyMessage]) -> Usage:
    """Add up the tokens of an agent's model calls."""
    counted = [m.usage_metadata for m in messages if isinstance(m, AIMessage) and m.usage_metadata]
    return Usage(
        input_tokens=sum(usage["input_tokens"] for usage in counted),
        output_tokens=sum(usage["output_tokens"] for usage in counted),
    )


def read_outcome(messages: Sequence[AnyMessage], report: Report) -> Outcome:
    """Read from the tools that really ran how the incident ended.

    The last of `mark_resolved` and `mark_escalated` decides; where neither ran, a notice to the people on
    call hands it over. A call that was rejected, or that a person answered in the tool's place, ended
    nothing.
    """
    ends: dict[str, dict[str, Any]] = {}
    for message in messages:
        if not isinstance(message, ToolMessage) or message.status == "error":
            continue
        name = public_name(message.name or "")
        if name in {RESOLVED, ESCALATED, ONCALL} and (said := _ended(str(message.text))):
            ends.pop(name, None)
            ends[name] = said
    marks = [said for name, said in ends.items() if name != ONCALL] or list(ends.values())
    if not marks:
        return Outcome(status="needs_review", resolution=report.summary, team=None)
    last = marks[-1]
    if last["outcome"] == "resolved":
        return Outcome(status="resolved", resolution=str(last.get("resolution", "")), team=None)
    team = str(last.get("team") or "") or None
    return Outcome(status="escalated", resolution=str(last.get("reason", "")), team=team)


def _ended(text: str) -> dict[str, Any] | None:
    """Return a terminal tool's result; the note before it, of a person who edited the call, is skipped."""
    try:
        said = json.loads(text.rpartition("\n")[2])
    except ValueError:
        return None
    return said if isinstance(said, dict) and said.get("outcome") in {"resolved", "escalated"} else None


def _key(name: str, runtime: Runtime[RunContext]) -> str:
    """Return what a journal entry of this node is known by, the same on every replay of it."""
    info = runtime.execution_info
    if info is None:
        raise RuntimeError("The incident graph needs LangGraph's execution info.")
    return f"{name}:{info.task_id}"


Node = Callable[[IncidentState, Runtime[RunContext]], Awaitable[dict[str, Any]]]


def _agent_node(
    spec: AgentSpec,
    *,
    model: BaseChatModel,
    middleware: Sequence[AgentMiddleware[Any, Any]],
    saved: bool,
) -> Node:
    agent: CompiledStateGraph[Any, RunContext, Any, Any] = create_agent(
        model,
        [tool.tool for tool in spec.specs],
        system_prompt=spec.prompt,
        middleware=[TurnLimit(MOST_TURNS), *middleware],
        response_format=ToolStrategy(Report),
        context_schema=RunContext,
        # An agent that can stop at a gate, or whose calls must not run twice, shares the thread's checkpoints: after a
        # crash it goes on with the call ids that the ledger knows. Another may begin anew, and has no use for them.
        checkpointer=None if saved else False,
        name=spec.name,
    )
    config: RunnableConfig = {"recursion_limit": 4 * MOST_TURNS}
    if not saved:
        # langgraph 1.2 fails in a graph without a checkpointer when the durability that it inherits is
        # "sync", and warns when it is given one by argument; this is the key that the parent hands it down
        # by.
        config["configurable"] = {"__pregel_durability": "async"}

    async def node(state: IncidentState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        context = runtime.context
        key = _key(spec.name, runtime)
        await context.journal.agent_started(context, agent=spec.name, key=key)
        try:
            result = await agent.ainvoke(
                {"messages": [HumanMessage(briefing(state, context.session_id))]},
                config,
                context=context,
            )
        except GraphRecursionError:
            result = {"messages": []}
        messages = result.get("messages") or []
        report = read_report(result)
        await context.journal.agent_finished(
            context, agent=spec.name, key=key, report=report, usage=read_usage(messages)
        )
        update: dict[str, Any] = {"reports": {spec.name: report.model_dump(mode="json")}}
        if spec.name == "resolution":
            update["outcome"] = read_outcome(messages, report)
        return update

    return node


# The question about confidence ------------------------------------------------------------------------------


def _confidence_node(enough: float) -> Node:
    async def confidence(state: IncidentState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        """Go on when the finding is sure enough; otherwise ask a person what to make of it."""
        report = (state.get("reports") or {})["deep_investigator"]
        sure: float = report["confidence"]
        update: dict[str, Any]
        if report["signal"] == "healthy":
            target, why, update = "resolution", "nothing was found to be wrong", {}
        elif sure >= enough:
            target, why, update = "resolution", f"confidence {sure:.2f} is at least {enough:.2f}", {}
        else:
            answer = interrupt(
                {
                    "type": "question",
                    "reason": "low_confidence",
                    "agent": "deep_investigator",
                    "question": f"The finding is only {sure:.0%} sure. How should it go on?",
                    "confidence": sure,
                    "summary": report["summary"],
                    "rationale": report["rationale"],
                    "evidence": report["evidence"],
                },
                response_schema=ANSWER_SCHEMA,
            )
            target, why, update = _heed(answer, report)
        context = runtime.context
        await context.journal.route_decided(
            context, key=_key("confidence", runtime), source="confidence", target=target, why=why
        )
        return update

    return confidence


def _heed(answer: object, report: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Turn an answer into the way to go; what is not understood goes to a person, never to a tool."""
    understood = (
        isinstance(answer, dict)
        and answer.get("type") == "respond"
        and isinstance(answer.get("message"), str)
        and answer.get("action", "continue") in {"continue", "escalate"}
    )
    if not understood:
        outcome = Outcome(status="needs_review", resolution=str(report["summary"]), team=None)
        return END, "the answer was not understood", {"outcome": outcome}
    given = cast("dict[str, Any]", answer)
    if given.get("action") == "escalate":
        team = str(given.get("team") or "") or None
        text = given["message"] or str(report["summary"])
        return END, "a person escalated", {"outcome": Outcome(status="escalated", resolution=text, team=team)}
    return "resolution", "a person answered", {"answer": given["message"]}


def _after_confidence(state: IncidentState) -> str:
    return END if state.get("outcome") else "resolution"


def build(
    *,
    models: Callable[[str], BaseChatModel],
    middleware: Callable[[str, Sequence[ToolSpec]], list[AgentMiddleware[Any, Any]]],
    checkpointer: Checkpointer,
    may_gate: Callable[[str], bool] = lambda tool: True,
    enough: float = ENOUGH,
) -> CompiledStateGraph[Any, RunContext, Any, Any]:
    """Compile the graph.

    `models` and `middleware` are asked once per agent; `may_gate` says of a public tool name whether a call
    of it could ever stop for a person. Below `enough` confidence a person is asked before anything is done.
    """
    graph = StateGraph(IncidentState, context_schema=RunContext)
    graph.add_node("intake", intake)
    for spec in AGENTS.values():
        node = _agent_node(
            spec,
            model=models(spec.name),
            middleware=middleware(spec.name, spec.specs),
            saved=any(may_gate(tool.name) or not tool.idempotent for tool in spec.specs),
        )
        graph.add_node(spec.name, cast(Any, node))
    graph.add_node("confidence", cast(Any, _confidence_node(enough)))
    graph.add_edge(START, "intake")
    graph.add_edge("intake", "triage")
    graph.add_edge("triage", "deep_investigator")
    graph.add_edge("deep_investigator", "confidence")
    graph.add_conditional_edges("confidence", _after_confidence, ["resolution", END])
    graph.add_edge("resolution", END)
    return graph.compile(checkpointer=checkpointer, name="incident")
