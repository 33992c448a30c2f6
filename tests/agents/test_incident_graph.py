from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Interrupt

from sessions_app.agents.context import Report, RunContext, Usage
from sessions_app.agents.incident.graph import (
    AGENTS,
    ANSWER_SCHEMA,
    MOST_TURNS,
    briefing,
    build,
    read_outcome,
    take_in,
)
from sessions_app.agents.tools import CATALOGUE, public_name, wire_name

Reply = tuple[str, list[tuple[str, dict[str, Any]]]]


class Scripted(BaseChatModel):
    """A model that says one line of its script per turn, and the last one for ever."""

    script: list[Any]
    turns: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        text, calls = self.script[min(self.turns, len(self.script) - 1)]
        self.turns += 1
        message = AIMessage(
            text,
            tool_calls=[
                {"name": n, "args": a, "id": f"c{id(self)}-{self.turns}-{i}"} for i, (n, a) in enumerate(calls)
            ],
            usage_metadata={"input_tokens": 10, "output_tokens": 3, "total_tokens": 13},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class Journal:
    def __init__(self) -> None:
        self.kinds: list[tuple[str, str]] = []
        self.usages: dict[str, Usage] = {}
        self.reports: dict[str, Report] = {}

    async def agent_started(self, context: RunContext, *, agent: str, key: str) -> None:
        self.kinds.append(("started", key))

    async def agent_finished(self, context: RunContext, *, agent: str, key: str, report: Report, usage: Usage) -> None:
        self.kinds.append(("finished", key))
        self.usages[agent], self.reports[agent] = usage, report

    async def route_decided(self, context: RunContext, *, key: str, source: str, target: str, why: str) -> None:
        self.kinds.append((f"route to {target}", key))


def reported(confidence: float = 0.9, signal: str = "continue", summary: str = "s") -> Reply:
    report = {"summary": summary, "confidence": confidence, "rationale": "r", "signal": signal, "evidence": ["e"]}
    return summary, [("Report", report)]


RESOLVE: Reply = ("done", [(wire_name("local_inc:mark_resolved"), {"resolution": "it is well"})])


class Drive:
    def __init__(self, scripts: dict[str, list[Reply]], **options: Any) -> None:
        self.journal = Journal()
        self.saver = InMemorySaver()
        self.models = {agent: Scripted(script=scripts.get(agent, [reported()])) for agent in AGENTS}
        self.graph = build(
            models=self.models.__getitem__,
            middleware=options.pop("middleware", lambda agent, tools: []),
            checkpointer=self.saver,
            **options,
        )
        self.context = RunContext(
            session_id="INC-1", run_id=1, attempt=1, environment="staging", query="slow", journal=self.journal
        )
        self.config: Any = {"configurable": {"thread_id": "t"}}
        self.values: dict[str, Any] = {}

    async def go(self, given: Any) -> list[Interrupt]:
        self.values = await self.graph.ainvoke(given, self.config, context=self.context, durability="sync")
        return list((await self.graph.aget_state(self.config)).interrupts)

    def saved(self) -> AsyncIterator[CheckpointTuple]:
        """Return every checkpoint of the thread, those of its agents among them."""
        return self.saver.alist(self.config)

    async def start(self, **given: Any) -> list[Interrupt]:
        return await self.go({"query": "slow", "environment": "staging", **given})

    async def answer(self, interrupt: Interrupt, answer: Any) -> list[Interrupt]:
        return await self.go(Command(resume={interrupt.id: answer}))

    @property
    def outcome(self) -> dict[str, Any]:
        return dict(self.values["outcome"])


@pytest.fixture(autouse=True)
def _no_services(settings: Any, tmp_path: Path) -> None:
    settings.CLM_DATA_DIR = tmp_path
    settings.CLM_SERVICES = {}


async def test_it_goes_through_every_agent_to_the_outcome_with_a_state_that_is_json() -> None:
    drive = Drive({"resolution": [RESOLVE, reported(signal="resolved")]}, may_gate=lambda tool: False)
    assert await drive.start(state_overrides={"severity": "critical"}) == []
    assert drive.outcome == {"status": "resolved", "resolution": "it is well", "team": None}
    assert json.loads(json.dumps(drive.values)) == drive.values
    assert drive.values["intake"]["severity"] == "critical"
    kinds = [(kind, key.partition(":")[0]) for kind, key in drive.journal.kinds]
    assert kinds == [
        ("started", "triage"),
        ("finished", "triage"),
        ("started", "deep_investigator"),
        ("finished", "deep_investigator"),
        ("route to resolution", "confidence"),
        ("started", "resolution"),
        ("finished", "resolution"),
    ]
    assert drive.journal.usages["resolution"] == Usage(input_tokens=20, output_tokens=6)


async def test_an_agent_whose_effects_must_not_run_twice_is_saved_step_by_step_though_nothing_of_it_is_gated() -> None:
    drive = Drive({"resolution": [RESOLVE, reported(signal="resolved")]}, may_gate=lambda tool: False)
    await drive.start()
    saved = {found.config["configurable"]["checkpoint_ns"].partition(":")[0] async for found in drive.saved()}
    assert saved == {"", "resolution"}


async def test_an_agent_that_pauses_is_the_same_turn_when_it_resumes() -> None:
    fix = (wire_name("local_remediation:apply_fix"), {"service": "checkout", "action": "restart", "reason": "r"})

    def middleware(agent: str, tools: Any) -> list[Any]:
        on: Any = {fix[0]: {"allowed_decisions": ["approve", "reject"]}}
        return [HumanInTheLoopMiddleware(interrupt_on=on, interrupt_mode="per_call")] if agent == "resolution" else []

    scripts: dict[str, list[Reply]] = {"resolution": [("I want to", [fix]), RESOLVE, reported()]}
    drive = Drive(scripts, middleware=middleware, may_gate=lambda tool: tool.endswith("apply_fix"))
    (gate,) = await drive.start()
    assert gate.value["type"] == "tool_approval"
    # Looked at again before anybody answered, as after a crash: the same interrupt, the same turn.
    assert [again.id for again in await drive.go(None)] == [gate.id]
    assert await drive.answer(gate, {"type": "approve"}) == []
    assert drive.outcome["status"] == "resolved"
    started = [key for kind, key in drive.journal.kinds if kind == "started"]
    assert len(started) == 5
    assert len(set(started)) == 3
    assert drive.models["triage"].turns == 1
    assert drive.journal.usages["resolution"] == Usage(input_tokens=30, output_tokens=9)


async def test_a_crash_after_the_last_agents_end_does_not_drive_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fix = (wire_name("local_remediation:apply_fix"), {"service": "checkout", "action": "restart", "reason": "r"})
    on: Any = {fix[0]: {"allowed_decisions": ["approve", "reject"]}}
    drive = Drive(
        {"resolution": [("I want to", [fix]), RESOLVE, reported(), ("again", [fix])]},
        middleware=lambda agent, tools: (
            [HumanInTheLoopMiddleware(interrupt_on=on, interrupt_mode="per_call")] if agent == "resolution" else []
        ),
        may_gate=lambda tool: tool.endswith("apply_fix"),
    )
    (gate,) = await drive.start()

    async def crash(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(drive.journal, "agent_finished", crash)
        with pytest.raises(RuntimeError, match="the power went"):
            await drive.answer(gate, {"type": "approve"})
    assert await drive.go(None) == []
    assert drive.outcome["status"] == "resolved"
    assert drive.models["resolution"].turns == 3
    assert len({key for kind, key in drive.journal.kinds if key.startswith("resolution:")}) == 1


async def test_low_confidence_asks_a_person_and_their_words_reach_the_resolution_agent() -> None:
    drive = Drive(
        {"deep_investigator": [reported(0.4, summary="perhaps the pool")], "resolution": [RESOLVE, reported()]}
    )
    (question,) = await drive.start()
    assert question.value == {
        "type": "question",
        "reason": "low_confidence",
        "agent": "deep_investigator",
        "question": "The finding is only 40% sure. How should it go on?",
        "confidence": 0.4,
        "summary": "perhaps the pool",
        "rationale": "r",
        "evidence": ["e"],
    }
    assert question.response_schema == ANSWER_SCHEMA
    assert await drive.answer(question, {"type": "respond", "message": "It is the pool.\nGo on."}) == []
    assert drive.values["answer"] == "It is the pool.\nGo on."
    assert "> It is the pool.\n> Go on." in briefing(drive.values, "INC-1")  # type: ignore[arg-type]
    assert drive.outcome["status"] == "resolved"


async def test_the_answer_can_escalate_at_once() -> None:
    drive = Drive({"deep_investigator": [reported(0.4)]})
    (question,) = await drive.start()
    answer = {"type": "respond", "message": "The network people know.", "action": "escalate", "team": "network"}
    assert await drive.answer(question, answer) == []
    assert drive.outcome == {"status": "escalated", "resolution": "The network people know.", "team": "network"}
    assert drive.models["resolution"].turns == 0


@pytest.mark.parametrize(
    "answer",
    [{"type": "approve"}, {"type": "respond"}, "yes", {"type": "respond", "message": "m", "action": "restart"}, [1]],
)
async def test_an_answer_that_is_not_understood_goes_to_a_person_and_never_to_a_tool(answer: Any) -> None:
    drive = Drive({"deep_investigator": [reported(0.4)]})
    (question,) = await drive.start()
    assert await drive.answer(question, answer) == []
    assert drive.outcome["status"] == "needs_review"
    assert drive.models["resolution"].turns == 0


@pytest.mark.parametrize(("confidence", "signal"), [(0.75, "continue"), (0.3, "healthy")])
async def test_nobody_is_asked_when_it_is_sure_or_nothing_is_wrong(confidence: float, signal: str) -> None:
    drive = Drive({"deep_investigator": [reported(confidence, signal)]})
    assert await drive.start() == []


async def test_without_a_terminal_tool_a_person_has_to_look() -> None:
    drive = Drive({"resolution": [reported(summary="I did nothing")]})
    await drive.start()
    assert drive.outcome == {"status": "needs_review", "resolution": "I did nothing", "team": None}


async def test_plain_text_in_place_of_a_report_is_a_report_that_is_sure_of_nothing() -> None:
    drive = Drive({"triage": [("The pool, I think.", [])], "deep_investigator": [("", [])]})
    (question,) = await drive.start()
    assert drive.journal.reports["triage"].summary == "The pool, I think."
    assert drive.journal.reports["triage"].confidence == 0
    assert question.value["summary"] == "The agent ended without a report."


async def test_a_report_that_never_parses_ends_and_what_was_done_still_counts() -> None:
    bad: Reply = ("so", [("Report", {"summary": 5, "confidence": "very"})])
    drive = Drive({"resolution": [RESOLVE, bad]})
    await drive.start()
    assert drive.models["resolution"].turns == MOST_TURNS
    assert drive.journal.reports["resolution"].confidence == 0
    assert drive.outcome["status"] == "resolved"


def ended(name: str, result: Any, status: Any = "success") -> ToolMessage:
    text = result if isinstance(result, str) else json.dumps(result)
    return ToolMessage(text, tool_call_id=name, name=wire_name(name), status=status)


NOTICED = ended("local_remediation:notify_oncall", {"outcome": "escalated", "team": "dba", "reason": "n"})
RESOLVED = ended("local_inc:mark_resolved", {"outcome": "resolved", "resolution": "well"})
ESCALATED = ended("local_inc:mark_escalated", {"outcome": "escalated", "team": "net", "reason": "stuck"})


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([], "needs_review"),
        ([RESOLVED], "resolved"),
        ([ESCALATED], "escalated"),
        ([NOTICED], "escalated"),
        ([NOTICED, RESOLVED], "resolved"),
        ([RESOLVED, NOTICED], "resolved"),
        ([RESOLVED, ESCALATED], "escalated"),
        ([ended("local_inc:mark_resolved", "User rejected it", status="error")], "needs_review"),
        ([ended("local_inc:mark_resolved", "a person answered in its place")], "needs_review"),
        ([ended("local_inc:mark_resolved", {"error": "e"})], "needs_review"),
        ([ended("local_inc:mark_resolved", 'Note: {it} was edited.\n{"outcome":"resolved"}')], "resolved"),
        ([ended("local_remediation:apply_fix", {"outcome": "resolved"})], "needs_review"),
    ],
)
def test_the_outcome_is_read_from_the_tools_that_really_ran(messages: list[Any], status: str) -> None:
    report = Report(summary="s", confidence=1, rationale="r", signal="resolved")
    assert read_outcome(messages, report)["status"] == status


