"""The hash chain of a session's events: each names the one before it, so none can be changed, lost or moved unseen.

Pure, and small enough to be written again by an auditor: docs/audit.md has the whole of it in twenty lines.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from sessions_app.storable import storable


def canonical(value: Any) -> bytes:
    """Return the one spelling of a JSON value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, cls=DjangoJSONEncoder)
    return text.encode()


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value's one spelling, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def as_stored(value: Any) -> Any:
    """Return a JSON value as the database gives it back, so that it is hashed as it will be read."""
    return json.loads(json.dumps(storable(value), cls=DjangoJSONEncoder), parse_float=_as_in_jsonb)


def _as_in_jsonb(text: str) -> float | int:
    """Return a number as PostgreSQL gives it back: written without an exponent, and zero without a sign."""
    plain = format(Decimal(text), "f")
    return float(plain) + 0.0 if "." in plain else int(plain)


def instant(when: datetime) -> str:
    """Return an instant in one spelling: UTC, with microseconds."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
