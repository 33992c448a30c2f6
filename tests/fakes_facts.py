"""A tool whose facts a test sets, and gates that rest on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from approvals_app.models import Gate
from sessions_app.agents import facts
from sessions_app.agents.facts import Fact, Unreadable
from sessions_app.models import Session, ToolCall

TOOL = "local_remediation:apply_fix"


class World:
    """What is true of the service: `facts`, or nothing that can be read; `read` counts how often it was asked."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] | None = {"health": "unhealthy", "version": "4.1.9", "pool size": 20}
        self.read = 0
        self.asked: list[dict[str, Any]] = []
        self.first: Callable[[], None] = lambda: None

    async def reader(self, environment: str, args: Mapping[str, Any]) -> dict[str, Fact]:
        """Answer as a tool's owner would."""
        self.read += 1
        self.asked.append({"environment": environment, **args})
        self.first()
        if self.facts is None:
            raise Unreadable("checkout does not answer: connection refused")
        return dict(self.facts)

    def reading(self) -> dict[str, Any]:
        """Return a reading of it as it is."""
        known = self.facts is not None
        why = "" if known else "checkout does not answer: connection refused"
        return {"known": known, "facts": dict(self.facts or {}), "why": why, "at": "2026-05-16T03:12:09+00:00"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Let calls of apply_fix rest on facts that the test sets."""
    one = World()
    monkeypatch.setitem(facts._readers, TOOL, one.reader)
    return one  # type: ignore[return-value]


@pytest.fixture
def make_resting_gate(world: World, make_session: Callable[..., Session]) -> Callable[..., Gate]:
    """Pause a session at a gate whose call the ledger knows, with the facts as the world has them now."""

    from tests.conftest import driven, tool_interrupt

    def make(*, calls: int = 1, **fields: Any) -> Gate:
        session = make_session(status="in_progress", **fields)
        run = session.runs.get()
        asked = [tool_interrupt() for _ in range(calls)]
        with driven(run):
            for one in asked:
                row, _ = ToolCall.enter(
                    session_id=session.pk,
                    run_id=run.pk,
                    attempt=run.attempt,
                    agent="resolution",
                    tool_call_id=one["value"]["tool_call_id"],
                    tool=TOOL,
                    args=one["value"]["args"],
                    reasoning="The pool is full.",
                    idempotent=False,
                    judge=lambda: facts_judgement(),
                )
                row.keep_facts(facts.Reading(**world.reading()))  # type: ignore[typeddict-item]
        assert run.pause(asked, checkpoint_id="checkpoint")
        return Gate.objects.filter(session=session).earliest("pk")

    return make


def facts_judgement() -> Any:
    """Return the shipped rule's judgement of such a call."""
    from sessions_app.agents.context import Judgement

    return Judgement(level="high", reason="high_risk", rule="apply_fix", rule_version="7f3a")
