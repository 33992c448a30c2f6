"""S21: one of three open gates is approved, and the session says that it goes on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app.models import Session
from tests.conftest import tool_interrupt

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
def test_s21_the_session_awaits_input_until_the_last_of_three_gates_is_decided(
    make_gate: Any, bob: Any, order: tuple[int, ...]
) -> None:
    gate: Gate = make_gate(interrupts=[tool_interrupt(), tool_interrupt(), tool_interrupt()])
    session = Session.objects.get(pk=gate.session_id)
    gates = list(session.gates.order_by("pk"))
    for place, decision in zip(order, ["approve", "reject", "approve"], strict=True):
        session.refresh_from_db()
        assert session.status == "awaiting_input"
        assert not session.runs.active().exists()
        one = gates[place]
        one.decide(decision, actor=bob, channel=Channel.API, digest=one.digest)
    session.refresh_from_db()
    assert session.status == "in_progress"
    run = session.runs.get(kind="resume")
    assert run.answers.keys() == {one.interrupt_id for one in gates}
    assert run.answers[gates[order[1]].interrupt_id]["type"] == "reject"
    assert [event.payload["to"] for event in session.events.status_changes()] == [
        "in_progress",
        "awaiting_input",
        "in_progress",
    ]
