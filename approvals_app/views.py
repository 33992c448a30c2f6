"""The queue and the gate."""

from __future__ import annotations

from django.db.models import Prefetch
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from approvals_app.forms import DECIDED, PENDING, DecisionForm, QueueFilter
from approvals_app.models import Decision, Gate
from approvals_app.outcome import outcomes_of
from approvals_app.states import Channel
from sessions_app.decorators import PersonRequest, is_htmx, page, status_of
from sessions_app.exceptions import ClmError

PAGE_SIZE = 50


@require_safe
@page("approvals_app.view_gate")
def queue(request: PersonRequest) -> HttpResponse:
    """List the gates that wait, oldest first, or those that were decided, newest first."""
    form = QueueFilter(request.GET)
    tab, asked = form.tab, form.asked
    rows = Gate.objects.visible_to(request.user)
    rows = rows.pending() if tab == PENDING else rows.decided()
    status = asked.pop("status", "")
    rows = rows.matching(**asked, status=status if status not in {PENDING, DECIDED} else "")
    cursor = request.GET.get("cursor") or None
    if tab == DECIDED:
        decisions = Decision.objects.select_related("actor")
        rows = rows.prefetch_related(Prefetch("decisions", queryset=decisions, to_attr="taken"))
    found = rows.page(cursor=cursor, limit=PAGE_SIZE, newest_first=tab == DECIDED)
    kept = {**form.asked, **({"cursor": cursor} if cursor else {})}
    context = {
        "form": form,
        "tab": tab,
        "gates": found.items,
        "total": found.total,
        "narrowed": form.narrowed,
        "first_page": cursor is None,
        # Pushed rows belong only where every pending gate would stand; elsewhere the list asks again.
        "pushed": tab == PENDING and not form.narrowed and cursor is None and found.next_cursor is None,
        "here": urlencode(kept),
        "next_page": urlencode({**form.asked, "cursor": found.next_cursor}) if found.next_cursor else "",
        "first": urlencode(form.asked),
    }
    response = render(request, "approvals/_queue.html" if is_htmx(request) else "approvals/queue.html", context)
    if request.headers.get("HX-Source") == "form#filters":
        response["HX-Push-Url"] = f"{request.path}?{context['first']}" if context["first"] else request.path
    return response


@require_safe
@page("approvals_app.view_gate")
def gate(request: PersonRequest, pk: int) -> HttpResponse:
    """Show one gate: what is wanted and why while it waits, what became of it afterwards."""
    return _show(request, _find(request, pk))


@require_POST
@page("approvals_app.view_gate")
def decide(request: PersonRequest, pk: int) -> HttpResponse:
    """Take this person's decision; whatever stands in its way is said on the gate's own card."""
    found = _find(request, pk)
    form = DecisionForm(request.POST, gate=found)
    if not form.is_valid():
        return _show(request, found, form=form, status=422)
    try:
        found.decide(**form.verdict, actor=request.user, channel=Channel.PAGE)
    except ClmError as refused:
        return _show(request, found, form=form, refused=refused, status=status_of(refused))
    return _show(request, found) if is_htmx(request) else HttpResponseRedirect(found.get_absolute_url())


def _find(request: PersonRequest, pk: int) -> Gate:
    rows = Gate.objects.visible_to(request.user).select_related("session__requester", "run")
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
    context = {
        "gate": gate,
        "session": gate.session,
        "calls": [(outcome.call, outcome.row) for outcome in outcomes],
        "outcomes": outcomes,
        "form": form or DecisionForm(gate=gate, initial={"digest": gate.digest}),
        "decision": decision,
        "why_not": gate.refusal_for(request.user) if gate.pending else "",
        "refused": refused,
        "kept": form.said if form and refused and not gate.pending else "",
    }
    template = "approvals/_gate.html" if is_htmx(request) else "approvals/gate.html"
    return render(request, template, context, status=status)