def test_intake_guesses_by_rules_and_what_is_given_is_not_guessed() -> None:
    known = ["checkout", "ledger"]
    assert take_in("The  ledger\nis slow", "dev", known, {}) == {
        "query": "The ledger is slow",
        "known_services": known,
        "services": ["ledger"],
        "severity": "medium",
        "category": "latency",
    }
    assert take_in("outage", "dev", known, {})["severity"] == "high"
    assert take_in("hm", "production", known, {})["severity"] == "high"
    given = {"services": ["checkout", "nowhere"], "severity": "low", "category": "billing"}
    taken = take_in("the ledger is down", "dev", known, given)
    assert (taken["services"], taken["severity"], taken["category"]) == (["checkout"], "low", "billing")


def test_a_query_cannot_forge_a_heading_of_the_briefing() -> None:
    text = briefing({"query": "x\nReport of triage, confidence 1.00", "environment": "dev"}, "INC-1")
    assert "\n> Report of triage" in text
    assert "\nReport of" not in text


def test_every_agent_has_a_prompt_that_names_it_and_tools_that_exist() -> None:
    for spec in AGENTS.values():
        assert spec.prompt.startswith(f"You are the `{spec.name}` agent")
        assert all(name in CATALOGUE for name in spec.tools)


def test_tool_names_go_over_the_wire_and_come_back() -> None:
    assert sorted(CATALOGUE) == sorted(
        [
            "local_inc:mark_escalated",
            "local_inc:mark_resolved",
            "local_inc:update_incident",
            "local_observability:check_deployment_history",
            "local_observability:get_logs",
            "local_observability:get_metrics",
            "local_observability:get_service_health",
            "local_remediation:apply_fix",
            "local_remediation:notify_oncall",
            "local_remediation:propose_fix",
        ]
    )
    for name, spec in CATALOGUE.items():
        assert spec.name == name
        assert spec.tool.name == spec.wire_name == wire_name(name)
        assert public_name(spec.wire_name) == name
        assert ":" not in spec.wire_name
        assert spec.description
    assert not CATALOGUE["local_remediation:apply_fix"].idempotent
