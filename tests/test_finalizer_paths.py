"""The bug that CLM exists to make impossible: a paused graph whose session does not say so.

Each behaviour is shown on the direct path (`runner.execute`) and through the background engine.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import transaction
from django.db.models.signals import post_save
from langgraph.checkpoint.memory import InMemorySaver

from approvals_app import receivers
from approvals_app.models import Gate
from sessions_app import runner
from sessions_app.exceptions import TransitionRefused
from sessions_app.models import Run, Session
from tests.conftest import tool_interrupt
from tests.fakes import completing, failing, graph_of, pausing, register, silent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["direct", "engine"])
async def drive(request: pytest.FixtureRequest, engine: Any) -> Any:
    """Drive a session's pending run to where it stops, on one path or the other."""
    saver = InMemorySaver()
    started = None

    async def direct(session: Session) -> None:
        run = await database_sync_to_async(_claim)(session)
        await runner.execute(run, saver)

    async def background(session: Session) -> None:
        nonlocal started
        started = started or await engine()
        started.wake()
        for _ in range(400):
            if not await database_sync_to_async(session.runs.active().exists)():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the engine did not finish the run")

    return direct if request.param == "direct" else background


def _claim(session: Session) -> Run:
    run = session.runs.select_related("session").get(status="pending")
    assert run.claim("test:0:0")
    return run


def _submit(graph: str, **fields: Any) -> Session:
    return Session.submit(query="q", environment="dev", graph=graph, **fields)


def _facts(session: Session) -> dict[str, Any]:
    fresh = Session.objects.get(pk=session.pk)
    return {
        "status": fresh.status,
        "to": [event.payload["to"] for event in fresh.events.status_changes()],
        "gates": [gate.status for gate in fresh.gates.all()],
        "fired": fresh.events.filter(kind="gate_fired").count(),
        "resolution": fresh.resolution,
    }


facts = database_sync_to_async(_facts)
submit = database_sync_to_async(_submit)


async def test_a_graph_that_pauses_leaves_the_session_awaiting_input(drive: Any) -> None:
    session = await submit(register("pausing", graph_of(("only", pausing))))
    await drive(session)
    found = await facts(session)
    assert found["status"] == "awaiting_input"
    assert found["to"].count("awaiting_input") == 1
    assert found["gates"] == ["pending"]
    assert found["fired"] == 1


async def test_a_graph_that_completes_reaches_its_outcome(drive: Any) -> None:
    session = await submit(register("completing", graph_of(("only", completing))))
    await drive(session)
    found = await facts(session)
    assert (found["status"], found["resolution"]) == ("resolved", "it is well again")
    assert found["to"] == ["in_progress", "resolved"]
    assert found["gates"] == []


async def test_a_graph_that_ends_without_an_outcome_needs_review(drive: Any) -> None:
    """S30."""
    session = await submit(register("silent", graph_of(("only", silent))))
    await drive(session)
    found = await facts(session)
    assert found["status"] == "needs_review"
    assert found["to"][-1] == "needs_review"


async def test_a_graph_that_raises_ends_in_error_and_says_why(drive: Any) -> None:
    session = await submit(register("failing", graph_of(("only", failing))))
    await drive(session)
    found = await facts(session)
    assert found["status"] == "error"
    assert "the model is away" in found["resolution"]


async def test_the_pause_is_read_from_the_checkpoint_not_from_the_stream(
    drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2: whatever the call returns, the checkpoint says that the graph waits."""
    from langgraph.pregel import Pregel

    real = Pregel.ainvoke

    async def without_interrupt(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await real(self, *args, **kwargs)
        if isinstance(result, dict):
            result.pop("__interrupt__", None)
        return result

    monkeypatch.setattr(Pregel, "ainvoke", without_interrupt)
    session = await submit(register("pausing", graph_of(("only", pausing))))
    await drive(session)
    assert (await facts(session))["status"] == "awaiting_input"


def test_marking_twice_adds_no_event(make_session: Any) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    asked = tool_interrupt()
    assert run.pause([asked], checkpoint_id="c")
    before = list(session.events.values_list("seq", flat=True))
    assert not run.pause([asked], checkpoint_id="c")
    receivers.open_gates(run, [asked], "c")
    assert list(session.events.values_list("seq", flat=True)) == before
    assert session.gates.count() == 1


def test_a_late_pause_never_unwinds_a_finished_session(make_session: Any) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    session.stop()
    assert not run.pause([tool_interrupt()], checkpoint_id="c")
    session.refresh_from_db()
    assert session.status == "stopped"
    assert not session.gates.exists()


def test_a_gate_saved_on_a_finished_session_is_not_there_either(make_session: Any) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    session.stop()
    before = session.events.count()
    with pytest.raises(TransitionRefused):
        receivers._gate_of(run, tool_interrupt(), "c").save()
    assert not Gate.objects.exists()
    assert session.events.count() == before


@pytest.mark.parametrize("sender", ["post_save", "run_interrupted"])
def test_a_receiver_that_raises_leaves_no_gate_no_event_and_no_status_change(make_session: Any, sender: str) -> None:
    from sessions_app.signals import run_interrupted

    session = make_session(status="in_progress")
    run = session.runs.get()
    before = _facts(session), session.events.count()

    def burst(**kwargs: Any) -> None:
        raise RuntimeError("receiver")

    signal, about = (post_save, Gate) if sender == "post_save" else (run_interrupted, Run)
    signal.connect(burst, sender=about)
    try:
        with pytest.raises(RuntimeError, match="receiver"):
            run.pause([tool_interrupt()], checkpoint_id="c")
    finally:
        signal.disconnect(burst, sender=about)
    assert (_facts(session), session.events.count()) == before
    assert session.runs.get().status == "running"


def test_a_bare_save_outside_any_transaction_is_undone_too(make_session: Any) -> None:
    """In autocommit a bare insert would stay when its receiver raises; `Gate.save()` has its own block."""
    session = make_session(status="in_progress")
    gate = receivers._gate_of(session.runs.get(), tool_interrupt(), "c")
    assert transaction.get_autocommit()

    def burst(**kwargs: Any) -> None:
        raise RuntimeError("receiver")

    post_save.connect(burst, sender=Gate)
    try:
        with pytest.raises(RuntimeError, match="receiver"):
            gate.save()
    finally:
        post_save.disconnect(burst, sender=Gate)
    assert not Gate.objects.exists()
    session.refresh_from_db()
    assert session.status == "in_progress"


def test_a_pause_that_opens_no_gate_is_refused(make_session: Any) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    with pytest.raises(TransitionRefused, match="no gate opened"):
        run.pause([], checkpoint_id="c")
    assert session.runs.get().status == "running"
