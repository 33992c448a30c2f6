from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_app.agents.diagnosis import FIXES, MOST, RULES, Readings, diagnose, healthy, weigh, wishes

NORMAL: dict[str, Any] = {
    "error_ratio": 0.0,
    "latency_ms": {"p95": 120},
    "pool": {"size": 20, "in_use": 2, "waiting": 0},
    "memory_mb": 25,
    "memory_limit_mb": 100,
    "disk_used_ratio": 0.02,
}
OLD = {"deployments": [{"version": "4.1.9", "kind": "deploy", "seconds_ago": 90000}]}
NEW = {"deployments": [{"version": "4.2.0", "kind": "deploy", "seconds_ago": 60}]}


def readings(
    metrics: dict[str, Any], *, complaint: str = "", history: dict[str, Any] = OLD, status: str = "degraded"
) -> Readings:
    return Readings(
        service="checkout",
        health={"status": status},
        metrics={**NORMAL, **metrics},
        logs={"complaints": [{"count": 9, "example": complaint}]} if complaint else {},
        history=history,
    )


CASES = {
    "pool_exhausted": readings(
        {"pool": {"size": 20, "in_use": 20, "waiting": 7}, "error_ratio": 0.4},
        complaint="timed out waiting for a database connection",
    ),
    "bad_deploy": readings({"error_ratio": 0.6}, complaint="KeyError: 'discount' in price()", history=NEW),
    "memory_leak": readings({"memory_mb": 87, "latency_ms": {"p95": 550}}, complaint="memory 87 MB of 100 MB"),
    "disk_full": readings({"disk_used_ratio": 1.0, "error_ratio": 1.0}, complaint="[Errno 28] No space left on device"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_full_picture_points_to_one_cause_with_confidence(name: str) -> None:
    first, *others = diagnose(CASES[name])
    assert first.rule.name == name
    assert first.confidence == MOST
    assert all(other.confidence < 0.75 for other in others)


@pytest.mark.parametrize("name", CASES)
def test_half_a_picture_is_not_enough_to_act_on(name: str) -> None:
    whole = CASES[name]
    first, *_ = diagnose(Readings(service="checkout", health=whole.health, metrics=whole.metrics))
    assert first.confidence < MOST


def test_a_recent_deployment_casts_no_suspicion_on_a_healthy_service() -> None:
    assert healthy(readings({}, status="healthy", history=NEW))
    assert all(hypothesis.confidence < 0.75 for hypothesis in diagnose(readings({}, history=NEW)))


def test_a_service_that_calls_itself_healthy_is_not_believed_against_its_metrics() -> None:
    assert not healthy(readings({"error_ratio": 0.2}, status="healthy"))


def test_two_causes_that_explain_the_same_take_confidence_from_each_other() -> None:
    both = readings(
        {"disk_used_ratio": 1.0, "memory_mb": 95, "error_ratio": 0.9, "latency_ms": {"p95": 900}},
        complaint="No space left on device",
    )
    first, second, *_ = diagnose(both)
    assert {first.rule.name, second.rule.name} == {"disk_full", "memory_leak"}
    assert first.confidence < 0.75
    assert "almost as well" in first.against[-1]


@given(
    st.builds(
        readings,
        st.fixed_dictionaries(
            {},
            optional={
                "error_ratio": st.floats(0, 1),
                "memory_mb": st.integers(0, 100),
                "disk_used_ratio": st.floats(0, 1),
                "pool": st.fixed_dictionaries(
                    {"size": st.integers(0, 64), "in_use": st.integers(0, 64), "waiting": st.integers(0, 9)}
                ),
            },
        ),
        history=st.sampled_from([OLD, NEW, {}]),
    )
)
def test_confidence_is_a_share_and_never_certainty(given: Readings) -> None:
    found = diagnose(given)
    assert all(0 <= weigh(rule, given).confidence <= MOST for rule in RULES)
    assert diagnose(given) == found


def test_the_weights_of_every_rule_sum_to_one() -> None:
    for rule in RULES:
        assert sum(symptom.weight for symptom in rule.symptoms) == pytest.approx(1), rule.name
        assert set(rule.fixes) <= set(FIXES.values())


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("Roll it back, please", ["roll_back"], set()),
        ("do not restart; roll back instead", ["roll_back"], {"restart"}),
        ("don't restart it", [], {"restart"}),
        ("resize the pool to 40, or else restart", ["resize_pool", "restart"], set()),
        ("escalate to the database team", ["escalate"], set()),
        ("false alarm", ["close"], set()),
        ("Go on: the finding is right.", [], set()),
        ("clean up the dumps", ["clean_up"], set()),
        ("", [], set()),
    ],
)
def test_a_persons_words_are_read_for_what_they_ask_and_forbid(
    text: str, wanted: list[str], unwanted: set[str]
) -> None:
    assert wishes(text) == (wanted, unwanted)


def test_the_documentation_prints_every_rule_as_it_is() -> None:
    text = (Path(__file__).parents[2] / "docs" / "offline_investigator.md").read_text()
    for rule in RULES:
        assert f"### {rule.title.capitalize()}" in text
        for symptom in rule.symptoms:
            assert f"| {symptom.name} | {symptom.weight:.2f} |" in text, (rule.name, symptom.name)
        for symptom in rule.against:
            assert f"| {symptom.name} | -{symptom.weight:.2f} |" in text, (rule.name, symptom.name)
        assert f"Fix: {', then '.join(f'`{fix.action}`' for fix in rule.fixes)}." in text
