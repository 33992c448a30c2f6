"""What was decided before on calls like this one, and how it went: evidence beside the call, and never a button."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from django.db.models import F, OuterRef, Subquery
from django.utils import timezone

from approvals_app.arguments import LONG, Difference, differences
from approvals_app.states import GateStatus
from sessions_app.states import SessionStatus

if TYPE_CHECKING:
    from approvals_app.models import Gate

#: How far back it looks, how many decisions at most, and how many of them the card lists.
WITHIN = timedelta(days=30)
MOST = 200
LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Precedent:
    """One earlier gate for the same tool: what was different, what was decided, what became of its session."""

    gate_id: int
    session_id: str
    environment: str
    status: str
    status_words: str
    by: str
    decided_at: datetime
    seconds: float
    session_status: str
    differs: list[Difference] = field(default_factory=list)

    @property
    def ran(self) -> bool:
        """Whether the call was let run."""
        return self.status in {GateStatus.APPROVED, GateStatus.EDITED}

    @property
    def healed(self) -> bool:
        """Whether it ran and its session ended as put right."""
        return self.ran and self.session_status == SessionStatus.RESOLVED


@dataclass(frozen=True, kw_only=True)
class Precedents:
    """All of them that count, and the closest."""

    alike: list[Precedent]
    others: list[Precedent]

    @property
    def listed(self) -> list[Precedent]:
        """The closest few: those that differ least, and of these the latest."""
        return [*self.alike, *self.others][:LISTED]

    @property
    def counted(self) -> list[Precedent]:
        """What the summary counts: the same call where it was ever asked about, or else the tool."""
        return self.alike or self.others

    @property
    def healed(self) -> int:
        """How many ran and healed."""
        return sum(one.healed for one in self.counted)

    @property
    def ran(self) -> int:
        """How many were let run."""
        return sum(one.ran for one in self.counted)

    @property
    def rejected(self) -> int:
        """How many were not."""
        return sum(one.status == GateStatus.REJECTED for one in self.counted)

    @property
    def expired(self) -> int:
        """How many nobody decided."""
        return sum(one.status == GateStatus.EXPIRED for one in self.counted)

    @property
    def took(self) -> float:
        """The median of the milliseconds until somebody decided; nobody decided an expired one."""
        decided = [one.seconds for one in self.counted if one.status != GateStatus.EXPIRED]
        return median(decided) * 1000 if decided else 0

    @property
    def more(self) -> bool:
        """Whether there were more than were read."""
        return len(self.alike) + len(self.others) >= MOST


def of(gate: Gate) -> Precedents | None:
    """Return what was decided on the gate's tool before; nothing for a gate that asks about no single call.

    One query, by the index on tool and time; the arguments are compared here.
    """
    from approvals_app.models import Decision, Gate

    if not gate.tool or len(gate.calls) != 1:
        return None
    last = Decision.objects.filter(gate=OuterRef("pk")).order_by("-pk")
    rows = (
        Gate.objects.filter(tool=gate.tool, kind=gate.kind, decided_at__gte=timezone.now() - WITHIN)
        .exclude(status__in=[GateStatus.PENDING, GateStatus.CANCELLED])
        .exclude(pk=gate.pk)
        .annotate(
            by=Subquery(last.values("actor__username")[:1]),
            ran_with=Subquery(last.values("edited_args")[:1]),
            environment=F("session__environment"),
            session_status=F("session__status"),
        )
        .order_by("-decided_at")
        .values(
            *("pk", "session_id", "environment", "status", "by", "ran_with", "calls"),
            *("created_at", "decided_at", "session_status"),
        )[:MOST]
    )
    alike: list[Precedent] = []
    others: list[Precedent] = []
    for row in rows:
        differs = _different(gate, row)
        one = Precedent(
            gate_id=row["pk"],
            session_id=row["session_id"],
            environment=row["environment"],
            status=row["status"],
            status_words=str(GateStatus(row["status"]).label),
            by=row["by"] or "",
            decided_at=row["decided_at"],
            seconds=(row["decided_at"] - row["created_at"]).total_seconds(),
            session_status=row["session_status"],
            differs=differs,
        )
        (others if differs else alike).append(one)
    others.sort(key=lambda one: len(one.differs))
    return Precedents(alike=alike, others=others) if alike or others else None


def _different(gate: Gate, row: dict[str, Any]) -> list[Difference]:
    """Return what was different in what ran then, or was asked: arguments but for prose, and the environment."""
    ran_with = row["ran_with"]
    if isinstance(ran_with, str):
        ran_with = json.loads(ran_with)
    then = ran_with or (row["calls"][0]["args"] if row["calls"] else {})
    found = differences(_without_prose(gate.args), _without_prose(then))
    if row["environment"] != gate.session.environment:
        found.append(Difference(name="environment", before=gate.session.environment, after=row["environment"]))
    return found


def _without_prose(args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments but for what an agent words anew each time: its reasons."""
    return {
        name: value
        for name, value in args.items()
        if name not in {"reason", "description", "expected"} and not (isinstance(value, str) and len(value) > LONG)
    }
