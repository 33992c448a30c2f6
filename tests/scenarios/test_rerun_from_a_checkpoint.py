"""A rerun from a checkpoint: an attempt of its own that repeats nothing from before and leaves the earlier alone."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import interrupt

from approvals_app.models import Gate
from sessions_app import runner, timeline
from sessions_app.agents import checkpointer, checkpoints, registry
from sessions_app.attempts import attempts_of
from sessions_app.exceptions import ConcurrentRun, NotFound
from sessions_app.models import Session
from tests.fakes import RESOLVED, FakeState, agent_graph, approval, calling, counting, graph_of
from tests.scenarios.conftest import Bench, Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def stored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Let the reader of checkpoints open the bench's own saver."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        yield bench.saver

    monkeypatch.setattr(checkpointer, "open_checkpointer", opened)
    return bench


def steps(seen: list[str], *, asks: str = "", fails: Callable[[], bool] = lambda: False) -> Any:
    """Return three nodes in a row that note when they ran; `asks` pauses, the last fails while `fails` says so."""

    def node(name: str) -> Any:
        def run(state: FakeState) -> FakeState:
            seen.append(name)
            if name == asks:
                interrupt(approval(f"call-{name}"))
            if name == "third" and fails():
                raise RuntimeError("the model is away")
            return {"log": [name], **({"outcome": RESOLVED} if name == "third" else {})}

        return run

    return graph_of(*((name, node(name)) for name in ("first", "second", "third")))


def before(session: Session, node: str, *, attempt: int = 1) -> checkpoints.Boundary:
    """Return the checkpoint before a node."""
    (found,) = [one for one in checkpoints.boundaries(session) if one.next == (node,) and one.attempt == attempt]
    return found


def saved(bench: Bench, thread_id: str) -> list[tuple[str, int]]:
    """Return every checkpoint of a thread, with how much is written on it."""
    rows = bench.saver.list({"configurable": {"thread_id": thread_id}})
    return [(row.config["configurable"]["checkpoint_id"], len(row.pending_writes or ())) for row in rows]


def test_it_goes_on_from_there_and_repeats_nothing_from_before(stored: Bench) -> None:
    seen: list[str] = []
    away = [True]
    session = stored.drive(stored.submit(steps(seen, fails=lambda: away[0])))
    assert (session.status, seen) == ("error", ["first", "second", "third"])
    first = saved(stored, session.pk)

    seen.clear()
    away[0] = False
    run = session.rerun(actor=stored.requester, since=before(session, "third"))
    session = stored.drive(session)
    assert (session.status, seen) == ("resolved", ["third"])
    state = async_to_sync(registry.compiled(session.graph, stored.saver).aget_state)(
        {"configurable": {"thread_id": run.thread_id}}
    )
    assert state.values["log"] == ["first", "second", "third"]
    assert saved(stored, session.pk) == first


def test_the_checkpoints_are_the_steps_of_each_attempt_in_order_and_in_words(stored: Bench) -> None:
    session = stored.drive(stored.submit(steps([])))
    assert [one.next for one in checkpoints.boundaries(session)] == [("first",), ("second",), ("third",)]
    assert "Has query, environment, session id, log." in before(session, "second").says
    session.rerun(since=before(session, "second"))
    stored.drive(session)
    listed = [(one.attempt, *one.next) for one in checkpoints.boundaries(session)]
    assert listed == [(1, "first"), (1, "second"), (1, "third"), (2, "second"), (2, "third")]


def test_the_copy_of_a_copy_goes_on_as_well(stored: Bench) -> None:
    seen: list[str] = []
    session = stored.drive(stored.submit(steps(seen)))
    for attempt, node in ((1, "second"), (2, "third"), (3, "third"), (1, "third")):
        seen.clear()
        session.rerun(since=before(session, node, attempt=attempt))
        session = stored.drive(session)
        assert session.status == "resolved"
        assert seen == ["second", "third"][node == "third" :]


@pytest.mark.parametrize("ended", ["decided", "stopped"])
def test_from_a_step_that_had_asked_it_asks_anew_whatever_became_of_the_old_question(stored: Bench, ended: str) -> None:
    session = stored.drive(stored.submit(steps([], asks="second")))
    old = stored.gate(session)
    if ended == "stopped":
        session.stop()
    else:
        stored.decide(old)
        session = stored.drive(session)
    session.rerun(since=before(session, "second"))
    session = stored.drive(session)
    assert session.status == "awaiting_input"
    new = stored.gate(session)
    assert new.interrupt_id != old.interrupt_id
    stored.decide(new)
    assert stored.drive(session).status == "resolved"
    assert Gate.objects.get(pk=old.pk).status == ("cancelled" if ended == "stopped" else "approved")


def test_a_checkpoint_at_an_open_gate_is_refused_and_the_gate_stays(stored: Bench) -> None:
    session = stored.drive(stored.submit(steps([], asks="second")))
    with pytest.raises(ConcurrentRun, match="waits for a decision"):
        session.rerun(since=before(session, "second"))
    assert stored.gate(session).pending


def test_an_id_that_nobody_knows_and_one_of_another_session_are_not_found(stored: Bench) -> None:
    mine = stored.drive(stored.submit(steps([])))
    other = stored.drive(stored.submit(steps([])))
    for wrong in ("nonsense", before(other, "second").checkpoint_id, ""):
        with pytest.raises(NotFound, match=f"{mine.pk} has no checkpoint"):
            checkpoints.find(mine, wrong)
    assert mine.runs.count() == 1


TWO = [
    calling(("lab:fix", {"target": "one"}, "call-one")),
    calling(("lab:fix", {"target": "two"}, "call-two")),
]


@pytest.mark.parametrize("shape", ["alone", "called", "subgraph"])
def test_calls_before_it_are_not_run_again_and_those_after_it_are_new_rows(stored: Bench, shape: str) -> None:
    """Alone, the agent's own turns are the steps, so one can go on between two calls; else its whole turn is anew."""
    ran: list[dict[str, Any]] = []
    session = stored.drive(stored.submit(agent_graph(TWO, [counting("lab:fix", ran)], shape=shape)))
    for _ in range(2):
        stored.decide(stored.gate(session))
        session = stored.drive(session)
    assert [call["target"] for call in ran] == ["one", "two"]

    between = [one for one in checkpoints.boundaries(session) if one.next in {("tools",), ("fixer",)}][-1]
    run = session.rerun(since=between)
    session = stored.drive(session)
    again = ["two"] if shape == "alone" else ["one", "two"]
    for _ in again:
        stored.decide(stored.gate(session))
        session = stored.drive(session)
    assert session.status == "resolved"
    assert [call["target"] for call in ran] == ["one", "two", *again]
    rows = session.tool_calls.filter(thread_id=run.thread_id).order_by("pk")
    assert [row.args["target"] for row in rows] == again
    assert session.tool_calls.count() == 2 + len(again)


