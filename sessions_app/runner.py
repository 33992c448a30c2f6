"""Drive one claimed run: the graph from where it stands to its next pause or its end, and write down which."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

from django.conf import settings
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Durability, StateSnapshot

from sessions_app import disk, postgres
from sessions_app.agents import checkpoints, registry
from sessions_app.agents.answers import arrived
from sessions_app.agents.context import RunContext
from sessions_app.agents.journal import DatabaseJournal
from sessions_app.exceptions import LeaseLost
from sessions_app.lease import Lease, holding
from sessions_app.models import Run
from sessions_app.states import RunKind
from sessions_app.steps import connected, in_database
from sessions_app.storable import storable

log = logging.getLogger("clm.runner")

#: Supersteps that one drive may take; a graph that turns in a circle ends as a failed run.
RECURSION_LIMIT = 200
#: Seconds before a run that met a full disk is tried again.
BREATH = 5.0
#: When LangGraph writes checkpoints: each step's before the next begins. A call that the ledger has claimed is then
#: always in a checkpoint, under its id; with less, a model that is asked anew after a crash wants the same under
#: another id, and it runs twice (docs/reliability.md, tests/scenarios/test_durability.py).
DURABILITY: Durability = "sync"


def is_graph_paused(snapshot: StateSnapshot) -> bool:
    """Say whether the checkpoint waits for an answer. Never read from the stream: chunks get lost (S2)."""
    return bool(snapshot.interrupts)


async def execute(run: Run, saver: registry.Saver) -> None:
    """Drive a run that this process has claimed, renewing its lease, and end it as what it became.

    Cancelling the call leaves the row as it is: whoever cancels says what becomes of the run.
    """
    lease = Lease(run)
    async with connected():
        renewing = asyncio.create_task(_renew(run, lease, asyncio.current_task()))
        try:
            try:
                with holding(lease):
                    snapshot = await _drive(run, saver)
            except LeaseLost:
                # Whoever has it now goes on from the last checkpoint.
                log.warning("%s is no longer this worker's: it stopped", run)
            except Exception as error:
                log.exception("%s failed", run)
                if disk.is_full(error):
                    await _give_back_later(run)
                elif postgres.is_away(error):
                    # Counted, so that a call of one's own that never reaches its database ends some day.
                    await _give_back_later(run, cause="the database was away", counts=True)
                else:
                    await in_database(run.fail, f"{type(error).__name__}: {error}"[:2000])
            else:
                await _conclude(run, snapshot)
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing


async def _give_back_later(run: Run, *, cause: str = "the disk was full", counts: bool = False) -> None:
    """Give a run back that met what is no fault of its own, as a full disk; not at once, so that it does not spin."""
    await asyncio.sleep(BREATH)
    await in_database(run.release, cause=cause, counts=counts)


async def _drive(run: Run, saver: registry.Saver) -> StateSnapshot:
    """Run the graph until it stops and return the checkpoint it stopped at."""
    session = run.session
    graph = registry.compiled(session.graph, saver)
    thread: RunnableConfig = {
        "configurable": {"thread_id": run.thread_id},
        "recursion_limit": RECURSION_LIMIT,
    }
    context = RunContext(
        session_id=session.pk,
        run_id=run.pk,
        attempt=run.attempt,
        environment=session.environment,
        query=session.query,
        journal=DatabaseJournal(),
    )
    await graph.ainvoke(await _input(run, graph, saver, thread), thread, context=context, durability=DURABILITY)
    return await graph.aget_state(thread)


async def _input(run: Run, graph: registry.Graph, saver: registry.Saver, thread: RunnableConfig) -> Any:
    """Return what to put into the graph: the answers, or the first input, or nothing to go on after a crash.

    After a crash only the answers that have not arrived are sent: a second time, one could answer the next question.
    """
    if run.kind == RunKind.RESUME:
        answers = run.answers
        if run.attempt > 1 and answers:
            waiting = {found.id for found in (await graph.aget_state(thread)).interrupts}
            waiting -= await arrived(saver, run.thread_id)
            answers = {key: answer for key, answer in answers.items() if key in waiting}
        return Command(resume=answers) if answers else None
    if run.origin:
        if await saver.aget_tuple(_at(thread, run.origin["becomes"])) is None:
            await checkpoints.copy(saver, run.origin, run.thread_id)
        return None
    if await saver.aget_tuple(thread) is not None:
        return None
    session = run.session
    return registry.get(session.graph).initial(
        {
            "query": session.query,
            "environment": session.environment,
            "session_id": session.pk,
            "state_overrides": session.state_overrides,
        }
    )


def _at(thread: RunnableConfig, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {**thread["configurable"], "checkpoint_id": checkpoint_id}}


async def _conclude(run: Run, snapshot: StateSnapshot) -> None:
    """Write both branches in full: paused -> gates and `awaiting_input`; finished -> its outcome."""
    try:
        if is_graph_paused(snapshot):
            await in_database(
                run.pause,
                [as_json(found) for found in snapshot.interrupts],
                checkpoint_id=str(snapshot.config["configurable"].get("checkpoint_id", "")),
            )
        elif snapshot.next:
            await in_database(run.fail, f"The graph stopped before {', '.join(snapshot.next)} without asking anything.")
        else:
            outcome = registry.get(run.session.graph).outcome(snapshot.values)
            await in_database(run.finish, outcome)
    except Exception as error:
        # Nothing was written. The checkpoint has it all, so the run is tried again from there.
        log.exception("%s could not be concluded", run)
        if disk.is_full(error):
            await _give_back_later(run)
        else:
            await in_database(run.release, cause=f"{type(error).__name__}: {error}"[:500])


def as_json(found: Any) -> dict[str, Any]:
    """Return an interrupt as the plain data that a gate stores."""
    return {
        "id": found.id,
        "value": storable(json.loads(json.dumps(found.value, default=str))),
        "response_schema": getattr(found, "response_schema", None),
    }


async def _renew(run: Run, lease: Lease, driving: asyncio.Task[Any] | None) -> None:
    """Hold the lease while the graph runs; a run that is no longer ours is cancelled."""
    while True:
        await asyncio.sleep(settings.CLM_LEASE_SECONDS / 3)
        try:
            held = await lease.renew()
        except Exception:
            log.exception("The lease of %s could not be renewed; trying again", run)
            continue
        if not held and driving is not None:
            log.warning("%s is no longer this worker's: stopping it", run)
            driving.cancel()
            return
