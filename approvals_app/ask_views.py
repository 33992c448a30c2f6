"""Asking the agent from a gate's card: a fragment of its own, so that a half-written decision stays as it is."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from approvals_app.models import Gate, Inquiry
from approvals_app.states import Channel
from approvals_app.views import find_gate
from sessions_app.decorators import PersonRequest, is_htmx, page, status_of
from sessions_app.exceptions import ClmError


@require_safe
@page("approvals_app.view_gate")
def questions(request: PersonRequest, pk: int) -> HttpResponse:
    """Show what was asked at this gate; a browser without htmx is sent to the card that has it."""
    gate = find_gate(request, pk)
    return _show(request, gate) if is_htmx(request) else HttpResponseRedirect(f"{gate.get_absolute_url()}#ask")


@require_POST
@page("approvals_app.view_gate")
def ask(request: PersonRequest, pk: int) -> HttpResponse:
    """Take a question to the agent; the gate stays as it is."""
    gate = find_gate(request, pk)
    text = request.POST.get("text", "")
    try:
        Inquiry.ask(gate, text, actor=request.user, channel=Channel.PAGE)
    except ClmError as refused:
        return _show(request, gate, refused=refused, text=text)
    return _show(request, gate) if is_htmx(request) else HttpResponseRedirect(f"{gate.get_absolute_url()}#ask")


def _show(request: PersonRequest, gate: Gate, *, refused: ClmError | None = None, text: str = "") -> HttpResponse:
    context = {
        "gate": gate,
        "why_not": gate.refusal_for(request.user) if gate.pending else "",
        "ask_refused": refused,
        "ask_text": text,
        "sent": request.method == "POST",
    }
    template = "approvals/_ask.html" if is_htmx(request) else "approvals/ask.html"
    return render(request, template, context, status=status_of(refused) if refused else 200)
