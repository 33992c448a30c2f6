"""What every page view shares: who may open it, and how a refusal looks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Concatenate, ParamSpec, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.http import urlencode

from sessions_app.exceptions import ClmError

P = ParamSpec("P")


class PersonRequest(HttpRequest):
    """A request by somebody who is signed in."""

    user: User


View = Callable[Concatenate[HttpRequest, P], HttpResponse]
PersonView = Callable[Concatenate[PersonRequest, P], HttpResponse]

_STATUS = {
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: ClmError) -> int:
    """Return the HTTP status of an error: its code is the status's own name, but for two."""
    return _STATUS.get(error.code) or HTTPStatus[error.code.upper()]


def page(permission: str) -> Callable[[PersonView[P]], View[P]]:
    """Let in who is signed in and has the permission; a ClmError becomes a page that says what it says.

    A signed-out htmx request is sent to the sign-in as a whole page, not swapped into the middle of this one.
    """

    def decorate(view: PersonView[P]) -> View[P]:
        @wraps(view)
        def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if not request.user.is_authenticated:
                return _to_sign_in(request)
            if not request.user.has_perm(permission):
                raise PermissionDenied
            try:
                response = view(cast(PersonRequest, request), *args, **kwargs)
            except ClmError as error:
                response = refusal(request, error)
            # A page and its fragment share an address, and the Back button must not show a stale desk.
            patch_vary_headers(response, ["HX-Request"])
            patch_cache_control(response, private=True, no_cache=True)
            return response

        return wrapped

    return decorate


def refusal(request: HttpRequest, error: ClmError) -> HttpResponse:
    """Return the page, or for htmx the fragment, that says what a ClmError says."""
    status = status_of(error)
    context = {"title": HTTPStatus(status).phrase, "text": error.text}
    return render(request, "_refusal.html" if is_htmx(request) else "refusal.html", context, status=status)


def is_htmx(request: HttpRequest) -> bool:
    """Whether htmx asks for a fragment of the page rather than a browser for all of it."""
    return bool(getattr(request, "htmx", False))


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    if not is_htmx(request):
        return redirect_to_login(request.get_full_path())
    here = urlsplit(request.headers.get("HX-Current-URL", ""))
    target = f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': here.path or '/'})}"
    response = HttpResponse(status=HTTPStatus.UNAUTHORIZED)
    response["HX-Redirect"] = target
    return response
