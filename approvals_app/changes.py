"""What an approver changed in a call: the proposal held against what was approved, argument by argument."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Edit(NamedTuple):
    """One argument that differs: as it was proposed and as it was approved; None where it was not given."""

    name: str
    proposed: str | None
    approved: str | None


def between(proposed: Mapping[str, Any], approved: Mapping[str, Any]) -> list[Edit]:
    """Return the arguments that differ, the proposal's first, in its order; equal calls have none."""
    names = dict.fromkeys([*proposed, *approved])
    # Held against each other as they are shown: to Python, 1 and true are the same.
    edits = (Edit(name, _words(proposed, name), _words(approved, name)) for name in names)
    return [edit for edit in edits if edit.proposed != edit.approved]


def _words(args: Mapping[str, Any], name: str) -> str | None:
    return json.dumps(args[name], ensure_ascii=False, default=str) if name in args else None
