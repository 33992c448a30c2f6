"""S7: a restart loses pending approvals, and old links answer 404."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client

from approvals_app.models import Gate
from sessions_app import recovery, runner
from sessions_app.agents import checkpointer, registry
from sessions_app.models import Session
from tests.fakes import graph_of, pausing, register
from tests.scenarios.conftest import Bench, Caller

pytestmark = pytest.mark.django_db
MANY = 100


async def _serve(runs: list[Any]) -> None:
    """Drive runs as one start of the server does: with the product's own checkpointer, opened and closed again."""
    registry._compiled.clear()
    async with checkpointer.open_checkpointer() as saver:
        for run in runs:
            await runner.execute(run, saver)


def test_s07_a_hundred_pending_gates_are_there_after_a_restart_in_order_and_their_links_decide(
    bench: Bench, client: Client, saved_for_real: None
) -> None:
    name = register("restarted", graph_of(("asks", pausing)))
    sessions = [
        Session.submit(query=f"number {number}", environment="dev", graph=name, requester=bench.requester)
        for number in range(MANY)
    ]
    async_to_sync(_serve)([bench.claim(session) for session in sessions])
    script = Caller(bench.approver)
    before = script.get("/gates", limit=200).json()
    assert before["total"] == MANY
    links = [Gate.objects.get(pk=gate["id"]).get_absolute_url() for gate in before["items"]]

    # The next start: nothing is left in memory, and its sweep finds nothing to do.
    assert recovery.sweep() == []
    after = script.get("/gates", limit=200).json()
    assert [(gate["id"], gate["digest"]) for gate in after["items"]] == [
        (gate["id"], gate["digest"]) for gate in before["items"]
    ]
    assert [gate["session_id"] for gate in after["items"]] == [session.pk for session in sessions]

    client.force_login(bench.approver)
    for index in (0, MANY // 2, MANY - 1):
        assert client.get(links[index]).status_code == 200
        body = {"decision": "approve", "digest": before["items"][index]["digest"], "message": "as before"}
        assert client.post(f"{links[index]}decide/", body).status_code == 302
        async_to_sync(_serve)([bench.claim(sessions[index])])
        sessions[index].refresh_from_db()
        assert sessions[index].status == "resolved"
    assert script.get("/gates", limit=200).json()["total"] == MANY - 3
