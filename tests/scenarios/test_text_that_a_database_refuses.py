"""PostgreSQL holds no NUL, no database holds half a surrogate pair, and a column has a length: no such text may cost a
session its result or leave a tool that ran unsettled."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.exceptions import Invalid
from sessions_app.models import Session
from tests.fakes import agent_graph, calling, counting
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db

#: What a log file, a binary answer or a model's JSON may have in it.
ODD = {"NUL": "before\x00after", "half a pair": "before\ud83dafter"}


@pytest.mark.parametrize("text", ODD.values(), ids=list(ODD))
def test_a_tool_that_ran_and_answered_odd_text_is_settled_as_executed(bench: Bench, lab_rules: None, text: str) -> None:
    ran: list[dict[str, Any]] = []
    turn = calling(("lab:notify", {"target": "oncall"}, "call-of-the-odd-text"))
    tool = counting("lab:notify", ran, answer=text)
    session = bench.drive(bench.submit(agent_graph([turn], [tool])))
    row = session.tool_calls.get()
    assert (session.status, row.status, len(ran)) == ("resolved", "executed_with_notify", 1)
    assert row.result.startswith("before")
    assert row.result.endswith("after")


@pytest.mark.parametrize("text", ODD.values(), ids=list(ODD))
def test_a_call_with_odd_arguments_is_asked_about_and_settled(bench: Bench, text: str) -> None:
    """Whether the tool takes them is the tool's affair; pydantic refuses half a pair."""
    ran: list[dict[str, Any]] = []
    turn = calling(("lab:fix", {"target": text}, "call-of-the-odd-text"), text=f"because {text}")
    session = bench.drive(bench.submit(agent_graph([turn], [counting("lab:fix", ran)])))
    assert session.status == "awaiting_input"
    bench.decide(bench.gate(session))
    session = bench.drive(session)
    assert session.status == "resolved"
    assert session.tool_calls.get().status == ("executed" if ran else "failed")


@pytest.mark.parametrize(
    "fields",
    [
        {"query": ODD["NUL"]},
        {"query": ODD["half a pair"]},
        {"submitter_id": ODD["NUL"]},
        {"submitter_id": "x" * 151},
        {"submitter_team": "x" * 151},
        {"state_overrides": {"note": ODD["NUL"]}},
    ],
    ids=["query NUL", "query surrogate", "submitter NUL", "long submitter", "long team", "override NUL"],
)
def test_a_submission_that_cannot_be_kept_is_refused_as_invalid(alice: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Session.submit(**{"query": "q", "environment": "dev", "requester": alice, **fields})
    assert not Session.objects.exists()
