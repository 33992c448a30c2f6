"""The queue and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from approvals_app import next_gate, precedents
from approvals_app.forms import DecisionForm, QueueFilter, SavedViewForm
from approvals_app.models import Comparison, Gate, RepairCard, SavedView
from approvals_app.outcome import outcomes_of
from approvals_app.querysets import GateQuerySet
from approvals_app.states import COUNTED, COUNTED_TO, Channel, Grouping, QueueTab, order_of
from sessions_app.decorators import PersonRequest, is_htmx, page, status_of
from sessions_app.exceptions import ClmError

PAGE_SIZE = 50


@require_safe
@page("approvals_app.view_gate")
def queue(request: PersonRequest) -> HttpResponse:
    """List the gates of one tab: those that wait, the most urgent first, or ended ones, the last decided first."""
    form = QueueFilter(request.GET)
    response = _show_queue(request, form)
    if request.headers.get("HX-Source") == "form#filters":
        response["HX-Push-Url"] = f"{request.path}?{urlencode(form.asked)}" if form.asked else request.path
    return response


@require_POST
@page("approvals_app.view_gate")
def save_view(request: PersonRequest) -> HttpResponse:
    """Keep the filters of the page that this came from under a name, for this person."""
    form = SavedViewForm(request.POST, user=request.user)
    if form.is_valid():
        return HttpResponseRedirect(form.save().get_absolute_url())
    return _show_queue(request, QueueFilter(QueryDict(form.data.get("query", ""))), saving=form, status=422)


@require_POST
@page("approvals_app.view_gate")
def delete_view(request: PersonRequest, pk: int) -> HttpResponse:
    """Forget one of this person's views; the gates stay as they are."""
    get_object_or_404(SavedView, pk=pk, user=request.user).delete()
    return HttpResponseRedirect(reverse("queue"))


def _show_queue(
    request: PersonRequest, form: QueueFilter, *, saving: SavedViewForm | None = None, status: int = 200
) -> HttpResponse:
    tab, grouped = form.tab_asked, form.grouped
    cursor = request.GET.get("cursor") or None
    visible = Gate.objects.visible_to(request.user)
    rows = form.kept(visible.in_tab(tab), request.user)
    # A list that somebody empties is counted to its end, unless filters must be held against each gate of it.
    whole = tab in COUNTED and not form.narrowed
    counts = visible.counted(
        **{name: visible.in_tab(name) for name in COUNTED},
        total=rows if whole else rows.at_most(COUNTED_TO + 1, order_of(tab) if tab == QueueTab.PENDING else ()),
    )
    long = not whole and counts["total"] > COUNTED_TO
    if long:
        rows = form.kept(visible.in_tab(tab, walk=True), request.user)
    shown = Gate.objects.all() if tab == QueueTab.PENDING else Gate.objects.with_outcome()
    heads = rows
    if grouped:
        heads, shown = rows.first_of_each(grouped.column, order_of(tab)), shown.with_alike(grouped.column, rows)
    found = heads.page(order=order_of(tab), cursor=cursor, limit=PAGE_SIZE, total=counts["total"], shown=shown)
    context = {
        "form": form,
        "tab": tab,
        "tabs": [(one, counts.get(one), form.under(one)) for one in QueueTab],
        "waiting": counts[QueueTab.PENDING],
        "groups": _groups(rows, found.items, grouped, order_of(tab)),
        "grouped": form.cleaned_data.get("group") if grouped else "",
        "total": counts["total"],
        "counted_to": COUNTED_TO if long else None,
        "narrowed": form.narrowed,
        "ungrouped": urlencode(form.narrowed),
        "first_page": cursor is None,
        # Pushed rows belong only where every pending gate would stand; elsewhere the list asks again.
        "pushed": tab == QueueTab.PENDING and not (form.narrowed or grouped or cursor or found.next_cursor),
        "here": urlencode({**form.asked, **({"cursor": cursor} if cursor else {})}),
        "next_page": urlencode({**form.asked, "cursor": found.next_cursor}) if found.next_cursor else "",
        "first": urlencode(form.asked),
        "views": list(request.user.saved_views.all()),
        "saving": saving or SavedViewForm(user=request.user),
    }
    template = "approvals/_queue.html" if is_htmx(request) else "approvals/queue.html"
    return render(request, template, context, status=status)


class Group(NamedTuple):
    """A row of the list, how many gates it stands for, and the others of them where they are on this page."""

    gate: Gate
    alike: int
    others: list[Gate]

    @property
    def more(self) -> int:
        """How many of them are not on this page."""
        return self.alike - 1 - len(self.others)