def test_a_crash_while_it_is_copied_copies_it_again(stored: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    session = stored.drive(stored.submit(steps(seen)))
    run = session.rerun(since=before(session, "third"))
    seen.clear()
    real, puts = checkpoints._put, []

    async def dies(*args: Any, **kwargs: Any) -> None:
        puts.append(args)
        if len(puts) == 2:
            raise ConnectionError("the disk is away")
        await real(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "_put", dies)
    assert stored.drive(session).status == "error"
    monkeypatch.setattr(checkpoints, "_put", real)
    # The same run, given back as after a crash.
    session.runs.filter(pk=run.pk).update(status="pending", worker="", lease_until=None, ended_at=None)
    session = stored.drive(session)
    assert (session.status, seen) == ("resolved", ["third"])


def test_the_attempts_say_from_where_who_when_and_how_each_ended(stored: Bench) -> None:
    away = [True]
    session = stored.drive(stored.submit(steps([], fails=lambda: away[0])))
    session.rerun(actor=stored.approver)
    session = stored.drive(session)
    away[0] = False
    session.rerun(actor=stored.requester, since=before(session, "second"))
    session = stored.drive(session)
    session.rerun(actor=stored.approver)
    session.stop()
    one, two, three, four = attempts_of(session)
    assert [each.number for each in (one, two, three, four)] == [1, 2, 3, 4]
    assert [each.first.kind for each in (one, two, three, four)] == ["start", "rerun", "rerun", "rerun"]
    assert [each.asked_by for each in (one, two, three, four)] == ["alice", "bob", "alice", "bob"]
    assert [each.outcome for each in (one, two, three, four)] == ["error", "error", "resolved", "cancelled"]
    assert "the model is away" in one.says
    assert three.says == "it is well again"
    assert (two.origin, three.origin and three.origin["next"]) == (None, ["second"])
    session.refresh_from_db()
    assert (session.status, session.resolution) == ("resolved", "it is well again")


def test_it_works_with_the_savers_of_the_product(bench: Bench, saved_for_real: None) -> None:
    seen: list[str] = []

    def drive(session: Session) -> Session:
        async def once() -> None:
            async with checkpointer.open_checkpointer() as saver:
                assert connection.vendor == "postgresql" or isinstance(saver, AsyncSqliteSaver)
                await runner.execute(run, saver)

        run = bench.claim(session)
        async_to_sync(once)()
        session.refresh_from_db()
        return session

    session = drive(bench.submit(steps(seen, asks="second")))
    bench.decide(bench.gate(session))
    assert drive(session).status == "resolved"
    seen.clear()
    session.rerun(since=before(session, "second"))
    session = drive(session)
    bench.decide(bench.gate(session))
    session = drive(session)
    assert (session.status, seen) == ("resolved", ["second", "second", "third"])


# On every surface ---------------------------------------------------------------------------------------------------


def test_the_api_lists_the_checkpoints_and_takes_one(stored: Bench) -> None:
    session = stored.drive(stored.submit(steps([])))
    script = Caller(stored.requester)
    listed = script.get(f"/sessions/{session.pk}/checkpoints").json()
    assert [(one["attempt"], one["next"]) for one in listed] == [(1, ["first"]), (1, ["second"]), (1, ["third"])]
    assert set(listed[0]) == {"checkpoint_id", "attempt", "thread_id", "next", "ts", "says"}
    chosen = listed[1]["checkpoint_id"]
    response = script.post(f"/sessions/{session.pk}/retry", {"from_checkpoint": chosen})
    assert response.status_code == 202
    origin = session.runs.get(pk=response.json()["run_id"]).origin
    assert (origin or {})["checkpoint_id"] == chosen
    requested = session.events.get(kind="session.rerun_requested").payload
    assert (requested["from_checkpoint"], requested["before"]) == (chosen, ["second"])

    session = stored.drive(session)
    attempts = script.get(f"/sessions/{session.pk}/full").json()["attempts"]
    assert [(one["number"], one["kind"], one["outcome"]) for one in attempts] == [
        (1, "start", "resolved"),
        (2, "rerun", "resolved"),
    ]
    assert attempts[1]["from_checkpoint"] == {"attempt": 1, "checkpoint_id": chosen, "next": ["second"]}


@pytest.mark.parametrize(("body", "status"), [({"from_checkpoint": "nonsense"}, 404), ({"from_checkpoint": ""}, 422)])
def test_the_api_refuses_what_is_no_checkpoint_and_writes_nothing(stored: Bench, body: Any, status: int) -> None:
    session = stored.drive(stored.submit(steps([])))
    response = Caller(stored.requester).post(f"/sessions/{session.pk}/retry", body)
    assert response.status_code == status
    assert session.runs.count() == 1


def test_the_command_lists_them_and_reruns_from_one(stored: Bench) -> None:
    session = stored.drive(stored.submit(steps([])))
    out = io.StringIO()
    call_command("checkpoints", session.pk, stdout=out)
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[1:2] + line.split("  ")[3:4] for line in lines] == [
        ["attempt 1", f"before {node}"] for node in ("first", "second", "third")
    ]
    out = io.StringIO()
    call_command("rerun", "--from", lines[2].split()[0], session.pk, stdout=out)
    assert out.getvalue() == f"{session.pk}: rerun queued as run {session.runs.latest('pk').pk} from before third.\n"
    with pytest.raises(CommandError, match="one session"):
        call_command("rerun", "--from", "x", session.pk, "INC-20200101-001")
    with pytest.raises(CommandError, match="There is no session"):
        call_command("checkpoints", "INC-20200101-001")


