"""The incident graph as the registry knows it: with the configured models, CLM's middleware and its rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware

from sessions_app.agents import config, models, risk
from sessions_app.agents.incident import graph
from sessions_app.agents.middleware import gate_middleware
from sessions_app.agents.offline import OfflineInvestigator
from sessions_app.agents.registry import Graph, GraphSpec, Saver
from sessions_app.agents.tools import ToolSpec


def spec() -> GraphSpec:
    """Return the spec of `incident`."""
    return GraphSpec(
        name="incident",
        build=_build,
        initial=lambda given: {
            "query": given["query"],
            "environment": given["environment"],
            "state_overrides": given["state_overrides"],
        },
        outline=lambda saver: graph.build(
            models=lambda agent: OfflineInvestigator(), middleware=lambda agent, tools: [], checkpointer=saver
        ),
        says=_says,
        nodes=("intake", "triage", "deep_investigator", "confidence", "resolution"),
    )


def _says(values: dict[str, Any]) -> str:
    """Return what a checkpoint knows of the incident: the latest report, and what a person answered."""
    reports = list((values.get("reports") or {}).items())[-1:]
    said = [f"{agent} reported, {report['confidence']:.0%} sure: {report['summary']}" for agent, report in reports]
    known = said or (["The query was read."] if values.get("intake") else ["Nothing has been read yet."])
    return " ".join([*known, *([f"A person answered: {values['answer']}"] if values.get("answer") else [])])


def _build(saver: Saver) -> Graph:
    rules = config.current().risk.rules
    return graph.build(
        models=models.chat_model,
        middleware=_middleware,
        checkpointer=saver,
        may_gate=lambda tool: risk.may_gate(tool, rules),
    )


def _middleware(agent: str, tools: Sequence[ToolSpec]) -> list[AgentMiddleware[Any, Any]]:
    # The model's own stands last: closest to the model, and never around a tool.
    return [*gate_middleware(agent, tools, unique_ids=True), *models.model_middleware(agent)]