def _groups(rows: GateQuerySet, heads: list[Gate], grouped: Grouping | None, order: Sequence[str]) -> list[Group]:
    """Return the page's rows, each with the gates that it stands for; one query, and none where all stand alone.

    Small groups are there whole, as many as there is room for; the others of a larger one have a list of their own.
    """
    if not grouped:
        return [Group(gate, 1, []) for gate in heads]
    alike: dict[int, int] = {gate.pk: vars(gate)["alike"] for gate in heads}
    several = sorted((gate for gate in heads if alike[gate.pk] > 1), key=lambda gate: alike[gate.pk])
    sizes = accumulate(alike[gate.pk] - 1 for gate in several)
    shown = [gate for gate, size in zip(several, sizes, strict=True) if size <= grouped.room]
    others: dict[str, list[Gate]] = {}
    if shown:
        shared = {getattr(gate, grouped.column) for gate in shown}
        found = rows.filter(**{f"{grouped.column}__in": shared}).exclude(pk__in=[gate.pk for gate in shown])
        for gate in found.few(order)[: grouped.room]:
            others.setdefault(getattr(gate, grouped.column), []).append(gate)
    return [Group(gate, alike[gate.pk], others.get(getattr(gate, grouped.column), [])) for gate in heads]


@require_safe
@page("approvals_app.view_gate")
def gate(request: PersonRequest, pk: int) -> HttpResponse:
    """Show one gate: what is wanted and why while it waits, what became of it afterwards."""
    return _show(request, find_gate(request, pk))


@require_safe
@page("approvals_app.view_gate")
def beside(request: PersonRequest, pk: int, step: int) -> HttpResponse:
    """Lead to the gate after this one in the list, or before it, and decide nothing; `queue` is the list's query."""
    found = find_gate(request, pk)
    other = next_gate.beside(found, request.user, request.GET.get("queue", ""), step)
    if other is None:
        messages.info(request, f"That is the {'last' if step > 0 else 'first'} gate of the list.")
    return HttpResponseRedirect((other or found).get_absolute_url())


@require_POST
@page("approvals_app.view_gate")
def decide(request: PersonRequest, pk: int) -> HttpResponse:
    """Take this person's decision; whatever stands in its way is said on the gate's own card."""
    found = find_gate(request, pk)
    form = DecisionForm(request.POST, gate=found)
    valid = form.is_valid()
    if found.pending and not valid:
        return _show(request, found, form=form, status=422)
    if found.pending and form.shows_changes:
        return _show(request, found, form=form)
    if valid and form.unsure:
        return _ask(request, found, form)
    # Where the gate stands in the list is known only while it still stands there.
    onward = "queue" in request.POST and is_htmx(request)
    ahead = next_gate.ahead_of(found, request.user, request.POST["queue"]) if onward else None
    try:
        if not valid:
            raise found.late()
        found.decide(**form.verdict, actor=request.user, channel=Channel.PAGE)
    except ClmError as refused:
        return _show(request, found, form=form, refused=refused, status=status_of(refused))
    if ahead and ahead.gate:
        messages.success(request, next_gate.words(found, ahead))
        return HttpResponse(headers={"HX-Redirect": ahead.gate.get_absolute_url()})
    return _show(request, found) if is_htmx(request) else HttpResponseRedirect(found.get_absolute_url())


def _ask(request: PersonRequest, gate: Gate, form: DecisionForm) -> HttpResponse:
    """Ask once more before something dangerous runs, with what was sent kept in the form; nothing is decided yet."""
    left_out = {"csrfmiddlewaretoken", "confirm"}
    sent = [(name, value) for name, values in request.POST.lists() if name not in left_out for value in values]
    context = {"gate": gate, "session": gate.session, "sent": sent, "form": form}
    return render(request, "approvals/confirm.html", context, status=422)


@require_safe
@page("approvals_app.view_gate")
def repairs(request: PersonRequest) -> HttpResponse:
    """List what the sweep found and only a person can put right."""
    cards = (
        RepairCard.objects.open()
        .select_related("session")
        .prefetch_related(Prefetch("session__gates", queryset=Gate.objects.pending(), to_attr="waiting"))
    )
    closed = RepairCard.objects.exclude(closed_at=None).order_by("-closed_at")
    context = {"cards": cards[:PAGE_SIZE], "closed": closed[:10], "comparison": Comparison.latest()}
    return render(request, "approvals/_repairs.html" if is_htmx(request) else "approvals/repairs.html", context)


def find_gate(request: PersonRequest, pk: int) -> Gate:
    """Return the gate with what its card shows of others, or raise Http404 where this person may not see one."""
    rows = Gate.objects.visible_to(request.user).select_related("session__requester", "run", "claimer")
    return get_object_or_404(rows, pk=pk)


def _show(
    request: PersonRequest,
    gate: Gate,
    *,
    form: DecisionForm | None = None,
    refused: ClmError | None = None,
    status: int = 200,
) -> HttpResponse:
    decision = None if gate.pending else gate.decision
    outcomes = outcomes_of(gate, decision)
    form = form or DecisionForm(gate=gate, initial={"digest": gate.digest})
    context = {
        "gate": gate,
        "session": gate.session,
        "calls": [(outcome.call, outcome.row) for outcome in outcomes],
        "outcomes": outcomes,
        "form": form,
        "opened": "edit" in request.GET,
        "before": precedents.of(gate) if gate.pending else None,
        "decision": decision,
        "why_not": gate.refusal_for(request.user) if gate.pending else "",
        "refused": refused,
        "kept": form.typed if refused and not gate.pending else "",
    }
    template = "approvals/_gate.html" if is_htmx(request) else "approvals/gate.html"
    return render(request, template, context, status=status)