def test_the_page_offers_the_checkpoints_and_shows_the_attempts(stored: Bench, client: Client) -> None:
    session = stored.drive(stored.submit(steps([])))
    client.force_login(stored.requester)
    page = client.get(f"/sessions/{session.pk}/checkpoints/").content.decode()
    assert page.count("Run again from here") == 3
    chosen = before(session, "second").checkpoint_id
    response = client.post(f"/sessions/{session.pk}/rerun/", {"from_checkpoint": chosen}, follow=True)
    text = response.content.decode()
    assert "runs again from before second." in text
    assert "from attempt 1, before <code>second</code>" in text
    assert "asked for a rerun from before <code>second</code>" in text
    # Queued: it cannot be asked for again, but it can be cancelled.
    assert "Run again from here" not in client.get(f"/sessions/{session.pk}/checkpoints/").content.decode()
    assert f"Cancel the rerun of {session.pk}" in text
    assert client.post(f"/sessions/{session.pk}/rerun/", {"from_checkpoint": "x"}).status_code == 404


def test_who_may_only_look_sees_the_checkpoints_without_a_button(stored: Bench, client: Client) -> None:
    session = stored.drive(stored.submit(steps([])))
    client.force_login(stored.approver)
    page = client.get(f"/sessions/{session.pk}/checkpoints/").content.decode()
    assert "before <code>second</code>" in page
    assert "Run again from here" not in page
    assert client.post(f"/sessions/{session.pk}/rerun/", {"from_checkpoint": "x"}).status_code == 403


def test_the_strip_counts_what_the_copy_brought_along_as_done(stored: Bench) -> None:
    session = stored.drive(stored.submit(steps([], asks="third")))
    stored.decide(stored.gate(session))
    session = stored.drive(session)
    session.rerun(since=before(session, "third"))
    session = stored.drive(session)
    assert [step.standing for step in timeline.strip(session)] == ["done", "done", "waiting"]


def test_the_checkpoints_of_incident_are_its_agents_in_words(stored: Bench) -> None:
    session = Session.submit(query="checkout is slow", environment="dev")
    session = stored.drive(session)
    found = {one.next[0]: one.says for one in checkpoints.boundaries(session)}
    assert list(found)[:3] == ["intake", "triage", "deep_investigator"]
    assert found["intake"] == "Nothing has been read yet."
    assert found["triage"] == "The query was read."
    assert found["deep_investigator"].startswith("triage reported, ")
