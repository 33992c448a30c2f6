"""The tools that agents may call, by their public names.

A public name is `server:tool`. Chat APIs refuse a colon in a tool's name, so models see the wire name, with
two underscores in its place; everything that people read, and every rule, uses the public name.
"""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.tools import BaseTool

from sessions_app.agents import facts
from sessions_app.agents.tools import incident, observability, remediation


def wire_name(public: str) -> str:
    """Return the name that a model sees."""
    return public.replace(":", "__", 1)


def public_name(wire: str) -> str:
    """Return the name that people and rules use."""
    return wire.replace("__", ":", 1)


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """One tool as the catalogue describes it; `idempotent` means that a second call changes nothing more.

    `facts` reads what a call of it rests on (facts.py); a gate holds for those facts only.
    """

    name: str
    description: str
    category: str
    server: str
    idempotent: bool
    tool: BaseTool
    facts: facts.Reader | None = None

    def __post_init__(self) -> None:
        """Let the facts be read wherever the tool is only known by its name."""
        if self.facts is not None:
            facts.declare(self.name, self.facts)

    @property
    def wire_name(self) -> str:
        """The name that a model sees."""
        return wire_name(self.name)

    @property
    def original_name(self) -> str:
        """The name without its server."""
        return self.name.partition(":")[2]


def _spec(tool: BaseTool, category: str, *, idempotent: bool = True, rests_on: facts.Reader | None = None) -> ToolSpec:
    name = public_name(tool.name)
    return ToolSpec(
        name=name,
        description=tool.description,
        category=category,
        server=name.partition(":")[0],
        idempotent=idempotent,
        tool=tool,
        facts=rests_on,
    )


CATALOGUE: dict[str, ToolSpec] = {
    spec.name: spec
    for spec in (
        _spec(observability.get_service_health, "observability"),
        _spec(observability.get_metrics, "observability"),
        _spec(observability.get_logs, "observability"),
        _spec(observability.check_deployment_history, "observability"),
        _spec(incident.update_incident, "incident"),
        _spec(incident.mark_resolved, "incident"),
        _spec(incident.mark_escalated, "incident"),
        _spec(remediation.propose_fix, "remediation"),
        _spec(remediation.apply_fix, "remediation", idempotent=False, rests_on=remediation.service_facts),
        _spec(remediation.notify_oncall, "remediation", idempotent=False),
    )
}
