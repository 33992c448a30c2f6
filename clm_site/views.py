"""Signing in, and the pages for what went wrong."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from clm_site import signin

#: Whoever holds none of these has no part in the desk yet.
ROLES = ("sessions_app.view_session", "approvals_app.view_gate")


class SignInView(LoginView):
    """Sign in by name and password."""

    template_name = "sign_in.html"
    redirect_authenticated_user = True


@sensitive_variables("token")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_by_link(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Sign in with a one-time link; reading it only asks, so a link scanner signs nobody in (S14)."""
    person = signin.person_of(uid, token)
    if person is None:
        return render(request, "sign_in_link_used.html", status=410)
    if request.method == "POST":
        login(request, person, backend=settings.AUTHENTICATION_BACKENDS[0])
        return redirect(resolve_url(settings.LOGIN_REDIRECT_URL))
    return render(request, "sign_in_link.html", {"person": person})


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 400 with a page."""
    return _plain(request, 400, "That request cannot be read", "Go back and try again.")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 403; somebody without any role is told what that means and who can change it."""
    if request.user.is_authenticated and not any(map(request.user.has_perm, ROLES)):
        return render(request, "no_role.html", status=403)
    text = str(exception or "") or "Your role does not allow this; an administrator can change that."
    return render(request, "refusal.html", {"title": "You may not do this", "text": text}, status=403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 404 with a page."""
    return _plain(request, 404, "There is nothing here", "The address may be old or mistyped.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 with a page that needs neither a person nor a database."""
    return _plain(request, 500, "Something broke in CLM", "It is in the server's log. Nothing was left half-written.")


def _plain(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    # Without the request no context processor runs, so nothing here asks for a person or a database.
    return render(None, "plain.html", {"title": title, "text": text, "status": status}, status=status)
