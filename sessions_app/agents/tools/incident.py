"""Tools that write about the incident, and the two that end it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from langchain_core.tools import tool
from pydantic import Field

from sessions_app.agents.tools.observability import Caller, encode
from sessions_app.steps import in_database


def annotate(session_id: str, fields: dict[str, Any]) -> None:
    """Write what the agent found into its session."""
    from sessions_app.models import Session

    Session.objects.get(pk=session_id).annotate_incident(**fields)


@tool("local_inc__update_incident")
async def update_incident(
    runtime: Caller,
    severity: Annotated[
        Literal["", "low", "medium", "high", "critical"], Field(description="Empty leaves it as it is.")
    ] = "",
    category: Annotated[str, Field(max_length=60, description="One or two words, for example 'database'.")] = "",
    summary: Annotated[str, Field(max_length=2000, description="The incident in one or two sentences.")] = "",
    tags: Annotated[list[str], Field(max_length=20, description="Short words to find it by.")] = [],  # noqa: B006
    findings: Annotated[list[str], Field(max_length=40, description="What was found, one fact each.")] = [],  # noqa: B006
) -> str:
    """Write severity, category, summary, tags or findings; what is left out stays as it is."""
    given = {
        "severity": severity,
        "category": category,
        "summary": summary,
        "tags": list(tags),
        "findings": list(findings),
    }
    fields = {name: value for name, value in given.items() if value}
    if not fields:
        return encode({"error": "Nothing was given to write.", "hint": "Give at least one field."})
    await in_database(annotate, runtime.context.session_id, fields)
    return encode({"updated": sorted(fields)})


@tool("local_inc__mark_resolved")
async def mark_resolved(
    resolution: Annotated[str, Field(min_length=1, max_length=2000, description="What was wrong and what healed it.")],
) -> str:
    """End the incident as resolved. Call it only after a reading showed that the service has recovered."""
    return encode({"outcome": "resolved", "resolution": resolution})


@tool("local_inc__mark_escalated")
async def mark_escalated(
    team: Annotated[str, Field(min_length=1, max_length=150, description="Who takes over.")],
    reason: Annotated[str, Field(min_length=1, max_length=2000, description="Why, and what was tried.")],
) -> str:
    """End the incident by handing it to a team of people."""
    return encode({"outcome": "escalated", "team": team, "reason": reason})
