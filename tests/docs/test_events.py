"""docs/events.md has every event kind with exactly its payload keys."""

from __future__ import annotations

import re
from pathlib import Path

from sessions_app.events import KINDS

DOC = Path(__file__).resolve().parents[2] / "docs" / "events.md"
ROW = re.compile(r"^\| `([\w.]+)` \| ([^|]+) \| ([^|]*)\|(?: ([^|]*)\|)?$", re.MULTILINE)


def keys(cell: str) -> frozenset[str]:
    return frozenset(re.findall(r"`(\w+)`", cell))


def test_every_kind_is_documented_with_its_words_and_keys():
    documented = {
        kind: (text.strip(), keys(always), keys(maybe)) for kind, text, always, maybe in ROW.findall(DOC.read_text())
    }
    assert documented == {kind.name: (kind.text, kind.required, kind.optional) for kind in KINDS.values()}


def test_every_key_but_the_plain_ones_is_explained():
    explained = keys(DOC.read_text().partition("## What the keys mean")[2])
    plain = {
        *(
            "agent",
            "args",
            "confidence",
            "detail",
            "environment",
            "error",
            "expires_at",
            "gate_id",
            "graph",
        ),
        *("lesson", "note", "rationale", "run_id", "signal", "source", "submitter", "summary", "target", "tool"),
        *("tool_call_id", "why"),
    }
    carried = {key for kind in KINDS.values() for key in kind.required | kind.optional}
    assert carried - explained <= plain
