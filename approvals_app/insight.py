"""How deciding goes: figures over the gates that came to an end in a period, each with the list behind it.

A figure and its list ask the same question (`Asked.gates`), so they agree. CLM knows when a gate opened and when it
was decided, not when somebody read it: an approval within two seconds of the opening cannot have been read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import TruncDate
from django.utils import timezone
from django.utils.http import urlencode

from approvals_app.models import AuditCheck, Decision, Gate, InsightDay
from approvals_app.states import GateKind, GateStatus
from sessions_app.models import ToolCall
from sessions_app.states import CallStatus

#: Whoever approves sooner than this after the gate opened has not read it.
QUICK = timedelta(seconds=2)
#: Days that one look may span.
MOST_DAYS = 366
#: How the address names a gate that is about no tool, such as a question.
NO_TOOL = "-"

_BY_PERSON = (GateStatus.APPROVED, GateStatus.EDITED, GateStatus.REJECTED, GateStatus.RESPONDED)
_APPROVED = (GateStatus.APPROVED, GateStatus.EDITED)


def _quick(prefix: str = "") -> Q:
    """Return the question whether a gate was approved sooner than it can be read."""
    return Q(
        **{f"{prefix}status__in": _APPROVED, f"{prefix}decided_at__lte": F(f"{prefix}created_at") + QUICK},
    )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which gates: those that ended on these days (in UTC, both included), and what they are narrowed to."""

    since: date
    until: date
    tool: str = ""
    approver: str = ""
    status: str = ""
    quick: bool = False
    unknown: bool = False

    @property
    def query(self) -> str:
        """The question as it stands in an address."""
        given = {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "tool": self.tool,
            "approver": self.approver,
            "status": self.status,
            "quick": "1" if self.quick else "",
            "unknown": "1" if self.unknown else "",
        }
        return urlencode({name: value for name, value in given.items() if value})

    @property
    def span(self) -> tuple[datetime, datetime]:
        """From which instant on and before which one."""
        return _midnight(self.since), _midnight(self.until + timedelta(days=1))

    @property
    def days(self) -> list[date]:
        """Every day of the period."""
        return [self.since + timedelta(days=n) for n in range((self.until - self.since).days + 1)]

    def gates(self) -> QuerySet[Gate]:
        """Return the gates that fit."""
        since, until = self.span
        rows: QuerySet[Gate] = Gate.objects.decided().filter(decided_at__gte=since, decided_at__lt=until)
        if self.tool:
            rows = rows.filter(tool="" if self.tool == NO_TOOL else self.tool)
        if self.approver:
            rows = rows.filter(pk__in=Decision.objects.filter(actor__username=self.approver).values("gate"))
        if self.status:
            rows = rows.filter(status__in=self.status.split(","))
        if self.quick:
            rows = rows.filter(_quick())
        if self.unknown:
            rows = rows.filter(kind=GateKind.UNKNOWN_OUTCOME)
        return rows


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


@dataclass(kw_only=True)
class Tally:
    """How many gates of one day, tool, approver or outcome came to which end."""

    name: str
    query: str
    #: By status.
    ends: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    quick: int = 0
    quick_query: str = ""
    #: Its length beside the longest, of 100.
    bar: float = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.ends.values())

    @property
    def decided(self) -> int:
        """Those that a person decided."""
        return sum(self.ends[status] for status in _BY_PERSON)

    @property
    def undecided(self) -> int:
        """Those that nobody decided."""
        return self.total - self.decided

    @property
    def approved(self) -> int:
        """Those that were approved, as proposed or edited."""
        return sum(self.ends[status] for status in _APPROVED)

    @property
    def rejected(self) -> int:
        """Those that were rejected."""
        return self.ends[GateStatus.REJECTED]

    @property
    def answered(self) -> int:
        """Those that were answered in words."""
        return self.ends[GateStatus.RESPONDED]

    @property
    def expired(self) -> int:
        """Those that nobody decided in time."""
        return self.ends[GateStatus.EXPIRED]

    @property
    def cancelled(self) -> int:
        """Those that went with their session."""
        return self.ends[GateStatus.CANCELLED]


