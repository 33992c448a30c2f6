"""Questions about sessions, runs, events and tool calls."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Case, IntegerField, Q, Value, When
from django.utils import timezone

from sessions_app.append_only import AppendOnlyQuerySet
from sessions_app.exceptions import BadRequest
from sessions_app.states import ACTIVE_RUNS, TERMINAL, CallStatus, RunKind, RunStatus

if TYPE_CHECKING:
    from sessions_app.models import Run, Session, SessionEvent, ToolCall  # noqa: F401

#: No list returns more rows than this at once (S32).
MAX_PAGE = 200

_Row = TypeVar("_Row", bound=models.Model)


@dataclass(frozen=True)
class Page(Generic[_Row]):
    """One page of a list: its rows, where the next begins, and how many rows there are in all."""

    items: list[_Row]
    next_cursor: str | None
    total: int


def keyset_page(
    rows: models.QuerySet[_Row], *, by: str, cursor: str | None, limit: int, descending: bool = True
) -> Page[_Row]:
    """Return the page of `rows` after `cursor`, ordered by the time column `by` and the primary key.

    A keyset stays right while rows arrive and costs the same on every page, unlike an offset.
    """
    limit = max(1, min(limit, MAX_PAGE))
    total = rows.count()
    sign, beyond = ("-", "lt") if descending else ("", "gt")
    if cursor:
        when, key = _read_cursor(cursor, rows.model._meta.pk)
        rows = rows.filter(Q(**{f"{by}__{beyond}": when}) | Q(**{by: when, f"pk__{beyond}": key}))
    items = list(rows.order_by(f"{sign}{by}", f"{sign}pk")[: limit + 1])
    more = len(items) > limit
    items = items[:limit]
    return Page(items, _write_cursor(getattr(items[-1], by), items[-1].pk) if more else None, total)


def _write_cursor(when: datetime, key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps([when.isoformat(), key]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, field: models.Field[Any, Any]) -> tuple[datetime, Any]:
    try:
        when, key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        at = datetime.fromisoformat(when)
        if at.tzinfo is None:
            raise ValueError
        return at, field.to_python(key) if isinstance(key, (str, int)) else field.to_python("")
    except (ValueError, TypeError, ValidationError, binascii.Error):
        raise BadRequest("That cursor is not one of ours: take next_cursor from the page before.") from None


class SessionQuerySet(models.QuerySet["Session"]):
    """Questions about sessions."""

    def newest_first(self) -> SessionQuerySet:
        """Order by when the session was submitted, the last one first."""
        return self.order_by("-created_at", "-pk")

    def active(self) -> SessionQuerySet:
        """Keep the sessions that have not ended."""
        return self.exclude(status__in=TERMINAL)

    def matching(
        self,
        *,
        status: str = "",
        environment: str = "",
        q: str = "",
        graph: str = "",
        since: datetime | None = None,
    ) -> SessionQuerySet:
        """Keep the sessions that fit every filter given; `status` may list several with commas."""
        rows = self
        if status:
            rows = rows.filter(status__in=[part.strip() for part in status.split(",")])
        if environment:
            rows = rows.filter(environment=environment)
        if graph:
            rows = rows.filter(graph=graph)
        if since:
            rows = rows.filter(created_at__gte=since)
        for word in q.split()[:8]:
            rows = rows.filter(Q(pk__icontains=word) | Q(query__icontains=word) | Q(summary__icontains=word))
        return rows

    def page(self, *, cursor: str | None = None, limit: int = 50) -> Page[Session]:
        """Return one page, newest first."""
        return keyset_page(self, by="created_at", cursor=cursor, limit=limit)


class RunQuerySet(models.QuerySet["Run"]):
    """Questions about runs."""

    def active(self) -> RunQuerySet:
        """Keep the runs that will still do something."""
        return self.filter(status__in=ACTIVE_RUNS)

    def claimable(self) -> RunQuerySet:
        """Return pending runs in the order to claim them: a person's answer before a new start, then by age."""
        return self.filter(status=RunStatus.PENDING).order_by(
            Case(When(kind=RunKind.RESUME, then=Value(0)), default=Value(1), output_field=IntegerField()), "pk"
        )

    def stalled(self, *, workers: Iterable[str] = ()) -> RunQuerySet:
        """Return running runs whose lease is over, or whose worker is one of the dead `workers`."""
        return self.filter(status=RunStatus.RUNNING).filter(
            Q(lease_until__lt=timezone.now()) | Q(worker__in=list(workers))
        )


class SessionEventQuerySet(AppendOnlyQuerySet["SessionEvent"]):
    """Questions about events."""

    def since(self, seq: int) -> SessionEventQuerySet:
        """Return the events after `seq`, oldest first."""
        return self.filter(seq__gt=seq).order_by("seq")

    def status_changes(self) -> SessionEventQuerySet:
        """Keep the events that record a transition."""
        return self.filter(kind="session.status_changed")


class ToolCallQuerySet(models.QuerySet["ToolCall"]):
    """Questions about the ledger."""

    def open(self) -> ToolCallQuerySet:
        """Keep the calls that may run or are running: approved, or claimed and not settled."""
        return self.filter(status__in=[CallStatus.APPROVED, CallStatus.EXECUTING])

    def overdue(self) -> ToolCallQuerySet:
        """Keep the approved calls whose time to start is over."""
        return self.filter(status=CallStatus.APPROVED, grant__expires_at__lte=timezone.now().isoformat())
