"""What people do at a gate beside deciding it: be on it, say something about it, acknowledge new facts."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_POST

from approvals_app import together
from approvals_app.models import Comment, Presence
from approvals_app.states import Channel
from approvals_app.views import find_gate
from sessions_app.decorators import PersonRequest, page


@require_POST
@page("approvals_app.view_gate")
def look(request: PersonRequest, pk: int) -> HttpResponse:
    """Take an open card's word that it is still open: its claim is kept and the facts are read again.

    Answers with who else is there, and tells the card to ask for itself where it is not current any more.
    """
    gate = find_gate(request, pk)
    if gate.pending:
        gate.keep_claim(request.user)
        if request.POST.get("away") != "1":
            Presence.note(gate, request.user)
        gate.look_again()
    response = render(request, "approvals/_presence.html", {"gate": gate})
    if request.POST.get("version") != together.version(gate):
        response["HX-Trigger"] = f"desk:gate-{gate.pk}"
    return response


@require_POST
@page("approvals_app.view_gate")
def claim(request: PersonRequest, pk: int) -> HttpResponse:
    """Tell the others that this person is on it."""
    gate = find_gate(request, pk)
    gate.claim(request.user)
    return HttpResponseRedirect(gate.get_absolute_url())


@require_POST
@page("approvals_app.view_gate")
def release(request: PersonRequest, pk: int) -> HttpResponse:
    """Give this person's claim back."""
    gate = find_gate(request, pk)
    gate.release(request.user)
    return HttpResponseRedirect(gate.get_absolute_url())


@require_POST
@page("approvals_app.view_gate")
def comment(request: PersonRequest, pk: int) -> HttpResponse:
    """Take this person's comment."""
    gate = find_gate(request, pk)
    Comment.write(gate, author=request.user, channel=Channel.PAGE, text=request.POST.get("text", ""))
    return HttpResponseRedirect(f"{gate.get_absolute_url()}#comments")


@require_POST
@page("approvals_app.view_gate")
def acknowledge(request: PersonRequest, pk: int) -> HttpResponse:
    """Take this person's word that they have seen the new facts, named by their fingerprint."""
    gate = find_gate(request, pk)
    seen = request.POST.get("fingerprint", "")
    gate.acknowledge(actor=request.user, channel=Channel.PAGE, fingerprint=seen)
    return HttpResponseRedirect(gate.get_absolute_url())