class Figure(NamedTuple):
    """One number and the question that its list asks."""

    number: int
    query: str


@dataclass(frozen=True, kw_only=True)
class DayBar:
    """One day in the drawing: where its bar stands, and how much of it nobody decided."""

    tally: Tally
    x: float
    width: float
    y: float
    height: float
    undecided_height: float


@dataclass(frozen=True, kw_only=True)
class Insight:
    """Everything that the page shows."""

    asked: Asked
    whole: Tally
    days: list[Tally]
    tools: list[Tally]
    approvers: list[Tally]
    outcomes: list[Tally]
    median: timedelta | None
    slowest: timedelta | None
    quick: Figure
    expired: Figure
    cut_off: Figure
    unknown_now: int
    last_check: AuditCheck | None

    @property
    def waited(self) -> int:
        """The gates that waited for a person to their end; one that went with its session did not."""
        return self.whole.total - self.whole.cancelled

    @property
    def expired_share(self) -> float | None:
        """Of the gates that waited, how many nobody decided."""
        return self.whole.expired / self.waited if self.waited else None

    @property
    def bars(self) -> list[DayBar]:
        """The days as bars in a drawing of 600 x 120, with a floor at 110."""
        highest = max([day.total for day in self.days], default=0) or 1
        wide = 600 / max(1, len(self.days))
        return [
            DayBar(
                tally=day,
                x=round(index * wide + wide * 0.1, 2),
                width=round(wide * 0.8, 2),
                y=round(110 - 100 * day.total / highest, 1),
                height=round(100 * day.total / highest, 1),
                undecided_height=round(100 * day.undecided / highest, 1),
            )
            for index, day in enumerate(self.days)
        ]

    @property
    def busiest(self) -> int:
        """How many gates the busiest day had."""
        return max([day.total for day in self.days], default=0)


def look(asked: Asked) -> Insight:
    """Return the figures of a period, from what was counted of its days; only days that are not over are read anew."""
    counted = counts_of(asked.days)
    whole = Tally(name="", query=asked.query)
    days = {day: Tally(name=f"{day}", query=replace(asked, since=day, until=day).query) for day in asked.days}
    tools: dict[str, Tally] = {}
    outcomes: dict[str, Tally] = {}
    for day, counts in counted.items():
        for status, name, number in counts["ends"]:
            tool = name or NO_TOOL
            if tool not in tools:
                tools[tool] = Tally(name=name or "a question", query=replace(asked, tool=tool).query)
            if status not in outcomes:
                outcomes[status] = Tally(name=GateStatus(status).label, query=replace(asked, status=status).query)
            for tally in (whole, days[day], tools[tool], outcomes[status]):
                tally.ends[status] += number
    waits = sorted(chain.from_iterable(counts["waits"] for counts in counted.values()))
    quick, cut_off = replace(asked, quick=True), replace(asked, unknown=True)
    return Insight(
        asked=asked,
        whole=whole,
        days=list(days.values()),
        tools=_ranked(tools.values()),
        approvers=_approvers(asked, counted.values()),
        outcomes=_ranked(outcomes.values()),
        median=_at(waits, 5),
        slowest=_at(waits, 9),
        quick=Figure(sum(counts["quick"] for counts in counted.values()), quick.query),
        expired=Figure(whole.expired, replace(asked, status=str(GateStatus.EXPIRED)).query),
        cut_off=Figure(sum(counts["unknown"] for counts in counted.values()), cut_off.query),
        unknown_now=ToolCall.objects.filter(status=CallStatus.UNKNOWN).count(),
        last_check=AuditCheck.objects.last(),
    )


def counts_of(days: list[date]) -> dict[date, dict[str, Any]]:
    """Return what came to an end on each of these days, in order; a day that is over is counted once.

    `{ends: [[status, tool, number]], quick, unknown, approvers: [[actor's id, status, number, quick]], waits: [µs]}`:
    what ended on a day that is over stays as it was.
    """
    known = InsightDay.known(days)
    today = timezone.now().astimezone(UTC).date()
    missing = [day for day in days if day not in known and day <= today]
    if missing:
        counted = _count(Asked(since=missing[0], until=missing[-1]), missing)
        InsightDay.keep(counted)
        known |= counted
    return {day: known[day] for day in days if day in known}


