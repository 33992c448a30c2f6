"""What a fix rests on holds still while the service is sick, and changes when somebody changes the service."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from sessions_app.agents import facts
from sessions_app.demo.service import FAULTS
from tests.demo.conftest import FIXES, Clinic

TOOL = "local_remediation:apply_fix"


def read(service: str = "checkout", environment: str = "dev") -> dict[str, Any]:
    """Read the facts under a fix of the service, as CLM does."""
    found = asyncio.run(facts.read(TOOL, {"service": service}, environment))
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_facts_of_a_sick_service_do_not_move_by_themselves(clinic: Clinic, fault: str) -> None:
    clinic.make_sick(fault)
    seen = []
    for _ in range(8):
        seen.append(read())
        time.sleep(0.05)
    assert all(one["known"] for one in seen)
    assert {facts.fingerprint(one) for one in seen} == {facts.fingerprint(seen[0])}  # type: ignore[arg-type]
    assert set(seen[0]["facts"]) == {"health", "version", "pool size"}
    assert seen[0]["facts"]["health"] == "unhealthy"


def test_a_service_that_somebody_else_healed_or_changed_is_on_other_facts(clinic: Clinic) -> None:
    clinic.make_sick("pool_exhausted")
    before = read()
    verb, body = FIXES["pool_exhausted"]
    clinic.change(verb, **body)
    clinic.wait_until(lambda now: now["status"] == "healthy")
    after = read()
    changed = facts.changes(before, after)  # type: ignore[arg-type]
    assert changed == [
        {"name": "health", "was": "unhealthy", "now": "healthy"},
        {"name": "pool size", "was": 20, "now": 40},
    ]


def test_a_service_that_is_not_there_has_no_facts_and_the_reading_says_why(clinic: Clinic) -> None:
    found = read("payments")
    assert (found["known"], found["facts"]) == (False, {})
    assert "payments" in found["why"]


def test_a_service_that_does_not_answer_is_not_known(settings: Any, tmp_path: Any) -> None:
    settings.CLM_DATA_DIR = tmp_path
    settings.CLM_SERVICES = {"payments": {"environment": "staging", "url": "http://127.0.0.1:9"}}
    found = read("payments", "staging")
    assert not found["known"]
    assert "payments does not answer" in found["why"]
