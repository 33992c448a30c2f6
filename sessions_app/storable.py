"""Text that every database keeps: no NUL (PostgreSQL refuses it) and no half surrogate pair (no database takes it)."""

from __future__ import annotations

import re
from typing import Any

_ODD = re.compile("[\0\ud800-\udfff]")


def is_storable(value: Any) -> bool:
    """Say whether a JSON value can be kept as it is."""
    return bool(storable(value) == value)


def storable(value: Any) -> Any:
    """Return a JSON value with a replacement character for each letter that cannot be kept."""
    if isinstance(value, str):
        return _ODD.sub("\ufffd", value)
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(inner) for inner in value]
    return value
