from __future__ import annotations

import time
from typing import Any

import pytest

from sessions_app.agents.context import Usage
from sessions_app.agents.incident.graph import ANSWER_SCHEMA
from sessions_app.demo.service import FAULTS
from tests.demo.conftest import FIXES, Clinic, Drive

APPROVE = {"type": "approve"}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_is_found_gated_approved_and_healed(
    clinic: Clinic, fault: str, written: list[dict[str, Any]]
) -> None:
    clinic.make_sick(fault)
    drive = Drive("customers cannot pay")
    began = time.monotonic()
    gate = await drive.start()
    assert time.monotonic() - began < 3
    assert gate is not None
    assert gate.value["name"] == "local_remediation__apply_fix"
    assert gate.value["args"]["action"] == FIXES[fault][0]
    assert drive.notes.report("deep_investigator").confidence >= 0.75
    assert clinic.status()["fault"] == fault

    assert await drive.answer(gate, APPROVE) is None
    assert drive.outcome["status"] == "resolved"
    assert drive.outcome["resolution"].startswith(f"{FIXES[fault][0]} healed checkout")
    assert clinic.status()["status"] == "healthy"
    assert {"checkout", fault} <= set(written[0]["tags"])
    # One turn per agent, although `resolution` ran twice.
    assert list(drive.notes.started.values()) == ["triage", "deep_investigator", "resolution"]
    assert all(usage.input_tokens > usage.output_tokens > 0 for _, usage in drive.notes.finished.values())
    assert isinstance(next(iter(drive.notes.finished.values()))[1], Usage)


async def test_a_healthy_service_ends_without_a_gate(clinic: Clinic) -> None:
    for _ in range(3):
        clinic.make_well()
        drive = Drive("is anything wrong with checkout?")
        asked = await drive.start()
        if asked is None:
            break
        # A machine that stalls makes the service slow for a moment, which is rightly found.
    assert asked is None
    assert drive.outcome["status"] == "resolved"
    assert "Nothing was wrong" in drive.outcome["resolution"]
    assert [drive.notes.report(agent).signal for agent in ("triage", "deep_investigator")] == ["healthy"] * 2


async def test_a_rejection_that_names_another_way_is_followed_and_a_fix_that_fails_is_not_called_one(
    clinic: Clinic,
) -> None:
    clinic.make_sick("pool_exhausted")
    drive = Drive("checkout is slow")
    first = await drive.start()
    assert first is not None
    assert first.value["args"]["action"] == "resize_pool"
    second = await drive.answer(first, {"type": "reject", "message": "Not during billing: restart it instead."})
    assert second is not None
    assert second.id != first.id
    assert second.value["args"]["action"] == "restart"
    # The restart relieves it for a moment; the agent looks long enough to see that.
    assert await drive.answer(second, APPROVE) is None
    assert drive.outcome["status"] == "escalated"
    assert "restart was done and did not heal it" in drive.outcome["resolution"]
    assert "Not during billing" in drive.outcome["resolution"]


async def test_a_rejection_of_the_only_fix_escalates(clinic: Clinic) -> None:
    clinic.make_sick("disk_full")
    drive = Drive("writes fail")
    gate = await drive.start()
    assert gate is not None
    assert await drive.answer(gate, {"type": "reject", "message": "We need those dumps."}) is None
    assert drive.outcome["status"] == "escalated"
    assert drive.outcome["team"] == "on-call"
    assert "We need those dumps" in drive.outcome["resolution"]
    assert clinic.status()["fault"] == "disk_full"


async def test_an_edited_call_is_what_runs(clinic: Clinic) -> None:
    clinic.make_sick("pool_exhausted")
    drive = Drive("checkout is slow")
    gate = await drive.start()
    assert gate is not None
    edited = {"name": gate.value["name"], "args": {**gate.value["args"], "size": 33}}
    assert await drive.answer(gate, {"type": "edit", "edited_action": edited}) is None
    assert drive.outcome["status"] == "resolved"


async def test_an_unknown_environment_is_asked_about_and_can_be_escalated(clinic: Clinic) -> None:
    drive = Drive("something is odd", environment="staging")
    question = await drive.start()
    assert question is not None
    assert question.value["type"] == "question"
    assert question.value["reason"] == "low_confidence"
    assert question.value["agent"] == "deep_investigator"
    assert question.value["confidence"] < 0.75
    assert question.response_schema == ANSWER_SCHEMA
    assert await drive.answer(question, {"type": "respond", "message": "Escalate it to the network team."}) is None
    assert drive.outcome["status"] == "escalated"
    assert drive.outcome["team"] == "network"