def _count(asked: Asked, days: list[date]) -> dict[date, dict[str, Any]]:
    """Count these days in three queries; between the first and the last of them there may be others."""
    counted: dict[date, dict[str, Any]] = {
        day: {"ends": [], "quick": 0, "unknown": 0, "approvers": [], "waits": []} for day in days
    }
    day = TruncDate("decided_at", tzinfo=UTC)
    ends = asked.gates().values_list(day, "status", "tool").order_by()
    unknown = Q(kind=GateKind.UNKNOWN_OUTCOME)
    for on, status, tool, *numbers in ends.annotate(
        number=Count("pk"), quick=Count("pk", filter=_quick()), unknown=Count("pk", filter=unknown)
    ):
        if on in counted:
            counted[on]["ends"].append([status, tool, numbers[0]])
            counted[on]["quick"] += numbers[1]
            counted[on]["unknown"] += numbers[2]
    since, until = asked.span
    decisions = Decision.objects.filter(gate__decided_at__gte=since, gate__decided_at__lt=until).order_by()
    by_actor = decisions.values_list(TruncDate("gate__decided_at", tzinfo=UTC), "actor_id", "gate__status")
    for on, *taken in by_actor.annotate(number=Count("pk"), quick=Count("pk", filter=_quick("gate__"))):
        if on in counted:
            counted[on]["approvers"].append(taken)
    lasted = asked.gates().filter(status__in=_BY_PERSON).order_by().values_list("created_at", "decided_at")
    for opened, ended in lasted.iterator(chunk_size=2000):
        if ended and (on := ended.astimezone(UTC).date()) in counted:
            counted[on]["waits"].append((ended - opened) // timedelta(microseconds=1))
    return counted


def _approvers(asked: Asked, counted: Iterable[dict[str, Any]]) -> list[Tally]:
    taken = [row for counts in counted for row in counts["approvers"]]
    users = get_user_model().objects.filter(pk__in={row[0] for row in taken})
    names = dict(users.values_list("pk", "username")) if taken else {}
    found: dict[str, Tally] = {}
    for actor, status, number, quick in taken:
        name = names.get(actor, "CLM")
        if name not in found:
            own = replace(asked, approver=name)
            found[name] = Tally(name=name, query=own.query, quick_query=replace(own, quick=True).query)
        found[name].ends[status] += number
        found[name].quick += quick
    return _ranked(found.values())


def _ranked(tallies: Iterable[Tally]) -> list[Tally]:
    ranked = sorted(tallies, key=lambda tally: (-tally.total, tally.name))
    for tally in ranked:
        tally.bar = round(100 * tally.total / ranked[0].total, 1)
    return ranked


def _at(waits: list[int], tenths: int) -> timedelta | None:
    """Return what so many tenths of these waited at the most."""
    return timedelta(microseconds=waits[(len(waits) - 1) * tenths // 10]) if waits else None


# The list as a file ----------------------------------------------------------------------------------------------

COLUMNS = (
    "gate", "session", "environment", "kind", "agent", "tool", "risk", "rule", "rule_version", "outcome", "opened_at",
    "decided_at", "seconds", "approver", "through", "reason", "digest",
)  # fmt: skip


def table(rows: QuerySet[Gate]) -> Iterator[list[str]]:
    """Yield the gates as rows of text under COLUMNS, oldest first."""
    fields = (
        "pk", "session_id", "session__environment", "kind", "agent", "tool", "risk", "rule", "rule_version", "status",
        "created_at", "decided_at", "decisions__actor__username", "decisions__channel", "decisions__message", "digest",
    )  # fmt: skip
    found = rows.order_by("decided_at", "pk").values_list(*fields)
    for *first, opened, ended, approver, channel, message, digest in found.iterator(chunk_size=500):
        seconds = f"{(ended - opened).total_seconds():.1f}"
        cells = [*first, opened.isoformat(), ended.isoformat(), seconds, approver, channel, message, digest]
        yield [_cell(value) for value in cells]


def _cell(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula: an agent and a client can write what stands in it."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
