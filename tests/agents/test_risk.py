"""Risk rules: the first that matches decides, none means a person, and doubts never loosen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_app.agents.config import load
from sessions_app.agents.risk import LEVELS, Level, RiskRule, holds, judge, may_gate

SHIPPED = load().risk.rules
ENVIRONMENTS = ("production", "staging", "dev", "local")
FIX = "local_remediation:apply_fix"


def rule(risk: Level = "low", tool: str = "a:*", name: str = "r", **more: Any) -> RiskRule:
    return RiskRule(name=name, tool=tool, risk=risk, **more)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    ("tool", "level", "reason"),
    [
        ("local_observability:get_logs", "low", "low_risk"),
        ("local_inc:mark_resolved", "low", "low_risk"),
        ("local_remediation:propose_fix", "low", "low_risk"),
        ("local_remediation:notify_oncall", "medium", "medium_risk"),
        (FIX, "high", "high_risk"),
        ("local_remediation:drop_database", "high", "unlisted_tool"),
        ("local_remediation__apply_fix", "high", "unlisted_tool"),
    ],
)
def test_the_shipped_rules(environment: str, tool: str, level: str, reason: str) -> None:
    said = judge(tool, {"service": "checkout", "action": "restart"}, environment, SHIPPED)
    assert (said.level, said.reason) == (level, reason)


@pytest.mark.parametrize("service", ["*", "all", "ALL", " all ", ["checkout", "All"]])
def test_a_fix_for_everything_never_runs(service: Any) -> None:
    said = judge(FIX, {"service": service, "action": "restart"}, "dev", SHIPPED)
    assert said.forbidden
    assert said.rule == "fix_everything"


names = st.from_regex(r"[a-z_]{1,12}:[a-z_]{1,12}", fullmatch=True) | st.text(max_size=40)


@given(names, st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.sampled_from(ENVIRONMENTS))
def test_a_tool_that_no_rule_names_waits_for_a_person(tool: str, args: dict[str, str], environment: str) -> None:
    said = judge(tool, args, environment, SHIPPED)
    if any(one.covers(tool) for one in SHIPPED):
        return
    assert (said.level, said.reason, said.rule) == ("high", "unlisted_tool", "unlisted")
    assert said.gated
    assert may_gate(tool, SHIPPED)


@given(names)
def test_without_rules_everything_waits(tool: str) -> None:
    assert judge(tool, {}, "dev", ()).gated
    assert may_gate(tool, ())


rules = st.lists(
    st.builds(
        rule,
        risk=st.sampled_from(LEVELS),
        tool=st.sampled_from(["a:*", "a:x", "b:*", "*", "?:x"]),
        environments=st.sampled_from([(), ("dev",), ("production", "dev")]),
        when=st.sampled_from([{}, {"n": 1}, {"n": [1, 2]}]),
    ),
    max_size=6,
)
calls = st.tuples(
    st.sampled_from(["a:x", "a:y", "b:x", "c:z"]),
    st.sampled_from([{}, {"n": 1}, {"n": "2"}]),
    st.sampled_from(ENVIRONMENTS),
)


@given(rules, calls)
def test_the_first_rule_that_matches_decides(rules: list[RiskRule], call: tuple[str, Any, str]) -> None:
    tool, args, environment = call
    first = next((one for one in rules if one.matches(tool, args, environment)), None)
    said = judge(tool, args, environment, rules)
    assert said == (first.judgement() if first else judge(tool, args, environment, ()))


@given(rules, calls)
def test_a_tool_that_cannot_gate_never_gates(rules: list[RiskRule], call: tuple[str, Any, str]) -> None:
    tool, args, environment = call
    if not may_gate(tool, rules):
        assert judge(tool, args, environment, rules).level in {"low", "medium"}


def test_which_of_the_shipped_tools_may_gate() -> None:
    gating = {tool for tool in load().tools if may_gate(tool, SHIPPED)}
    assert gating == {FIX}


@pytest.mark.parametrize("change", [{"risk": "high"}, {"tool": "a:x"}, {"name": "q"}, {"reason": "why"},
                                    {"environments": ("dev",)}, {"when": {"a": 1}}])  # fmt: skip
def test_the_version_changes_with_the_content(change: dict[str, Any]) -> None:
    first = rule()
    assert first.version == rule().version
    assert len(first.version) == 8
    assert int(first.version, 16) >= 0
    assert first.model_copy(update=change).version != first.version


def test_a_rule_that_gates_because_of_the_environment_says_so() -> None:
    both = (rule("high", environments=("production",)), rule("low", name="s"))
    assert judge("a:x", {}, "production", both).reason == "gated_environment"
    assert judge("a:x", {}, "dev", both).level == "low"
    assert rule("high", environments=("dev",), reason="frozen_week").judgement().reason == "frozen_week"


@pytest.mark.parametrize(
    ("wanted", "given", "exact", "loose"),
    [
        (1, 1, True, True),
        (1, "1", False, True),
        (1, 1.0, False, True),
        (1, True, False, False),
        (True, True, True, True),
        (True, "true", False, True),
        (True, 1, False, False),
        ("restart", "restart", True, True),
        ("restart", "Restart ", False, True),
        ("all", ["x", "ALL"], False, True),
        (["a", "b"], "b", True, True),
        (["a", "b"], "c", False, False),
    ],
)
def test_what_lets_a_call_run_compares_exactly_and_what_stops_it_loosely(
    wanted: Any, given: Any, exact: bool, loose: bool
) -> None:
    assert holds({"n": wanted}, {"n": given}) is exact
    assert holds({"n": wanted}, {"n": given}, loosely=True) is loose
    assert rule("low", when={"n": wanted}).matches("a:x", {"n": given}, "dev") is exact
    assert rule("forbidden", when={"n": wanted}).matches("a:x", {"n": given}, "dev") is loose


def test_an_argument_that_is_not_there_matches_nothing() -> None:
    assert not holds({"n": "None"}, {}, loosely=True)
