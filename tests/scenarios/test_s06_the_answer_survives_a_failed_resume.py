"""S6: the answer is consumed although the resume failed to start."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from approvals_app.models import Decision, Gate
from sessions_app import runner
from sessions_app.agents import checkpoints
from tests.fakes import RESOLVED, FakeState, agent_graph, calling, counting, graph_of, pausing
from tests.scenarios.conftest import Bench
from tests.scenarios.test_rerun_from_a_checkpoint import stored as stored

pytestmark = pytest.mark.django_db


def test_s06_a_resume_that_raises_three_times_shows_the_error_keeps_each_decision_and_can_be_run_again(
    stored: Bench, client: Client
) -> None:
    failures: list[str] = []

    def fails_thrice(state: FakeState) -> FakeState:
        if len(failures) < 3:
            failures.append("away")
            raise RuntimeError(f"the model is away for the {len(failures)}. time")
        return {"outcome": RESOLVED}

    session = stored.drive(stored.submit(graph_of(("asks", pausing), ("goes_on", fails_thrice))))
    client.force_login(stored.requester)
    for number in (1, 2, 3):
        stored.decide(stored.gate(session), "approve", message=f"yes, {number}")
        session = stored.drive(session)
        assert session.status == "error"
        page = client.get(session.get_absolute_url()).content.decode()
        assert f"the model is away for the {number}. time" in page
        assert list(Decision.objects.order_by("pk").values_list("message", flat=True))[-1] == f"yes, {number}"
        assert set(Gate.objects.values_list("status", flat=True)) == {"approved"}
        if number < 3:
            session.rerun()
            session = stored.drive(session)
    # The last time from the checkpoint behind the answer, which is in the state: nobody is asked again.
    last = checkpoints.boundaries(session)[-1]
    assert last.next == ("goes_on",)
    session.rerun(since=last)
    session = stored.drive(session)
    assert (session.status, Decision.objects.count()) == ("resolved", 3)


def test_s06_an_approved_call_whose_resume_never_started_runs_once_after_the_rerun(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[dict[str, Any]] = []
    turn = calling(("lab:fix", {"target": "one"}, "call-one"))
    session = bench.drive(bench.submit(agent_graph([turn], [counting("lab:fix", ran)])))
    bench.decide(bench.gate(session))
    real = runner._drive

    async def cannot_start(*args: Any) -> Any:
        raise ConnectionError("the checkpoints cannot be read")

    monkeypatch.setattr(runner, "_drive", cannot_start)
    session = bench.drive(session)
    assert (session.status, ran) == ("error", [])
    assert "the checkpoints cannot be read" in session.resolution
    # The approval was for that run: it lapsed with it, and is still on record.
    assert (Gate.objects.get().status, Decision.objects.count()) == ("approved", 1)
    assert bench.calls(session) == {"call-one": "expired"}

    monkeypatch.setattr(runner, "_drive", real)
    session.rerun()
    session = bench.drive(session)
    assert (session.status, ran) == ("awaiting_input", [])
    bench.decide(bench.gate(session))
    assert bench.drive(session).status == "resolved"
    assert len(ran) == 1
