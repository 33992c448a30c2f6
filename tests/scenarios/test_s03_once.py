"""S3: approved, the audit says so, and nothing runs; or it runs twice."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import connection

from approvals_app.exceptions import GateDecided
from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app.models import Session, ToolCall
from tests.fakes import agent_graph, calling, counting, register
from tests.scenarios.conftest import until

TURN = calling(("lab:fix", {"target": "checkout"}, "call-of-s03-000000"))


@pytest.mark.django_db(transaction=True)
async def test_s03_a_gate_approved_while_the_engine_is_stopped_runs_once_when_it_starts(
    engine: Any, alice: Any, bob: Any
) -> None:
    ran: list[dict[str, Any]] = []
    graph = register("s03", agent_graph([TURN], [counting("lab:fix", ran)]))
    session = await database_sync_to_async(Session.submit)(query="q", environment="dev", graph=graph, requester=alice)
    first = await engine()
    await until(lambda: Gate.objects.filter(session=session).pending().exists())
    await first.stop()

    await database_sync_to_async(_approve)(Gate.objects, session, bob)
    await asyncio.sleep(0.1)
    assert ran == []
    assert await database_sync_to_async(_call_status)(session) == "approved"

    await engine()
    await until(lambda: Session.objects.get(pk=session.pk).ended)
    assert ran == [{"target": "checkout", "size": 1}]
    assert await database_sync_to_async(_call_status)(session) == "executed"
    assert await database_sync_to_async(session.events.filter(kind="gate_decided").count)() == 1


@pytest.mark.django_db(transaction=True)
def test_s03_two_approvers_at_the_same_moment_make_one_decision_and_the_other_hears_who_it_was(
    make_gate: Any, alice: Any, bob: Any, admin: Any
) -> None:
    gate: Gate = make_gate(requester=alice)
    together = threading.Barrier(2)

    def approve(person: Any, channel: Channel) -> str | GateDecided:
        try:
            own = Gate.objects.select_related("session").get(pk=gate.pk)
            together.wait(5)
            own.decide("approve", actor=person, channel=channel, digest=own.digest)
        except GateDecided as late:
            return late
        finally:
            connection.close()
        return str(person.username)

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(approve, [bob, admin], [Channel.PAGE, Channel.API]))
    (winner,) = [one for one in said if isinstance(one, str)]
    (late,) = [one for one in said if isinstance(one, GateDecided)]
    assert late.details["decided_by"] == winner
    assert winner in late.text
    assert gate.decisions.count() == 1
    assert gate.session.runs.filter(kind="resume").count() == 1
    assert gate.session.events.filter(kind="gate_decided").count() == 1


def _approve(gates: Any, session: Session, approver: Any) -> None:
    gate = gates.get(session=session)
    gate.decide("approve", actor=approver, channel=Channel.API, digest=gate.digest)


def _call_status(session: Session) -> str:
    return ToolCall.objects.get(session=session).status
