"""Two server processes on one PostgreSQL: one decision wins, whoever asks whom, and both desks see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest

from tests.chaos.script import EFFECTS, RULES
from tests.serving.conftest import Redis
from tests.serving.desk import Person, make_people, token_in
from tests.serving.server import RunningServer, serving

pytestmark = [pytest.mark.timeout(400), pytest.mark.postgres, pytest.mark.processes]

AT_ONCE = 50


def two(
    tmp_path: Path, stack: ExitStack, database: str, second: Sequence[str] = ("manage.py", "serve"), **more: str
) -> tuple[RunningServer, RunningServer]:
    """Start two servers on one database; the second by another command where one is given."""
    config = tmp_path / "clm.toml"
    config.write_text(RULES)
    env = {
        "DATABASE_URL": database,
        "CLM_CONFIG": str(config),
        "CLM_GRAPHS": "chaos=tests.chaos.graph.spec",
        "CLM_SECRET_KEY": "the same secret on both servers, for one sign-in",
        "CLM_OPEN_LOOPBACK": "1",
        **more,
    }
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = stack.enter_context(serving(tmp_path / "a", port=None, **env))
    return first, stack.enter_context(serving(tmp_path / "b", port=None, command=second, **env))


@pytest.fixture
def servers(tmp_path: Path, postgres: str) -> Iterator[tuple[RunningServer, RunningServer]]:
    with ExitStack() as stack:
        yield two(tmp_path, stack, postgres)


def submit(server: RunningServer) -> str:
    body = {"query": "strike", "environment": "dev", "graph": "chaos", "submitter": {"id": "t"}}
    answer = httpx.post(f"{server.url}/api/v1/sessions", json=body, timeout=30).raise_for_status()
    return str(answer.json()["session_id"])


def by_page(person: Person, gate: dict[str, Any]) -> Any:
    """Return what sends this person's approval from the gate's page, which they have open."""
    path = f"/approvals/{gate['id']}/"
    form = {
        "decision": "approve",
        "digest": gate["digest"],
        "csrfmiddlewaretoken": token_in(person.page(path)),
    }
    return lambda: httpx.post(f"{person.server.url}{path}decide/", data=form, headers=person.browser, timeout=60)


def test_fifty_approvals_at_once_are_one_execution_and_49_told_who_won(
    servers: tuple[RunningServer, RunningServer], tmp_path: Path
) -> None:
    """S4: by the API and from the page, on both servers, all at the same moment."""
    a, b = servers
    make_people(a, bob="approver", dora="approver")
    people = [Person(a, "bob"), Person(b, "dora")]
    session = submit(a)
    gates = people[0].wait_for_gates(session, 2)
    left = next(gate for gate in gates if gate["args"]["target"] == "left")
    right = next(gate for gate in gates if gate is not left)

    ways = [way for person in people for way in (by_page(person, left), lambda person=person: person.approve(left))]
    start = Barrier(AT_ONCE)

    def one(number: int) -> httpx.Response:
        start.wait(30)
        answer: httpx.Response = ways[number % len(ways)]()
        return answer

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(one, range(AT_ONCE)))

    counted = Counter(answer.status_code for answer in answers)
    assert counted[409] == AT_ONCE - 1, counted
    assert counted[201] + counted[302] == 1
    (decided,) = [gate for gate in people[0].gates(session, status="approved") if gate["id"] == left["id"]]
    full = httpx.get(f"{b.url}/api/v1/sessions/{session}/full", timeout=30).json()
    (event,) = [one for one in full["events"] if one["kind"] == "gate_decided"]
    winner = event["payload"]["actor"]
    assert decided["status"] == "approved"
    for answer in answers:
        if answer.status_code != 409:
            continue
        if answer.headers["Content-Type"].startswith("application/json"):
            error = answer.json()["error"]
            assert error["code"] == "conflict"
            assert error["message"].startswith(f"{winner} approved this at ")
            assert error["details"]["decided_by"] == winner
        else:
            assert f"{winner} approved this at " in answer.text

    assert people[1].approve(right).status_code == 201
    (last,) = people[1].wait_for_gates(session, 1)
    assert people[0].approve(last).status_code == 201
    b.wait_for(session, "resolved", "needs_review")
    assert Counter(effects(tmp_path)) == {f"{session} {target}": 1 for target in EFFECTS}


def effects(tmp_path: Path) -> list[str]:
    """Return what was done, on whichever server."""
    return [line for log in tmp_path.glob("*/effects.log") for line in log.read_text().splitlines()]


@pytest.mark.redis
def test_a_decision_on_one_server_reaches_an_open_page_of_the_other_over_redis(
    tmp_path: Path, postgres: str, redis: Redis
) -> None:
    """The second server does not look at the log by itself, so what it hears came through the layer."""
    with ExitStack() as stack:
        deaf = ("-m", "tests.serving.deaf")
        a, b = two(tmp_path, stack, postgres, deaf, REDIS_URL=redis.url)
        make_people(a, bob="approver", dora="approver")
        bob, dora = Person(a, "bob"), Person(b, "dora")
        session = submit(a)
        gates = bob.wait_for_gates(session, 2)
        with dora.queue_socket() as page:
            assert bob.approve(gates[0]).status_code == 201
            frame = page.wait_for(f"gate-{gates[0]['id']}")
        assert f'hx-target="#rows #gate-{gates[0]["id"]}" hx-swap="outerMorph"' in frame["content"]
