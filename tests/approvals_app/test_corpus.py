"""Every recorded way to ask: read, rendered, decided on the page, and sent back through a real graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.types import interrupt

from approvals_app import requests
from approvals_app.models import Decision, Gate
from approvals_app.requests import Verdict
from approvals_app.states import DecisionType
from sessions_app.agents.context import RunContext
from sessions_app.agents.registry import GraphSpec, Outcome
from tests.fakes import RESOLVED, ScriptedModel, _initial, calling, graph_of
from tests.scenarios.conftest import Bench, bench  # noqa: F401 - a fixture

CORPUS = {path.stem: json.loads(path.read_text()) for path in sorted(Path(__file__).parents[1].glob("corpus/*.json"))}
ANSWERS = [(name, index) for name, case in CORPUS.items() for index in range(len(case["answers"]))]


@pytest.mark.parametrize("name", CORPUS)
def test_each_recorded_request_is_read_as_its_dialect(name: str) -> None:
    case = CORPUS[name]
    asked = requests.read(case["value"], case["response_schema"])
    assert {
        "dialect": requests.dialect_of(case["value"]).name,
        "kind": asked.kind,
        "allowed": list(asked.allowed),
        "tools": [call["tool"] for call in asked.calls],
    } == case["reads"]


def test_every_dialect_is_in_the_corpus_but_clm_s_own_unknown_outcome() -> None:
    """What became of a call that was cut off is played in tests/scenarios/test_ledger.py."""
    known = {dialect.name for dialect in requests.DIALECTS} - {"unknown_outcome"}
    assert {case["reads"]["dialect"] for case in CORPUS.values()} == known


@pytest.mark.parametrize("name", CORPUS)
def test_a_gate_that_nobody_decides_is_answered_with_no_approval(name: str) -> None:
    case = CORPUS[name]
    asked = requests.read(case["value"], case["response_schema"])
    calls = list(asked.calls)
    told = requests.refused(
        asked.kind, calls=calls, request=case["value"], why="too late", schema=case["response_schema"]
    )
    approvals = [answer["graph_gets"] for answer in case["answers"] if "approve" in str(answer["form"])]
    assert told not in approvals
    assert not {'"approve"', '"accept"', '"edit"'} & set(json.dumps(told).replace(",", " ").replace("}", " ").split())


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "index"), ANSWERS)
def test_the_graph_gets_the_answer_in_the_shape_of_its_question(
    bench: Bench,  # noqa: F811
    client: Client,
    name: str,
    index: int,
) -> None:
    case, got = CORPUS[name], []

    def ask(state: Any) -> Any:
        got.append(interrupt(case["value"], response_schema=case["response_schema"]))
        return {"outcome": RESOLVED}

    session = bench.drive(bench.submit(graph_of(("ask", ask))))
    gate = bench.gate(session)
    client.force_login(bench.approver)
    page = client.get(gate.get_absolute_url()).content.decode()
    for text in case["shows"]:
        assert text in page
    answer = case["answers"][index]
    decide(client, gate, answer["form"])
    session = bench.drive(session)
    assert got == [answer["graph_gets"]]
    assert type(got[0]) is type(answer["graph_gets"])
    assert session.status == "resolved"


def decide(client: Client, gate: Gate, form: dict[str, Any]) -> None:
    """Send the form; what changes a call is shown first, and then sent again with what was shown."""
    address = f"/approvals/{gate.pk}/decide/"
    data = {"digest": gate.digest, **form}
    response = client.post(address, data)
    if response.status_code == 200 and b'name="previewed"' in response.content:
        assert not Decision.objects.exists()
        previewed = response.content.decode().partition('name="previewed" value="')[2].partition('"')[0]
        response = client.post(address, {**data, "previewed": previewed})
    assert response.status_code == 302, response.content.decode()


@pytest.mark.django_db
def test_langchain_s_own_batch_runs_what_was_approved_and_edited_and_nothing_else(
    bench: Bench,  # noqa: F811
    bob: User,
) -> None:
    ran: list[str] = []

    @tool
    async def wipe(target: str) -> str:
        """Wipe the target."""
        ran.append(target)
        return f"wiped {target}"

    turn = calling(*(("wipe", {"target": name}, f"call-{name}") for name in ("one", "two", "three")))
    agent: Any = create_agent(
        ScriptedModel(lines=[turn]),
        [wipe],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"wipe": True})],
        context_schema=RunContext,
        checkpointer=bench.saver,
    )
    told: list[str] = []

    def outcome(values: dict[str, Any]) -> Outcome:
        told.extend(message.text for message in values["messages"] if isinstance(message, ToolMessage))
        return Outcome(**RESOLVED)  # type: ignore[arg-type]

    spec = GraphSpec(name="batched", build=lambda saver: agent, initial=_initial, outcome=outcome, nodes=())
    session = bench.drive(bench.submit(lambda: spec))
    gate = bench.gate(session)
    assert (gate.kind, [call["args"]["target"] for call in gate.calls]) == ("batch", ["one", "two", "three"])
    bench.decide(
        gate,
        [
            Verdict(type=DecisionType.REJECT, message="not the first"),
            Verdict(type=DecisionType.APPROVE),
            Verdict(type=DecisionType.EDIT, args={"target": "a copy of three"}),
        ],
    )
    session = bench.drive(session)
    assert session.status == "resolved"
    assert sorted(ran) == ["a copy of three", "two"]
    assert any("not the first" in text for text in told)
    gate.refresh_from_db()
    assert gate.status == "edited"
