"""docs/glossary.md has every word that a row can hold, and none of them twice in a table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from approvals_app.states import STATUS_AFTER, Channel, DecisionType, GateKind, GateStatus, Next
from sessions_app.states import CallStatus, RunKind, RunStatus, SessionStatus

DOC = (Path(__file__).resolve().parents[2] / "docs" / "glossary.md").read_text()


def tables_of(section: str) -> list[list[str]]:
    """Return the first column of each table of a section."""
    text = DOC.partition(f"## {section}\n")[2].partition("\n## ")[0]
    blocks = re.split(r"\n\n", text)
    return [words for block in blocks if (words := re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE))]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("Session statuses", [SessionStatus]),
        ("Runs", [RunKind, RunStatus]),
        ("Gates", [GateKind, GateStatus, DecisionType, Next]),
        ("Tool calls", [CallStatus]),
    ],
)
def test_every_stored_word_is_explained(section, expected):
    assert tables_of(section) == [list(map(str, words.values)) for words in expected]


def test_what_a_decision_makes_of_a_gate_is_the_codes_own_table():
    for decision, status in STATUS_AFTER.items():
        assert f"| `{decision}` | `{status}` |" in DOC


def test_every_channel_is_named():
    for channel in Channel.values:
        assert f"`{channel}`" in DOC
