"""The terms of a gate: what its rules say, what the file says besides, and what holds for several calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

import pytest

from approvals_app.rules import terms
from approvals_app.states import GateKind, OnExpiry
from sessions_app.agents.config import Approvals
from sessions_app.agents.risk import OnExpiry as Configured
from sessions_app.agents.risk import RiskRule

HOUR = timedelta(hours=1)


def rule(**said: Any) -> RiskRule:
    return RiskRule(name="r", tool="lab:fix", risk="high", **said)


def approvals(**said: Any) -> Approvals:
    given = {"expires_after": "4h", "execution_expires_after": "15m", "on_expiry": "reject", "four_eyes": True}
    return Approvals.model_validate(given | said)


def test_the_file_and_the_gate_know_the_same_ends():
    assert set(get_args(Configured)) == set(OnExpiry.values)


@pytest.mark.parametrize("calls", [[], [None], [rule()], [rule(), None]])
def test_what_no_rule_says_is_as_in_the_file(calls):
    found = terms(GateKind.TOOL_APPROVAL, calls, approvals())
    assert (found.expires_after, found.execution_expires_after) == (4 * HOUR, HOUR / 4)
    assert found.on_expiry == OnExpiry.REJECT


def test_a_rule_says_only_what_it_wants_otherwise():
    found = terms(GateKind.TOOL_APPROVAL, [rule(on_expiry="stop")], approvals())
    assert (found.on_expiry, found.expires_after) == (OnExpiry.STOP, 4 * HOUR)
    found = terms(GateKind.TOOL_APPROVAL, [rule(expires_after="8h", on_expiry="reject")], approvals(on_expiry="stop"))
    assert (found.on_expiry, found.expires_after) == (OnExpiry.REJECT, 8 * HOUR)


def test_of_several_calls_the_shortest_time_and_the_severest_end_hold():
    calls = [
        rule(expires_after="1h", execution_expires_after="1h", on_expiry="stop"),
        rule(expires_after="2h", execution_expires_after="1m", on_expiry="escalate"),
        None,
    ]
    found = terms(GateKind.BATCH, calls, approvals())
    assert (found.expires_after, found.execution_expires_after) == (HOUR, timedelta(minutes=1))
    assert found.on_expiry == OnExpiry.ESCALATE


def test_a_question_is_asked_under_its_own_terms_or_else_under_those_of_the_file():
    own = approvals(questions={"expires_after": "1d", "on_expiry": "stop"})
    assert terms(GateKind.QUESTION, [], own).expires_after == 24 * HOUR
    assert terms(GateKind.QUESTION, [], own).on_expiry == OnExpiry.STOP
    assert terms(GateKind.TOOL_APPROVAL, [None], own).on_expiry == OnExpiry.REJECT
    assert terms(GateKind.QUESTION, [], approvals(on_expiry="escalate")).on_expiry == OnExpiry.ESCALATE
