"""Write down what the clock has ended: gates that nobody decided in time, approved calls that nothing ran in time.

Nothing waits for this to be right: a decision and a dispatch compare with the clock themselves. It is what lets the
session go on, and what the log has to say about it (docs/expiry.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from approvals_app.models import Gate
from sessions_app.models import ToolCall, log_transaction
from sessions_app.recovery import Repair

log = logging.getLogger("clm.gates")

#: Rows that are written in one transaction. A commit costs more than any of its statements, and until it comes every
#: other writer waits.
BATCH = 50


def expire_gates(dry_run: bool = False, **kwargs: Any) -> list[Repair]:
    """Expire the gates whose time is over, those that ran out first coming first."""
    keys = Gate.objects.overdue().order_by("expires_at", "pk").values_list("pk", flat=True)
    return _in_batches(keys, _expire if not dry_run else _would_expire)


def lapse_calls(dry_run: bool = False, **kwargs: Any) -> list[Repair]:
    """Lapse the approved calls that nothing has started in time, whether or not their graph ever comes."""
    keys = ToolCall.objects.overdue().order_by("pk").values_list("pk", flat=True)
    return _in_batches(keys, _lapse if not dry_run else _would_lapse)


def _expire(keys: Sequence[int]) -> list[Repair]:
    gates = Gate.objects.filter(pk__in=keys).pending().select_related("session", "run").order_by("expires_at", "pk")
    return [_expired(gate) for gate in gates if gate.expire()]


def _would_expire(keys: Sequence[int]) -> list[Repair]:
    return [_expired(gate) for gate in Gate.objects.filter(pk__in=keys).order_by("expires_at", "pk")]


def _expired(gate: Gate) -> Repair:
    return Repair(gate.session_id, f"gate {gate.pk} ({gate.headline}) expired")


def _lapse(keys: Sequence[int]) -> list[Repair]:
    calls = ToolCall.objects.filter(pk__in=keys).overdue()
    return [_lapsed(call) for call in calls if call.lapse(f"its approval expired at {call.runs_until:%H:%M:%S} UTC")]


def _would_lapse(keys: Sequence[int]) -> list[Repair]:
    return [_lapsed(call) for call in ToolCall.objects.filter(pk__in=keys)]


def _lapsed(call: ToolCall) -> Repair:
    return Repair(call.session_id, f"{call.tool} was approved and not run in time")


def _in_batches(keys: Iterable[int], write: Callable[[Sequence[int]], list[Repair]]) -> list[Repair]:
    """Write each batch in one transaction; where one row of it cannot be written, each of its rows in its own."""
    left, repairs = list(keys), list[Repair]()
    while left:
        batch, left = left[:BATCH], left[BATCH:]
        try:
            with log_transaction():
                repairs += write(batch)
        except Exception:
            log.exception("%d rows could not be written together; each is written alone", len(batch))
            for key in batch:
                repairs += _alone(key, write)
    return repairs


def _alone(key: int, write: Callable[[Sequence[int]], list[Repair]]) -> list[Repair]:
    try:
        with log_transaction():
            return write([key])
    except Exception:
        log.exception("Row %d could not be written; the sweep goes on to the others", key)
        return []
