"""How a drive's small steps reach the database: together, each for itself, and past nothing that LangChain reads."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from channels.db import database_sync_to_async
from langchain_core.messages import ToolMessage

from sessions_app.agents.context import RunContext
from sessions_app.agents.journal import DatabaseJournal
from sessions_app.agents.middleware import Judge, Ledger
from sessions_app.models import Session, ToolCall
from sessions_app.steps import connected, in_database

pytestmark = pytest.mark.django_db(transaction=True)

TOOL = "local_observability__get_metrics"


def _in_progress(make_session: Any) -> tuple[Session, int]:
    session = make_session(status="in_progress")
    return session, session.runs.get().pk


async def test_a_step_that_fails_fails_alone() -> None:
    def fails() -> None:
        raise ValueError("this one")

    ended = await asyncio.gather(
        in_database(Session.objects.count), in_database(fails), in_database(lambda: 7), return_exceptions=True
    )
    assert (ended[0], ended[2]) == (0, 7)
    assert isinstance(ended[1], ValueError)


async def test_steps_run_in_the_order_in_which_they_were_asked_for() -> None:
    ran: list[int] = []
    await asyncio.gather(*(in_database(ran.append, number) for number in range(20)))
    assert ran == list(range(20))


async def test_a_step_that_is_cancelled_while_it_waits_does_not_run() -> None:
    ran: list[str] = []
    go_on = threading.Event()
    first = asyncio.create_task(in_database(go_on.wait, 5))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(in_database(ran.append, "second"))
    third = asyncio.create_task(in_database(ran.append, "third"))
    await asyncio.sleep(0)
    second.cancel()
    go_on.set()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert ran == ["third"]


async def test_the_connection_stays_open_for_a_drive_and_no_longer() -> None:
    def open_now() -> bool:
        from django.db import connection

        return connection.connection is not None

    async with connected():
        async with connected():
            await in_database(Session.objects.count)
        assert await in_database(open_now)
    assert not await in_database(open_now)


async def test_the_context_changes_on_the_loop_alone(make_session: Any) -> None:
    """LangChain walks through it at every tool call; a thread that adds to it meanwhile makes that call panic."""
    session, run_id = await database_sync_to_async(_in_progress)(make_session)
    changed_in: set[int] = set()

    class Watched(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            changed_in.add(threading.get_ident())
            super().__setitem__(key, value)

    class WatchedSet(set[str]):
        def add(self, one: str) -> None:
            changed_in.add(threading.get_ident())
            super().add(one)

    context = RunContext(
        session_id=session.pk,
        run_id=run_id,
        attempt=1,
        environment="dev",
        query="q",
        journal=DatabaseJournal(),
    )
    drive = context.drive
    drive.judgements, drive.claimed, drive.entered, drive.rows = Watched(), WatchedSet(), Watched(), Watched()
    request: Any = SimpleNamespace(
        runtime=SimpleNamespace(context=context),
        tool_call={"id": "call-of-the-loop-01", "name": TOOL, "args": {}},
        state={"messages": []},
    )

    async def tool(request: Any) -> ToolMessage:
        return ToolMessage(content="{}", tool_call_id=request.tool_call["id"])

    async def ledger(request: Any) -> Any:
        return await Ledger().awrap_tool_call(request, tool)

    answer = await Judge("triage", []).awrap_tool_call(request, ledger)
    assert isinstance(answer, ToolMessage)
    assert changed_in == {threading.get_ident()}
    assert context.drive.entered == {}
    status = await database_sync_to_async(ToolCall.objects.values_list("status", flat=True).get)()
    assert status == "executed"
