"""With CLM_ENGINE=procrastinate: a run and its job are one transaction, and a worker does what the job points to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import connection, transaction

from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app import deferred, recovery
from sessions_app import engine as engines
from sessions_app.models import Run, Session
from tests.fakes import graph_of, pausing, register
from tests.scenarios.conftest import until
from tests.scenarios.test_engine_life import submit

pytestmark = [
    pytest.mark.skipif(not engines.scaled(), reason="CLM_ENGINE is not procrastinate"),
    pytest.mark.django_db(transaction=True),
]


def jobs() -> list[dict[str, Any]]:
    """Return what is in the queue, without the ticks of the sweep."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT task_name, args, lock, priority FROM procrastinate_jobs "
            "WHERE task_name IN ('clm.drive', 'clm.beside') ORDER BY id"
        )
        return [
            {"task": task, "args": json.loads(args), "lock": lock, "priority": priority}
            for task, args, lock, priority in cursor.fetchall()
        ]


def decide(gate: Gate, bob: Any) -> None:
    """Approve the gate."""
    gate.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)


def test_a_decision_that_is_rolled_back_leaves_no_job_and_one_that_commits_leaves_one(make_gate: Any, bob: Any) -> None:
    gate = make_gate()
    before = len(jobs())
    with transaction.atomic():
        decide(gate, bob)
        assert len(jobs()) == before + 1
        transaction.set_rollback(True)
    assert len(jobs()) == before
    assert Gate.objects.get(pk=gate.pk).pending

    decide(Gate.objects.get(pk=gate.pk), bob)
    resume = Run.objects.get(session=gate.session, kind="resume")
    assert jobs()[-1] == {
        "task": "clm.drive",
        "args": {"run_id": resume.pk},
        "lock": gate.session_id,
        "priority": 20,
    }


def test_a_run_that_is_given_back_is_offered_again(make_session: Any) -> None:
    session = make_session(status="in_progress")
    before = len(jobs())
    assert session.runs.get().release(cause="the test says so")
    assert len(jobs()) == before + 1


def test_whoever_has_decided_is_served_before_whoever_submits(make_gate: Any, make_session: Any, bob: Any) -> None:
    gate = make_gate()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
    make_session()
    decide(gate, bob)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        worker = cursor.fetchone()[0]
        cursor.execute("SELECT lock FROM procrastinate_fetch_job_v2(ARRAY['runs']::varchar[], %s)", [worker])
        assert cursor.fetchone()[0] == gate.session_id


async def test_two_jobs_for_one_run_make_one_drive(engine: Any, alice: Any) -> None:
    seen: list[int] = []

    async def counts(state: Any) -> Any:
        seen.append(1)
        return {"log": ["done"]}

    session = await submit(register("twice", graph_of(("counts", counts))), alice)
    run = await Run.objects.aget(session=session)
    await database_sync_to_async(deferred.offer)(run)
    assert len(await database_sync_to_async(jobs)()) == 2
    await engine()
    await until(lambda: not jobs())
    assert seen == [1]
    assert (await Run.objects.aget(session=session)).attempt == 1


async def test_a_run_whose_job_is_lost_is_found_by_the_sweep(engine: Any, alice: Any) -> None:
    session = await submit(register("lost", graph_of(("asks", pausing))), alice)
    await database_sync_to_async(_forget_jobs)()
    await engine()
    await until(Gate.objects.filter(session=session).pending().exists)


def _forget_jobs() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


async def test_a_stop_reaches_the_worker_that_drives_long_before_its_lease_is_renewed(
    engine: Any, alice: Any, settings: Any
) -> None:
    settings.CLM_LEASE_SECONDS = 3_600
    thinking, cut_off = asyncio.Event(), asyncio.Event()

    async def thinks(state: Any) -> Any:
        thinking.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut_off.set()
            raise

    session = await submit(register("stopped", graph_of(("thinks", thinks))), alice)
    worker = await engine()
    await asyncio.wait_for(thinking.wait(), 20)
    await database_sync_to_async(session.stop)()
    await asyncio.wait_for(cut_off.wait(), 20)
    await until(lambda: not jobs())
    assert worker.driving == 0
    assert (await Run.objects.aget(session=session)).status == "cancelled"


async def test_each_tick_of_the_sweep_is_done_by_one_of_two_workers(
    engine: Any, settings: Any, monkeypatch: Any
) -> None:
    settings.CLM_SWEEP_SECONDS = 1.0
    ticks: list[int] = []
    real = recovery.slice_of

    def noting(tick: int) -> Any:
        ticks.append(tick)
        return real(tick)

    monkeypatch.setattr(recovery, "slice_of", noting)
    await engine()
    await engine()
    await until(lambda: len(ticks) >= 4)
    assert len(ticks) == len(set(ticks))


async def test_the_job_of_a_worker_that_is_gone_is_put_back(engine: Any, alice: Any) -> None:
    """A kill leaves the job `doing` and its lock held, which no worker's end frees."""
    session = await submit(register("gone", graph_of(("asks", pausing))), alice)
    await database_sync_to_async(_leave_it_doing)()
    await engine()
    await until(Gate.objects.filter(session=session).pending().exists)


def _leave_it_doing() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour') RETURNING id"
        )
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s", [cursor.fetchone()[0]])


def test_what_a_sweep_reads_goes_round_all_that_rests(make_session: Any, monkeypatch: Any, settings: Any) -> None:
    monkeypatch.setattr(recovery, "SLICE", 2)
    monkeypatch.setattr(recovery, "REST", 0)
    for _ in range(5):
        session: Session = make_session(status="in_progress")
        run = session.runs.get()
        Run.objects.filter(pk=run.pk).update(status="interrupted", lease_until=None, ended_at=session.created_at)
    ticks = [int(tick * settings.CLM_SWEEP_SECONDS) for tick in range(3)]
    found = [run.pk for tick in ticks for run in recovery.slice_of(tick)]
    assert sorted(found) == sorted(Run.objects.values_list("pk", flat=True))

    # A graph that no worker has can be read by none.
    Session.objects.filter(runs=found[0]).update(graph="elsewhere")
    assert {run.pk for tick in ticks for run in recovery.slice_of(tick)} == set(found[1:])
