"""Questions about gates and decisions. The queue's page, its badge and the API ask the same ones (law L5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import models
from django.db.models import Case, Count, Exists, F, IntegerField, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from approvals_app.states import CALLS_IN, GATES_IN, LET_RUN, OLDEST_FIRST, GateStatus, QueueTab
from sessions_app import statements
from sessions_app.exceptions import LogIsAppendOnly
from sessions_app.querysets import Page, following, keyset_page
from sessions_app.states import CallStatus

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

    from approvals_app.models import Gate
    from approvals_app.models.gate_call import GateCall, GateCallQuerySet

#: What a gate's own page needs and no list shows.
LONG = ("evidence", "reasoning", "request", "response_schema", "answer", "facts", "facts_known", "facts_now")


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
        # The same as not to be pending, by a constraint; said like this, an index serves it.
        return self.filter(decided_at__isnull=False)

    def overdue(self) -> GateQuerySet:
        """Keep the pending gates whose time is over."""
        return self.pending().filter(expires_at__lte=timezone.now())

    def in_tab(self, tab: str, *, walk: bool = False) -> GateQuerySet:
        """Keep the gates of one tab of the queue; the page, its numbers and the API all ask here (law L5).

        A tab of approved gates is found from the ledger, by an index of what became of calls that were let run. For
        one page of a long tab it is quicker to `walk` the ended gates in their order and look at each. That changes
        how long it takes, and never what is found.
        """
        tab = QueueTab(tab)
        if tab == QueueTab.DECIDED:
            # Said like this, an index on the time alone serves it.
            return self.filter(decided_at__isnull=False)
        if tab in GATES_IN:
            (status,) = GATES_IN[tab]
            return self.filter(status=status)
        before = list(CALLS_IN)[: list(CALLS_IN).index(tab)]
        # By the statuses that it is not: SQLite would seek each of two by index, and sort or read all that it found.
        let_run = self.exclude(status__in=sorted(str(status) for status in GateStatus if status not in LET_RUN))
        if walk:
            # The ledger does not know every call.
            became = Coalesce(self._outcome(), Value(str(CallStatus.EXECUTED)))
            ended = let_run.filter(decided_at__isnull=False).alias(became=became)
            return ended.filter(became__in=sorted(map(str, CALLS_IN[tab])))
        if tab == QueueTab.EXECUTED:
            # Nearly all of them: here it should.
            found = self.filter(status__in=sorted(map(str, LET_RUN)))
        else:
            found = let_run.filter(pk__in=self._gates_about([tab]))
        return found.exclude(pk__in=self._gates_about(before)) if before else found

    def _gates_about(self, tabs: Iterable[QueueTab]) -> models.QuerySet[GateCall, Any]:
        statuses = {status for tab in tabs for status in CALLS_IN[tab]}
        return self._links().let_run(statuses).values("gate")

    def _outcome(self) -> Subquery:
        """Where the call of a gate stands that its tab goes by: the first of CALLS_IN's order that was let run."""
        in_order = Case(
            *(
                When(call__status__in=sorted(map(str, statuses)), then=Value(place))
                for place, statuses in enumerate(CALLS_IN.values())
            ),
            output_field=IntegerField(),
        )
        calls = self._links().let_run().filter(gate=OuterRef("pk")).order_by(in_order, "position")
        return Subquery(calls.values("call__status")[:1])

    def _links(self) -> GateCallQuerySet:
        from approvals_app.models.gate_call import GateCall

        return GateCall.objects.all()

    def counted(self, **lists: GateQuerySet) -> dict[str, int]:
        """Return how many gates each of these lists has, in one query."""
        parts = [
            rows.order_by().annotate(which=Value(name)).values("which").annotate(number=Count("pk"))
            for name, rows in lists.items()
        ]
        found = dict(parts[0].union(*parts[1:], all=True).values_list("which", "number"))
        return {name: found.get(name, 0) for name in lists}

    def claimed(self) -> GateQuerySet:
        """Keep the pending gates that somebody is on now."""
        return self.pending().filter(claimer__isnull=False, claimed_until__gt=timezone.now())

    def unclaimed(self) -> GateQuerySet:
        """Keep the pending gates that nobody is on, or not any more."""
        return self.pending().filter(Q(claimer=None) | Q(claimed_until__lte=timezone.now()))

    def claimed_by(self, user: User) -> GateQuerySet:
        """Keep the pending gates that this person is on."""
        return self.claimed().filter(claimer=user)

    def drifted(self) -> GateQuerySet:
        """Keep the pending gates whose facts, when last read, were not those that they were proposed on."""
        return self.pending().exclude(fingerprint_now=F("fingerprint"))

    def matching(
        self,
        *,
        status: str = "",
        tool: str = "",
        environment: str = "",
        risk: str = "",
        graph: str = "",
        agent: str = "",
        requester: str = "",
        call: str = "",
        q: str = "",
    ) -> GateQuerySet:
        """Keep the gates that fit every filter given; `status` may list several with commas.

        A requester is a person's name, or the one that an API client named; `call` is a gate's `call_digest`.
        """
        rows = self
        if status:
            rows = rows.filter(status__in=[part.strip() for part in status.split(",")])
        plain = {
            "tool": tool,
            "session__environment": environment,
            "risk": risk,
            "session__graph": graph,
            "agent": agent,
            "call_digest": call,
        }
        rows = rows.filter(**{name: value for name, value in plain.items() if value})
        if requester:
            rows = rows.filter(Q(session__requester__username=requester) | Q(session__submitter_id=requester))
        for word in q.split()[:8]:
            rows = rows.filter(
                Q(tool__icontains=word)
                | Q(session__id__icontains=word)
                | Q(headline__icontains=word)
                | Q(session__query__icontains=word)
            )
        return rows

    def requested_by(self, user: User | AnonymousUser) -> GateQuerySet:
        """Keep the gates of sessions that this person requested."""
        return self.filter(session__requester_id=user.pk)

    # One of many ------------------------------------------------------------------------------------------------

    def first_of_each(self, column: str, order: Sequence[str]) -> GateQuerySet:
        """Keep of the gates that have `column` in common only the first in `order`; one without it stands for itself.

        The list of these is paged like any other.
        """
        names = [name.removeprefix("-") for name in order]
        backwards = [name.removeprefix("-") if name.startswith("-") else f"-{name}" for name in order]
        before = following(backwards, [OuterRef(name) for name in names])
        return self.exclude(Exists(self._same(column).filter(before)))

    def with_alike(self, column: str, among: GateQuerySet) -> GateQuerySet:
        """Add `alike`: how many gates of `among` have the same `column`, itself included."""
        number = among._same(column).values(column).annotate(number=Count("pk")).values("number")
        return self.annotate(alike=Coalesce(Subquery(number), 1))

    def _same(self, column: str) -> GateQuerySet:
        return self.order_by().filter(**{column: OuterRef(column)}).exclude(**{column: ""})

    def with_outcome(self) -> GateQuerySet:
        """Add `decided_by`, a name, and `outcome`, where the ledger has a call of it that was let run."""
        from approvals_app.models.decision import Decision

        took = Decision.objects.filter(gate=OuterRef("pk")).order_by("-pk").values("actor__username")[:1]
        return self.annotate(decided_by=Subquery(took), outcome=self._outcome())

    def at_most(self, number: int, order: Sequence[str] = ()) -> GateQuerySet:
        """Keep no more than that many: to count a long list only so far. Whichever, or the first in an `order`."""
        return self.model.objects.filter(pk__in=self.order_by(*order).values("pk")[:number])

    def page(
        self,
        *,
        order: Sequence[str] = OLDEST_FIRST,
        cursor: str | None = None,
        limit: int = 50,
        total: int | None = None,
        shown: GateQuerySet | None = None,
    ) -> Page[Gate]:
        """Return one page in `order`, without the long texts that no list shows; `shown` may add to its rows."""
        whole = self.model.objects.all() if shown is None else shown
        return keyset_page(self, order=order, cursor=cursor, limit=limit, total=total, shown=whole._as_in_lists())

    def few(self, order: Sequence[str]) -> GateQuerySet:
        """Return these gates in `order` as a page has them, where they are few: found first and then put in order."""
        found = self.model.objects.filter(pk__in=self.order_by().values("pk"))
        return found._as_in_lists().order_by(*order)

    def _as_in_lists(self) -> GateQuerySet:
        return self.select_related("session", "claimer").defer(*LONG)

    def swap(self, pk: int, old: GateStatus, only: Mapping[str, Any] | None = None, **changes: Any) -> bool:
        """Change one gate if it still stands at `old` and `only` holds; with `swap_among` all that gates know."""
        return statements.swap(self.model, {"pk": pk, "status": old, **(only or {})}, **changes)

    def swap_among(self, pk: int, old: GateStatus, **changes: Any) -> bool:
        """Change one gate if it still stands at `old` and is among these: for what `only` cannot say."""
        return bool(self.filter(pk=pk, status=old)._raw_update(**changes))

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
