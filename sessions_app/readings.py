"""What the tools read of a service, as numbers over time: parsed from the ledger, where each reading is stored.

Nothing is measured for a chart. What an agent looked at, and what a fix saw before and after itself, is all there is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models.functions import Length

from sessions_app.models import Session, SessionEvent, ToolCall
from sessions_app.states import CallStatus

METRICS = "local_observability:get_metrics"
FIX = "local_remediation:apply_fix"
#: The latest calls that are read, and the longest result among them.
MOST_CALLS = 60
MOST_LETTERS = 50_000
#: The latest marks that a chart carries.
MOST_MARKS = 6

_DECIDED = {"approve": "approved", "edit": "edited and approved", "reject": "rejected", "respond": "answered"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at one service; what it did not tell is None."""

    at: datetime
    service: str
    error_ratio: float | None = None
    p95_ms: float | None = None
    pool_used: float | None = None
    pool_size: float | None = None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened between two readings: a gate opened, was decided, or a fix ran."""

    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class History:
    """The readings of one service in order, and what happened between them."""

    service: str
    readings: list[Reading]
    marks: list[Mark]


def history_of(session: Session, *, until: datetime | None = None, events: bool = True) -> History | None:
    """Return what was read of the service that the session is about, or nothing before the second reading.

    That is the service that was fixed, or else the one that was read most often. `until` leaves out what came later,
    and without `events` the marks are only the fixes, for which the calls are enough.
    """
    calls = (
        ToolCall.objects.filter(session=session, tool__in=[METRICS, FIX])
        .filter(status__in=[CallStatus.EXECUTED, CallStatus.EXECUTED_WITH_NOTIFY], finished_at__isnull=False)
        .annotate(letters=Length("result"))
        .filter(letters__lte=MOST_LETTERS)
    )
    if until is not None:
        calls = calls.filter(finished_at__lte=until)
    rows = sorted(calls.order_by("-pk")[:MOST_CALLS], key=lambda call: call.finished_at or call.ts)
    readings = sorted((reading for call in rows for reading in readings_of(call)), key=lambda reading: reading.at)
    fixes = [call for call in rows if call.tool == FIX]
    service = str(fixes[-1].effective_args.get("service", "")) if fixes else ""
    counts = Counter(reading.service for reading in readings)
    if service not in counts and counts:
        service = counts.most_common(1)[0][0]
    if counts[service] < 2:
        return None
    return History(
        service=service,
        readings=[reading for reading in readings if reading.service == service],
        marks=_marks(session, fixes, until, events=events),
    )


def readings_of(call: ToolCall) -> Iterator[Reading]:
    """Yield what one settled call read; nothing where its result is not what these tools return."""
    began, ended = call.started_at or call.ts, call.finished_at or call.ts
    try:
        said = json.loads(call.result)
    except (ValueError, RecursionError):
        return
    if not isinstance(said, dict):
        return
    if call.tool == FIX:
        name = str(said.get("service", ""))
        yield from _reading(name, said.get("before"), began)
        yield from _reading(name, said.get("after"), ended)
        return
    services = said.get("services")
    for part in services if isinstance(services, list) else [said]:
        if isinstance(part, dict):
            yield from _reading(str(part.get("service", "")), part, ended)


def _reading(service: str, said: Any, at: datetime) -> Iterator[Reading]:
    if not service or not isinstance(said, Mapping):
        return
    latency = said.get("latency_ms")
    pool = said.get("pool")
    found = Reading(
        at=at,
        service=service,
        error_ratio=_number(said, "error_ratio"),
        p95_ms=_number(latency, "p95"),
        pool_used=_number(pool, "in_use"),
        pool_size=_number(pool, "size"),
    )
    if any(value is not None for value in (found.error_ratio, found.p95_ms, found.pool_used)):
        yield found


def _number(said: Any, name: str) -> float | None:
    value = said.get(name) if isinstance(said, Mapping) else None
    # A result may hold NaN, infinity or a number that no float holds; none of them can be drawn.
    with suppress(OverflowError):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= float(value) < 1e12:
            return float(value)
    return None


def _marks(session: Session, fixes: Iterable[ToolCall], until: datetime | None, *, events: bool) -> list[Mark]:
    """Return when gates opened and were decided, where `events` are wanted, and when the fixes ran."""
    marks = _marks_of_gates(session, until) if events else []
    for call in fixes:
        at = call.started_at or call.ts
        marks.append(Mark(at=at, kind="fix", text=f"{call.effective_args.get('action') or 'apply_fix'} ran"))
    order = {"gate": 0, "decision": 1, "fix": 2}
    return sorted(marks, key=lambda mark: (mark.at, order[mark.kind]))[-MOST_MARKS:]


def _marks_of_gates(session: Session, until: datetime | None) -> list[Mark]:
    events = SessionEvent.objects.filter(session=session, kind__in=["gate_fired", "gate_decided", "gate_expired"])
    if until is not None:
        events = events.filter(ts__lte=until)
    return [_mark(event) for event in events.order_by("-seq")[:MOST_MARKS]]


def _mark(event: SessionEvent) -> Mark:
    payload = event.payload
    if event.kind == "gate_fired":
        return Mark(at=event.ts, kind="gate", text=f"gate {payload['gate_id']} opened")
    if event.kind == "gate_expired":
        return Mark(at=event.ts, kind="decision", text=f"gate {payload['gate_id']} expired")
    verb = _DECIDED.get(str(payload["decision"]), "decided")
    return Mark(at=event.ts, kind="decision", text=f"{payload['actor']} {verb} gate {payload['gate_id']}")
