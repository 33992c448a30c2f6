"""Questions about sessions, runs, events and tool calls."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Case, Exists, IntegerField, OuterRef, Q, Value, When
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
    rows: models.QuerySet[_Row],
    *,
    order: Sequence[str],
    cursor: str | None,
    limit: int,
    total: int | None = None,
    shown: models.QuerySet[_Row] | None = None,
) -> Page[_Row]:
    """Return the page of `rows` after `cursor`, in `order`: columns that are never null, the last one the key.

    A keyset stays right while rows arrive and costs the same on every page, unlike an offset. `total` spares the count
    to whoever has counted already. With `shown`, the page's rows are read from there by their keys: a database may
    otherwise read every column of every row that it sorts.
    """
    limit = max(1, min(limit, MAX_PAGE))
    if total is None:
        total = rows.count()
    if cursor:
        rows = rows.filter(following(order, _read_cursor(cursor, _columns(rows, order))))
    rows = rows.order_by(*order)
    if shown is None:
        items = list(rows[: limit + 1])
    else:
        items = list(shown.filter(pk__in=rows.values("pk")[: limit + 1]).order_by(*order))
    more = len(items) > limit
    items = items[:limit]
    names = [column.removeprefix("-") for column in order]
    last = [getattr(items[-1], name) for name in names] if more else []
    return Page(items, _write_cursor(last) if more else None, total)


def following(order: Sequence[str], values: Sequence[Any]) -> Q:
    """Return what is true of the rows that come after the one with those `values`, in that order."""
    beyond, same = Q(), Q()
    for column, value in zip(order, values, strict=True):
        name, comes_after = column.removeprefix("-"), "lt" if column.startswith("-") else "gt"
        beyond |= same & Q(**{f"{name}__{comes_after}": value})
        same &= Q(**{name: value})
    # What follows from the rest, said first: an index can begin there.
    name, comes_after = order[0].removeprefix("-"), "lte" if order[0].startswith("-") else "gte"
    return Q(**{f"{name}__{comes_after}": values[0]}) & beyond


def _columns(rows: models.QuerySet[Any], order: Sequence[str]) -> list[models.Field[Any, Any]]:
    meta = rows.model._meta
    names = (column.removeprefix("-") for column in order)
    return [meta.pk if name == "pk" else meta.get_field(name) for name in names]


def _write_cursor(values: Sequence[Any]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, columns: Sequence[models.Field[Any, Any]]) -> list[Any]:
    try:
        plain = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(plain, list):
            raise ValueError
        return [_read_value(value, column) for value, column in zip(plain, columns, strict=True)]
    except (ValueError, TypeError, ValidationError, binascii.Error):
        raise BadRequest("That cursor is not one of ours: take next_cursor from the page before.") from None


def _read_value(value: Any, column: models.Field[Any, Any]) -> Any:
    if isinstance(column, models.DateTimeField):
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError
        return at
    return column.to_python(value) if isinstance(value, (str, int)) else column.to_python("")


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
        return keyset_page(self, order=("-created_at", "-pk"), cursor=cursor, limit=limit)


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

    def driven(self, run_id: int, attempt: int) -> RunQuerySet:
        """Keep the run where this attempt at it is under way: nobody has taken it since, and it has not ended."""
        return self.filter(pk=run_id, attempt=attempt, status=RunStatus.RUNNING)

    def stalled(self, *, workers: Iterable[str] = ()) -> RunQuerySet:
        """Return running runs whose lease is over, or whose worker is one of the dead `workers`."""
        return self.filter(status=RunStatus.RUNNING).filter(
            Q(lease_until__lt=timezone.now()) | Q(worker__in=list(workers))
        )

    def at_rest(self, *, since: datetime) -> RunQuerySet:
        """Return runs that paused before `since`, of sessions that have not ended and where none came after them."""
        later = self.model._default_manager.filter(session=OuterRef("session"), pk__gt=OuterRef("pk"))
        return self.filter(
            ~Exists(later), ~Q(session__status__in=TERMINAL), status=RunStatus.INTERRUPTED, ended_at__lt=since
        ).order_by("pk")


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
