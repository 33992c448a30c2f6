"""The engine stops, dies and starts again, and every session goes on (law L8)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.utils import timezone

from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app import recovery
from sessions_app.models import Run, Session, ToolCall
from tests.fakes import agent_graph, calling, counting, graph_of, pausing, register
from tests.scenarios.conftest import Bench, until

CALL = "call-of-the-engine"


@database_sync_to_async  # type: ignore[untyped-decorator]
def submit(graph: str, requester: Any) -> Session:
    """Submit a session of a registered graph."""
    return Session.submit(query="q", environment="dev", graph=graph, requester=requester)


@database_sync_to_async  # type: ignore[untyped-decorator]
def approve(session: Session, approver: Any) -> None:
    """Approve the session's one open gate."""
    gate = Gate.objects.pending().get(session=session)
    gate.decide("approve", actor=approver, channel=Channel.API, digest=gate.digest)


@pytest.mark.django_db(transaction=True)
async def test_a_run_that_a_clean_stop_cuts_off_is_given_back_and_taken_up_by_the_next_engine(
    engine: Any, alice: Any
) -> None:
    thinking, may_go_on, seen = asyncio.Event(), asyncio.Event(), []

    async def thinks(state: Any) -> Any:
        seen.append("thinks")
        thinking.set()
        await may_go_on.wait()
        return {"log": ["thought"]}

    session = await submit(register("life", graph_of(("thinks", thinks), ("asks", pausing))), alice)
    first = await engine()
    await asyncio.wait_for(thinking.wait(), 5)
    await first.stop()
    run = await Run.objects.aget(session=session)
    assert (run.status, run.worker, run.lease_until) == ("pending", "", None)
    session = await Session.objects.aget(pk=session.pk)
    assert session.status == "in_progress"

    may_go_on.set()
    await engine()
    await until(Gate.objects.filter(session=session).pending().exists)
    assert seen == ["thinks", "thinks"]
    assert [
        one async for one in session.events.filter(kind="run_recovered").values_list("payload__cause", flat=True)
    ] == ["server stopped"]


@pytest.mark.django_db(transaction=True)
async def test_a_tool_that_a_clean_stop_cuts_off_is_asked_about_and_not_run_again(
    engine: Any, alice: Any, bob: Any
) -> None:
    ran: list[dict[str, Any]] = []
    running, never = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        running.set()
        await never.wait()

    turn = calling(("lab:fix", {"target": "checkout"}, CALL))
    session = await submit(register("life", agent_graph([turn], [counting("lab:fix", ran, then=hang)])), alice)
    first = await engine()
    await until(Gate.objects.filter(session=session).pending().exists)
    await approve(session, bob)
    await asyncio.wait_for(running.wait(), 5)
    await first.stop()
    assert (await ToolCall.objects.aget(session=session)).status == "unknown"

    await engine()
    await until(Gate.objects.filter(session=session, kind="unknown_outcome").pending().exists)
    assert len(ran) == 1
    assert (await Session.objects.aget(pk=session.pk)).status == "awaiting_input"


@pytest.mark.django_db(transaction=True)
async def test_stopping_a_session_stops_its_tool_at_once_and_says_that_nobody_knows(
    engine: Any, alice: Any, bob: Any
) -> None:
    ran: list[dict[str, Any]] = []
    running, never = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        running.set()
        await never.wait()

    turn = calling(("lab:fix", {"target": "checkout"}, CALL))
    session = await submit(register("life", agent_graph([turn], [counting("lab:fix", ran, then=hang)])), alice)
    await engine()
    await until(Gate.objects.filter(session=session).pending().exists)
    await approve(session, bob)
    await asyncio.wait_for(running.wait(), 5)
    await database_sync_to_async(session.stop)()
    await until(ToolCall.objects.filter(session=session, status="unknown").exists)
    found = await Session.objects.aget(pk=session.pk)
    assert found.status == "stopped"
    assert not await found.runs.active().aexists()


