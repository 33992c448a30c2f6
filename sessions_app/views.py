"""The list of sessions, a session, a new one, stop and rerun."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sessions_app import charts, timeline
from sessions_app.agents import checkpoints
from sessions_app.decorators import PersonRequest, is_htmx, page, status_of
from sessions_app.exceptions import BadRequest, ClmError, Invalid
from sessions_app.forms import NewSessionForm, SessionFilter
from sessions_app.models import Session, ToolCall
from sessions_app.states import SessionStatus

PAGE_SIZE = 50


@require_safe
@page("sessions_app.view_session")
def sessions(request: PersonRequest) -> HttpResponse:
    """List sessions, the newest first."""
    form = SessionFilter(request.GET)
    cursor = request.GET.get("cursor") or None
    rows = Session.objects.select_related("requester").matching(
        status=form.asked.get("status", ""), environment=form.asked.get("environment", ""), q=form.asked.get("q", "")
    )
    found = rows.page(cursor=cursor, limit=PAGE_SIZE)
    kept = {**form.asked, **({"cursor": cursor} if cursor else {})}
    context = {
        "form": form,
        "sessions": found.items,
        "total": found.total,
        "asked": form.asked,
        "first_page": cursor is None,
        "here": urlencode(kept),
        "first": urlencode(form.asked),
        "next_page": urlencode({**form.asked, "cursor": found.next_cursor}) if found.next_cursor else "",
    }
    return render(request, "sessions/_list.html" if is_htmx(request) else "sessions/list.html", context)


@require_safe
@page("sessions_app.view_session")
def session(request: PersonRequest, pk: str) -> HttpResponse:
    """Show one session: where it stands, what waits, and everything that happened."""
    found = get_object_or_404(Session.objects.select_related("requester"), pk=pk)
    return _show(request, found)


@require_http_methods(["GET", "HEAD", "POST"])
@page("sessions_app.add_session")
def new_session(request: PersonRequest) -> HttpResponse:
    """Ask the agents to look into something."""
    form = NewSessionForm(request.POST or None)
    if request.method != "POST":
        return render(request, "sessions/new.html", {"form": form})
    if form.is_valid():
        try:
            made = Session.submit(**form.cleaned_data, requester=request.user)
        except Invalid as refused:
            for name, text in refused.details.get("fields", {}).items():
                form.add_error(name if name in form.fields else None, text)
        except ClmError as refused:
            form.add_error(None, refused.text)
            return render(request, "sessions/new.html", {"form": form}, status=status_of(refused))
        else:
            return HttpResponseRedirect(made.get_absolute_url())
    return render(request, "sessions/new.html", {"form": form}, status=422)


@require_POST
@page("sessions_app.stop_session")
def stop_session(request: PersonRequest, pk: str) -> HttpResponse:
    """Stop the session: its run ends, and its open gates with it."""
    found = get_object_or_404(Session, pk=pk)
    try:
        found.stop(actor=request.user, note=request.POST.get("note", "").strip()[:2000])
    except ClmError as refused:
        return _show(request, found, refused=refused)
    stopped = found.status == SessionStatus.STOPPED
    done = "is stopped; nothing more runs" if stopped else "stays as it ended; its rerun was cancelled"
    messages.success(request, f"{found.pk} {done}.")
    return HttpResponseRedirect(found.get_absolute_url())


@require_POST
@page("sessions_app.stop_session")
def rerun_session(request: PersonRequest, pk: str) -> HttpResponse:
    """Ask for another run, from the start or from the checkpoint that the form names."""
    found = get_object_or_404(Session, pk=pk)
    checkpoint = request.POST.get("from_checkpoint", "")
    try:
        since = checkpoints.find(found, checkpoint) if checkpoint else None
        found.rerun(actor=request.user, since=since)
    except ClmError as refused:
        return _show(request, found, refused=refused)
    where = f"before {', '.join(since.next)}" if since else "the start"
    messages.success(request, f"{found.pk} runs again from {where}.")
    return HttpResponseRedirect(found.get_absolute_url())


@require_safe
@page("sessions_app.view_session")
def checkpoints_of(request: PersonRequest, pk: str) -> HttpResponse:
    """List the checkpoints from which the session can be run again: in a fold of its page, or as a page of its own."""
    found = get_object_or_404(Session, pk=pk)
    context = {"session": found, "boundaries": checkpoints.boundaries(found), "why_no_rerun": found.why_no_rerun()}
    template = "sessions/_checkpoints.html" if is_htmx(request) else "sessions/checkpoints.html"
    return render(request, template, context)


def call_result(request: PersonRequest, pk: str, call: int) -> HttpResponse:
    """Show all that one tool call returned; the timeline has its beginning."""
    found = get_object_or_404(ToolCall.objects.select_related("session"), session_id=pk, pk=call)
    template = "sessions/_result.html" if is_htmx(request) else "sessions/result.html"
    return render(request, template, {"call": found, "session": found.session})


def _number(request: PersonRequest, name: str) -> int | None:
    text = request.GET.get(name) or None
    if text is not None and not (text.isdecimal() and text.isascii() and len(text) <= 18):
        raise BadRequest(f"`{name}` is the number of an event.")
    return int(text) if text else None


def _show(request: PersonRequest, found: Session, *, refused: ClmError | None = None) -> HttpResponse:
    show = timeline.SHOWS.get(request.GET.get("show", ""), timeline.SHOWS[""])
    numbers = {name: _number(request, name) for name in ("before", "since", "at")}
    stretch = timeline.page_of(found, show=show, **numbers)
    if is_htmx(request) and request.headers.get("HX-Target", "").endswith("#earlier"):
        # Only what comes before is asked for, to stand above what is there.
        return render(request, "sessions/_earlier.html", {"session": found, "stretch": stretch})
    context = {
        **timeline.shown(found),
        **charts.shown(found),
        "stretch": stretch,
        "shows": timeline.SHOWS.values(),
        "refused": refused,
        "why_no_rerun": found.why_no_rerun(),
    }
    template = "sessions/_session.html" if is_htmx(request) else "sessions/session.html"
    return render(request, template, context, status=status_of(refused) if refused else 200)
