"""The bench on which scenarios are played: sessions are submitted, driven, decided and killed from plain code."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from langgraph.checkpoint.memory import InMemorySaver

from approvals_app.models import Decision, Gate
from approvals_app.states import Channel
from sessions_app import recovery, runner
from sessions_app.agents import config, registry
from sessions_app.agents.registry import GraphSpec
from sessions_app.models import ApiToken, Run, Session, ToolCall
from tests.fakes import Killed

_names = itertools.count(1)


class Bench:
    """One desk with one checkpointer, driven by hand: nothing happens that a test did not ask for."""

    def __init__(self, requester: User, approver: User) -> None:
        self.requester = requester
        self.approver = approver
        self.saver = InMemorySaver()

    def submit(self, make: Callable[[], GraphSpec], **fields: Any) -> Session:
        """Submit a session of a graph made for this test alone."""
        name = f"bench-{next(_names)}"
        registry.register(name, make)
        fields = {"query": "checkout answers slowly", "environment": "dev", "requester": self.requester, **fields}
        return Session.submit(graph=name, **fields)

    def claim(self, session: Session) -> Run:
        """Claim the session's pending run as a worker of another host would."""
        run = session.runs.select_related("session").get(status="pending")
        assert run.claim("elsewhere:1:0")
        return run

    def drive(self, session: Session) -> Session:
        """Claim and drive the session's pending run to its next pause or its end."""
        async_to_sync(runner.execute)(self.claim(session), self.saver)
        session.refresh_from_db()
        return session

    def kill(self, session: Session) -> None:
        """Drive the pending run into a tool that kills its worker: everything stays as a `kill -9` leaves it."""
        with pytest.raises(Killed):
            async_to_sync(runner.execute)(self.claim(session), self.saver)
        self.lose(session)

    def lose(self, session: Session) -> None:
        """Let the lease of the session's running run end."""
        past = timezone.now() - timedelta(seconds=1)
        assert session.runs.filter(status="running").update(lease_until=past) == 1

    def recover(self, session: Session) -> Session:
        """Sweep, then drive what the sweep took up again."""
        recovery.sweep()
        return self.drive(session)

    def gates(self, session: Session, **filters: Any) -> list[Gate]:
        """Return the session's undecided gates in the order in which they opened."""
        return list(Gate.objects.filter(session=session, **filters).pending().order_by("pk"))

    def gate(self, session: Session, **filters: Any) -> Gate:
        """Return the session's only undecided gate."""
        (gate,) = self.gates(session, **filters)
        return gate

    def decide(self, gate: Gate, decision: Any = "approve", *, by: User | None = None, **given: Any) -> Decision:
        """Decide as the approver who was shown the gate as it stands."""
        given = {"channel": Channel.API, "digest": gate.digest, **given}
        return gate.decide(decision, actor=by or self.approver, **given)

    def calls(self, session: Session) -> dict[str, str]:
        """Return where each of the session's tool calls stands, by its id."""
        return dict(ToolCall.objects.filter(session=session).values_list("tool_call_id", "status"))

    def kinds(self, session: Session) -> list[str]:
        """Return the kinds of the session's events, in order."""
        return list(session.events.order_by("seq").values_list("kind", flat=True))


@pytest.fixture
def bench(transactional_db: None, alice: User, bob: User) -> Bench:
    """Alice submits, bob decides; committed for real, because a drive has threads and connections of its own."""
    return Bench(alice, bob)


@pytest.fixture
def rules(tmp_path: Path, settings: Any) -> Iterator[Callable[[str], None]]:
    """Lay a configuration of one's own over the shipped one."""

    def write(text: str) -> None:
        path = tmp_path / "clm.toml"
        path.write_text(text)
        settings.CLM_CONFIG = path
        config.current.cache_clear()

    yield write
    config.current.cache_clear()


@pytest.fixture
def saved_for_real(transactional_db: None, tmp_path: Path, settings: Any) -> None:
    """Let the product's own checkpointer begin empty: its tables outlive a test, and session ids come again."""
    settings.CLM_DATA_DIR = tmp_path
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE checkpoints, checkpoint_blobs, checkpoint_writes")


#: Rules for the tools of the scenarios: `lab:read` runs, `lab:notify` runs and is told, `lab:wipe` never runs.
LAB_RULES = """
[tools."lab:read"]
sentence = "read **${target}**"
[tools."lab:notify"]
sentence = "notify **${target}**"
[tools."lab:wipe"]
sentence = "wipe **${target}**"
[tools."lab:fix"]
sentence = "fix **${target}**"
[[risk.rules]]
name = "lab_read"
tool = "lab:read"
risk = "low"
[[risk.rules]]
name = "lab_notify"
tool = "lab:notify"
risk = "medium"
[[risk.rules]]
name = "lab_wipe"
tool = "lab:wipe"
risk = "forbidden"
[[risk.rules]]
name = "lab_fix_everything"
tool = "lab:fix"
when = { target = ["all"] }
risk = "forbidden"
"""


@pytest.fixture
def lab_rules(rules: Callable[[str], None]) -> None:
    """Use the lab's rules."""
    rules(LAB_RULES)


async def until(met: Callable[[], Any], *, seconds: float = 10) -> None:
    """Wait until a question to the database is answered with yes."""
    ask = database_sync_to_async(met)
    for _ in range(int(seconds / 0.02)):
        if await ask():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen in time")


class Caller:
    """Somebody's script: the REST contract with their token."""

    def __init__(self, user: User) -> None:
        self._client = Client(raise_request_exception=False)
        self._headers = {"Authorization": f"Bearer {ApiToken.issue(user)}"}

    def get(self, path: str, **query: Any) -> Any:
        """Ask, and return the response."""
        return self._client.get(f"/api/v1{path}", query, headers=self._headers)

    def delete(self, path: str) -> Any:
        """Delete, and return the response."""
        return self._client.delete(f"/api/v1{path}", headers=self._headers)

    def post(self, path: str, body: Any) -> Any:
        """Send a body, and return the response."""
        return self._client.post(f"/api/v1{path}", json.dumps(body), "application/json", headers=self._headers)