@pytest.mark.django_db(transaction=True)
async def test_a_run_whose_worker_died_is_taken_up_when_an_engine_starts(engine: Any, alice: Any) -> None:
    session = await submit(register("life", graph_of(("asks", pausing))), alice)

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def die() -> None:
        run = session.runs.get()
        assert run.claim("another-host:1:0")
        Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))

    await die()
    await engine()
    await until(Gate.objects.filter(session=session).pending().exists)
    assert (await Run.objects.aget(session=session)).attempt == 2


@pytest.mark.django_db
def test_a_worker_that_lost_its_lease_can_write_nothing_any_more(bench: Bench) -> None:
    session = bench.submit(graph_of(("asks", pausing)))
    lost = bench.claim(session)
    bench.lose(session)
    recovery.sweep()
    again = session.runs.get()
    assert again.claim("new-host:1:0")
    before = session.events.count()
    assert not lost.renew()
    assert not lost.pause([], checkpoint_id="c")
    assert not lost.fail("late")
    assert not lost.release(cause="late", counts=False)
    assert session.events.count() == before
    again.refresh_from_db()
    assert (again.status, again.worker) == ("running", "new-host:1:0")


@pytest.mark.django_db
def test_a_run_that_loses_every_worker_fails_after_its_last_attempt_and_the_session_says_error(
    bench: Bench, settings: Any
) -> None:
    settings.CLM_MAX_ATTEMPTS = 2
    session = bench.submit(graph_of(("asks", pausing)))
    for _ in range(2):
        bench.claim(session)
        bench.lose(session)
        assert recovery.sweep()
    session.refresh_from_db()
    assert session.status == "error"
    assert "Given up after 2 attempts" in session.resolution
    assert session.runs.get().status == "failed"
    assert bench.kinds(session).count("run_failed") == 1
    assert recovery.sweep() == []


@pytest.mark.django_db
def test_clean_stops_do_not_use_up_a_runs_attempts(bench: Bench, settings: Any) -> None:
    settings.CLM_MAX_ATTEMPTS = 2
    session = bench.submit(graph_of(("asks", pausing)))
    for _ in range(5):
        assert bench.claim(session).release(cause="server stopped", counts=False)
    bench.claim(session)
    bench.lose(session)
    assert bench.recover(session).status == "awaiting_input"


@pytest.mark.django_db
def test_one_run_that_cannot_be_released_does_not_keep_the_others_from_going_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = bench.submit(graph_of(("asks", pausing))), bench.submit(graph_of(("asks", pausing)))
    for session in (stuck, other):
        bench.claim(session)
        bench.lose(session)
    real = Run.release

    def fails_for_one(self: Run, **kwargs: Any) -> bool:
        if self.session_id == stuck.pk:
            raise RuntimeError("this one is broken")
        return real(self, **kwargs)

    monkeypatch.setattr(Run, "release", fails_for_one)
    recovery.sweep()
    assert other.runs.get().status == "pending"


@pytest.mark.django_db
def test_s30_after_an_approval_a_run_that_ends_without_an_outcome_needs_review(bench: Bench) -> None:
    from langgraph.types import interrupt

    from tests.fakes import approval

    def asks_and_says_nothing(state: Any) -> Any:
        interrupt(approval("call-of-s30"))
        return {"log": ["nothing to say"]}

    session = bench.drive(bench.submit(graph_of(("only", asks_and_says_nothing))))
    bench.decide(bench.gate(session))
    session = bench.drive(session)
    assert session.status == "needs_review"
    assert [event.payload["to"] for event in session.events.status_changes()][-1] == "needs_review"


@pytest.mark.django_db(transaction=True)
async def test_an_engine_that_is_woken_at_the_moment_it_is_stopped_stops(inprocess_engine: Any, settings: Any) -> None:
    """On Python 3.11 a cancellation that meets a wake can get lost, and the server hung at its end."""
    settings.CLM_POLL_SECONDS = 600
    started = await inprocess_engine()
    await asyncio.sleep(0.5)
    started._wake.set()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(started.stop())
    await asyncio.wait([stopping], timeout=20)
    assert stopping.done()
    assert started._sweeping.done()
