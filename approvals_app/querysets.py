"""Questions about gates and decisions. The queue's page, its badge and the API ask the same ones (law L5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import models
from django.db.models import Q
from django.utils import timezone

from approvals_app.states import GateStatus
from sessions_app import statements
from sessions_app.exceptions import LogIsAppendOnly
from sessions_app.querysets import Page, keyset_page

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

    from approvals_app.models import Gate


class GateQuerySet(models.QuerySet["Gate"]):
    """Questions about gates."""

    def visible_to(self, user: User | AnonymousUser) -> GateQuerySet:
        """Keep what this person may see: all of it for whoever has a role here, nothing for anybody else."""
        return self if user.has_perm("approvals_app.view_gate") else self.none()

    def pending(self) -> GateQuerySet:
        """Keep the gates that nobody has decided."""
        return self.filter(status=GateStatus.PENDING)

    def decided(self) -> GateQuerySet:
        """Keep the gates that have reached an end."""
        return self.exclude(status=GateStatus.PENDING)

    def overdue(self) -> GateQuerySet:
        """Keep the pending gates whose time is over."""
        return self.pending().filter(expires_at__lte=timezone.now())

    def matching(
        self, *, status: str = "", tool: str = "", environment: str = "", risk: str = "", q: str = ""
    ) -> GateQuerySet:
        """Keep the gates that fit every filter given; `status` may list several with commas."""
        rows = self
        if status:
            rows = rows.filter(status__in=[part.strip() for part in status.split(",")])
        if tool:
            rows = rows.filter(tool=tool)
        if environment:
            rows = rows.filter(session__environment=environment)
        if risk:
            rows = rows.filter(risk=risk)
        for word in q.split()[:8]:
            rows = rows.filter(
                Q(tool__icontains=word)
                | Q(session__id__icontains=word)
                | Q(headline__icontains=word)
                | Q(session__query__icontains=word)
            )
        return rows

    def page(self, *, cursor: str | None = None, limit: int = 50, newest_first: bool = False) -> Page[Gate]:
        """Return one page; the queue reads oldest first, because those run out first."""
        return keyset_page(
            self.select_related("session"),
            by="created_at",
            cursor=cursor,
            limit=limit,
            descending=newest_first,
        )

    def swap(self, pk: int, old: GateStatus, only: Mapping[str, Any] | None = None, **changes: Any) -> bool:
        """Change one gate if it still stands at `old` and `only` holds; the only update that gates know."""
        return statements.swap(self.model, {"pk": pk, "status": old, **(only or {})}, **changes)

    def _raw_update(self, **changes: Any) -> int:
        return super().update(**changes)

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse: a bulk write sends no signal, so the session would not follow."""
        raise LogIsAppendOnly("Gates are changed one by one, by their verbs: a bulk write sends no signal.")

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: the session's status would not follow."""
        raise LogIsAppendOnly("Gates are opened one by one, by save(): a bulk write sends no signal.")

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: the session's status would not follow."""
        raise LogIsAppendOnly("Gates are changed one by one, by their verbs: a bulk write sends no signal.")

    def delete(self) -> NoReturn:
        """Refuse: an audit row is not deleted."""
        raise LogIsAppendOnly
