"""A gate in short, for the panel beside the list: enough to know whether to open it, and nothing to decide with."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_safe

from approvals_app.views import find_gate
from sessions_app.decorators import PersonRequest, is_htmx, page


@require_safe
@page("approvals_app.view_gate")
def peek(request: PersonRequest, pk: int) -> HttpResponse:
    """Show the gate in short; a browser that comes here by itself gets all of it."""
    gate = find_gate(request, pk)
    if not is_htmx(request):
        return HttpResponseRedirect(gate.get_absolute_url())
    context = {
        "gate": gate,
        "session": gate.session,
        "decision": None if gate.pending else gate.decision,
        "why_not": gate.refusal_for(request.user) if gate.pending else "",
    }
    return render(request, "approvals/_peek.html", context)
