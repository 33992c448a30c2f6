"""The journal that writes into the database; the graph's nodes know only its protocol (context.py)."""

from __future__ import annotations

from sessions_app.agents.context import Report, RunContext, Usage
from sessions_app.lease import still_held
from sessions_app.models import AgentRun, SessionEvent
from sessions_app.steps import in_database


class DatabaseJournal:
    """Writes agents' turns and routes as rows and events, once each however often a node is replayed."""

    async def agent_started(self, context: RunContext, *, agent: str, key: str) -> None:
        """Record that `agent` began."""
        await still_held()
        await in_database(AgentRun.start, session_id=context.session_id, run_id=context.run_id, agent=agent, key=key)

    async def agent_finished(self, context: RunContext, *, agent: str, key: str, report: Report, usage: Usage) -> None:
        """Record an agent's report and what it cost."""
        await still_held()
        await in_database(
            AgentRun.finish, session_id=context.session_id, agent=agent, key=key, report=report, usage=usage
        )

    async def route_decided(self, context: RunContext, *, key: str, source: str, target: str, why: str) -> None:
        """Record which way the graph went; `key` makes a replay of the same step write nothing."""
        await still_held()
        payload = {"source": source, "target": target, "why": why}
        await in_database(_append_once, context.session_id, "route_decided", payload)


def _append_once(session_id: str, kind: str, payload: dict[str, str]) -> None:
    last = SessionEvent.objects.filter(session_id=session_id, kind=kind).order_by("-seq").first()
    if last is None or last.payload != payload:
        SessionEvent.append(session_id, kind, payload)
