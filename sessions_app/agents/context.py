"""What one drive of a graph carries along: who runs, for whom, where, and who writes it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from sessions_app.models import ToolCall


class Report(BaseModel):
    """The structured report that every agent ends with."""

    model_config = ConfigDict(extra="ignore")

    summary: str = Field(description="What you found or did, in two sentences a tired engineer can act on.")
    confidence: float = Field(ge=0, le=1, description="How sure you are, from 0 (a guess) to 1 (proven).")
    rationale: str = Field(description="Why that confidence: the readings for it and against it.")
    signal: str = Field(
        description="What should happen next: 'continue', 'healthy', 'resolved', 'escalate' or 'unsure'."
    )
    evidence: list[str] = Field(
        default_factory=list, description="The readings this rests on, quoted as the tools returned them."
    )


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens that an agent's model calls took, as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What `risk` said of one tool call, stored when it was first seen and never made again."""

    level: str
    reason: str
    rule: str
    rule_version: str

    @property
    def gated(self) -> bool:
        """Whether a person must approve before the call has any effect."""
        return self.level == "high"

    @property
    def forbidden(self) -> bool:
        """Whether the call never runs, whoever would approve it."""
        return self.level == "forbidden"


class Journal(Protocol):
    """Where the graph's nodes say what happens; every method may be called again on a replay."""

    async def agent_started(self, context: RunContext, *, agent: str, key: str) -> None:
        """Record that `agent` began; `key` is the graph task's id, the same on every replay."""

    async def agent_finished(self, context: RunContext, *, agent: str, key: str, report: Report, usage: Usage) -> None:
        """Record an agent's report and token usage, once per `key`."""

    async def route_decided(self, context: RunContext, *, key: str, source: str, target: str, why: str) -> None:
        """Record which way the graph went and why, once per `key`."""


class Drive:
    """What one drive of a graph has found out about its tool calls, by tool call id.

    `judgements` has the stored judgement of each; `claimed` the ids that this drive itself claimed, so that a claim
    found without its id here is one that a crash left behind; `entered` the rows that this drive has just inserted as
    claimed, until they are run (nobody else runs those, so they are not read again); `rows` the key of each row.

    A plain class on purpose: LangChain copies the fields of a dataclass, all the way down, at every tool call.
    """

    def __init__(self) -> None:
        self.judgements: dict[str, Judgement] = {}
        self.claimed: set[str] = set()
        self.entered: dict[str, ToolCall] = {}
        self.rows: dict[str, int] = {}


@dataclass(kw_only=True)
class RunContext:
    """The LangGraph runtime context of one run (`context_schema` of every CLM graph).

    `attempt` tells this drive of the run from an earlier one whose worker was lost; `environment` is where the
    session's incident is; `query` what the requester wrote.
    """

    session_id: str
    run_id: int
    attempt: int
    environment: str
    query: str
    journal: Journal
    drive: Drive = field(default_factory=Drive)
