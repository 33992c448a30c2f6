"""S10: parallel gated calls, and the answer lands on the wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from approvals_app.models import Gate
from tests.fakes import SHAPES, agent_graph, calling, counting
from tests.scenarios.conftest import Bench

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("shape", SHAPES)
def test_s10_three_calls_of_one_turn_answered_in_reverse_each_get_their_own_answer(bench: Bench, shape: str) -> None:
    ran: list[dict[str, Any]] = []
    fix = counting("lab:fix", ran)
    turn = calling(
        ("lab:fix", {"target": "one"}, "call-one"),
        ("lab:fix", {"target": "two"}, "call-two"),
        ("lab:fix", {"target": "three"}, "call-three"),
    )
    session = bench.drive(bench.submit(agent_graph([turn], [fix], shape=shape)))
    gates = {gate.tool_call_id: gate for gate in bench.gates(session)}
    assert set(gates) == {"call-one", "call-two", "call-three"}
    assert ran == []

    bench.decide(gates["call-three"], "edit", edited_args={"target": "three", "size": 30})
    bench.decide(gates["call-two"], "reject", message="not the second")
    assert ran == []
    bench.decide(gates["call-one"], "approve")
    session = bench.drive(session)

    assert sorted(ran, key=str) == [{"target": "one", "size": 1}, {"target": "three", "size": 30}]
    assert session.status == "resolved"
    assert bench.calls(session) == {"call-one": "executed", "call-two": "rejected", "call-three": "executed"}
    rows = {row.tool_call_id: row for row in session.tool_calls.all()}
    assert rows["call-two"].approval_rationale == "not the second"
    assert "done: three 30" in rows["call-three"].result
    logged = {
        event.payload["tool_call_id"]: event.payload["args"] for event in session.events.filter(kind="tool_invoked")
    }
    assert logged == {"call-one": {"target": "one"}, "call-three": {"target": "three", "size": 30}}
    assert {gate.tool_call_id: gate.status for gate in Gate.objects.filter(session=session)} == {
        "call-one": "approved",
        "call-two": "rejected",
        "call-three": "edited",
    }
