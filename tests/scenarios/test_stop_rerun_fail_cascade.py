"""What a stop, a failure and a rerun take along: no gate of theirs stays answerable, and no other run is touched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.test import Client

from approvals_app.exceptions import GateCancelled
from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app.exceptions import TransitionRefused
from sessions_app.models import Run, Session, ToolCall
from sessions_app.states import SessionStatus
from tests.conftest import question_interrupt, tool_interrupt
from tests.fakes import graph_of, pausing, register, silent
from tests.scenarios.conftest import Bench, Caller, until
from tests.scenarios.test_engine_life import submit

# A queued rerun ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_rerun_that_nobody_has_claimed_can_be_stopped_and_the_session_stays_as_it_ended(bench: Bench) -> None:
    session = bench.drive(bench.submit(graph_of(("says", silent))))
    assert session.status == "needs_review"
    rerun = session.rerun(actor=bench.requester)
    script = Caller(bench.requester)
    assert script.delete(f"/sessions/{session.pk}").status_code == 204
    session.refresh_from_db()
    rerun.refresh_from_db()
    assert (session.status, rerun.status) == ("needs_review", "cancelled")
    assert session.ended_at is not None
    assert bench.kinds(session)[-2:] == ["session.rerun_requested", "session.stop_requested"]
    # Nothing is left to stop, and another rerun is taken.
    assert script.delete(f"/sessions/{session.pk}").status_code == 409
    assert session.rerun().status == "pending"


@pytest.mark.django_db
def test_a_session_that_has_ended_with_nothing_queued_is_still_a_conflict(bench: Bench) -> None:
    session = bench.drive(bench.submit(graph_of(("says", silent))))
    before = bench.kinds(session)
    with pytest.raises(TransitionRefused, match="has ended already"):
        session.stop()
    assert bench.kinds(session) == before


@pytest.mark.django_db
def test_the_page_cancels_a_queued_rerun(bench: Bench, client: Client) -> None:
    session = bench.drive(bench.submit(graph_of(("says", silent))))
    session.rerun()
    client.force_login(bench.requester)
    assert b"Cancel the rerun" in client.get(session.get_absolute_url()).content
    response = client.post(f"/sessions/{session.pk}/stop/", follow=True)
    assert b"stays as it ended; its rerun was cancelled" in response.content
    assert b"Run again from the start" in response.content


# A late stop ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
async def test_a_stop_that_is_heard_late_leaves_the_rerun_alone(engine: Any, alice: Any) -> None:
    """The first run is stopped and the session run again before its loop hears of the stop once more."""
    began: list[int] = []
    may_go_on = asyncio.Event()

    async def waits(state: Any) -> Any:
        began.append(1)
        await may_go_on.wait()
        return {"log": ["done"]}

    session = await submit(register("late", graph_of(("waits", waits))), alice)
    running = await engine()
    first = await Run.objects.aget(session=session)
    await until(lambda: len(began) == 1)
    await database_sync_to_async(session.stop)()
    await until(lambda: not running._driving)
    rerun = await database_sync_to_async(session.rerun)()
    await until(lambda: len(began) == 2)

    running.cancel(first.pk)
    await asyncio.sleep(0)
    may_go_on.set()
    await until(Run.objects.filter(pk=rerun.pk, status="succeeded").exists)

    await first.arefresh_from_db()
    assert first.status == "cancelled"


# Gates of what is over -----------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_after_a_stop_and_a_rerun_a_late_click_is_told_of_the_stop_and_not_of_the_rerun(
    bench: Bench, client: Client, decision: str
) -> None:
    session = bench.drive(bench.submit(graph_of(("asks", pausing))))
    old = bench.gate(session)
    session.stop(actor=bench.requester, note="wrong service")
    session.rerun()
    session = bench.drive(session)
    assert session.status == "awaiting_input"
    with pytest.raises(GateCancelled, match=rf"^alice stopped {session.pk}, so this gate was cancelled"):
        bench.decide(old, decision)
    new = bench.gate(session)
    assert (old.decisions.count(), new.pending) == (0, True)

    client.force_login(bench.approver)
    page = client.get(old.get_absolute_url()).content.decode()
    assert f"alice stopped {session.pk}, so this was cancelled; nothing was run." in page
    assert 'name="decision"' not in page
    late = client.post(f"{old.get_absolute_url()}decide/", {"decision": decision, "digest": old.digest, "message": "w"})
    assert late.status_code == 409
    assert bench.gate(session).pk == new.pk


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["fail", "stop"])
def test_whatever_ends_a_session_ends_each_of_its_gates_once_and_its_calls_with_it(make_gate: Any, end: str) -> None:
    gate: Gate = make_gate(interrupts=[tool_interrupt(), question_interrupt(), tool_interrupt()])
    session = gate.session
    if end == "stop":
        session.stop()
    else:
        session.move(SessionStatus.ERROR, cause="run failed", resolution="the model is away")
    assert {one.status for one in session.gates.all()} == {"cancelled"}
    assert session.events.filter(kind="gate_cancelled").count() == 3
    assert not ToolCall.objects.filter(session=session, status__in=["pending_approval", "approved"]).exists()
    for one in session.gates.all():
        assert isinstance(one.late(), GateCancelled)
        assert one.cancel(cause="again") is False
    assert session.events.filter(kind="gate_cancelled").count() == 3


@pytest.mark.django_db
def test_the_api_tells_a_late_click_what_happened_with_the_gate_as_it_is(bench: Bench) -> None:
    session = bench.drive(bench.submit(graph_of(("asks", pausing))))
    gate = bench.gate(session)
    session.stop(actor=bench.requester)
    response = Caller(bench.approver).post(
        f"/gates/{gate.pk}/decisions", {"type": "approve", "digest": gate.digest, "message": ""}
    )
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (409, "conflict")
    assert error["message"].startswith(f"alice stopped {session.pk}")
    assert error["details"]["gate"]["status"] == "cancelled"


@pytest.mark.django_db
def test_an_answer_that_was_given_is_kept_when_its_run_fails_and_asks_nothing_any_more(bench: Bench) -> None:
    def fails(state: Any) -> Any:
        raise RuntimeError("the disk is full")

    session = bench.drive(bench.submit(graph_of(("asks", pausing), ("fails", fails))))
    gate = bench.gate(session)
    bench.decide(gate)
    session = bench.drive(session)
    assert (session.status, Gate.objects.get(pk=gate.pk).status) == ("error", "approved")
    assert not Gate.objects.filter(session=session).pending().exists()
    assert not Session.objects.filter(status="awaiting_input").exists()
    late = Gate.objects.get(pk=gate.pk).late()
    assert "bob" in late.text
    assert gate.decisions.get().channel == Channel.API
