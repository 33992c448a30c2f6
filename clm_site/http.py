"""One shape for every error under the API's paths, whoever raises it: CLM, django-ninja or Django itself."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from json import JSONDecodeError
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, RawPostDataException, UnreadablePostError
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from clm_site import storage
from sessions_app import redaction
from sessions_app.decorators import status_of
from sessions_app.exceptions import BadRequest, ClmError, Invalid, NotFound, TooMany, Unauthorized

log = logging.getLogger("clm.api")

#: Where the API is; triggers are called at the root as well.
PATHS = ("/api/", "/triggers/")
#: The probes at the root speak the API's language too.
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

#: What an answer of Django's own means: the contract's code, and a sentence.
PLAIN = {
    400: ("bad_request", "The request cannot be read."),
    401: ("unauthorized", Unauthorized().text),
    403: ("forbidden", "You may not do this."),
    404: ("not_found", "There is no such path; /api/v1/docs has them all."),
    405: ("bad_request", "This path does not take that method."),
    413: ("bad_request", "The request is too large."),
    503: ("service_unavailable", "CLM cannot answer now; try again later."),
}

#: pydantic's complaints that read better in our words.
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no field of this request",
    "string_type": "must be text",
    "dict_type": "must be an object",
    "model_attributes_type": "must be an object",
    "int_parsing": "must be a whole number",
}


def error_response(
    code: str, text: str, details: dict[str, Any] | None = None, *, status: int | None = None
) -> JsonResponse:
    """Return an error in the contract's shape."""
    response = JsonResponse(
        redaction.shown({"error": {"code": code, "message": text, "details": details or {}}}),
        status=status or status_of(_Coded(code)),
        json_dumps_params={"default": str},
    )
    response["Cache-Control"] = "no-store"
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = "Bearer"
    return response


class _Coded(ClmError):
    """An error that is only its code."""

    def __init__(self, code: str) -> None:
        super().__init__("…")
        self.code = code


def of_clm(request: HttpRequest, error: ClmError) -> HttpResponse:
    """Answer an error that CLM raised."""
    response = error_response(error.code, error.text, error.details, status=status_of(error))
    if isinstance(error, TooMany):
        response["Retry-After"] = str(error.retry_after)
    return response


def of_ninja(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Answer what django-ninja raises of its own: a body that is no JSON, an operation without access."""
    cause = error.__cause__
    if isinstance(cause, RequestDataTooBig):
        return of_suspicion(request, cause)
    if isinstance(cause, ClmError):
        return of_clm(request, cause)
    if isinstance(cause, JSONDecodeError):
        where = f"{cause.msg} at line {cause.lineno}, column {cause.colno}"
        return of_clm(request, BadRequest(f"The body is not JSON: {where}."))
    if isinstance(cause, (ValueError, RecursionError)):
        return of_clm(request, BadRequest("The body is not JSON."))
    code, text = PLAIN.get(error.status_code, ("internal_error", "Something went wrong."))
    return error_response(code, text, status=error.status_code)


def of_validation(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Answer values that do not fit, field by field."""
    fields = {_field(one["loc"]): _complaint(one) for one in error.errors}
    text = "; ".join(f"{field}: {complaint}" for field, complaint in fields.items())
    return of_clm(request, Invalid(f"{text}.", fields=fields))


def _field(location: tuple[Any, ...]) -> str:
    """Return the field's name as the client knows it: without where ninja found it and what our code calls it."""
    parts = [str(part) for part in location]
    if parts[0] == "body":
        parts = parts[2:] or ["body"]
    elif len(parts) > 1:
        parts = parts[1:]
    return ".".join(parts)


def _complaint(one: dict[str, Any]) -> str:
    if one["type"] in WORDS:
        return WORDS[one["type"]]
    return str(one["msg"]).replace("Input should", "must", 1).replace("Value error, ", "").rstrip(".")


def of_missing(request: HttpRequest, error: Http404) -> HttpResponse:
    """Answer an address that leads nowhere."""
    return of_clm(request, NotFound(PLAIN[404][1]))


def of_suspicion(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer a request that cannot be read, or that is larger than any that could be meant."""
    if isinstance(error, RequestDataTooBig):
        megabytes = (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0) / 1024 / 1024
        return error_response("bad_request", f"The body is larger than {megabytes:g} MB.", status=413)
    return of_clm(request, BadRequest("The request cannot be read: send a JSON body."))


def of_accident(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer what nobody foresaw: the log has it all, the client a reference to it and nothing more."""
    reference = secrets.token_hex(4)
    log.error("%s %s failed (%s)", request.method, request.path, reference, exc_info=error)
    return error_response("internal_error", "Something went wrong in CLM.", {"reference": reference})


def of_storage(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer a database that cannot be written or does not answer; nothing of the request was kept."""
    response = of_clm(request, storage.unavailable(error))
    response["Retry-After"] = "30"
    return response


#: Which handler answers what is raised inside the API; the closest class counts.
HANDLERS: dict[type[Exception], Any] = {
    Exception: of_accident,
    Http404: of_missing,
    ClmError: of_clm,
    OperationalError: of_storage,
    InterfaceError: of_storage,
    HttpError: of_ninja,
    ValidationError: of_validation,
    SuspiciousOperation: of_suspicion,
    RawPostDataException: of_suspicion,
    UnreadablePostError: of_suspicion,
}


def shape_errors(api: NinjaAPI) -> None:
    """Give every error that is raised inside the API its answer."""
    for kind, handler in HANDLERS.items():
        api.add_exception_handler(kind, handler)


def in_contract(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Return the answer, or where Django itself answers an API path with an error page, that error in the shape."""
    if response.status_code < 400 or not (request.path.startswith(PATHS) or request.path in PROBES):
        return response
    if response.streaming or response.get("Content-Type", "").startswith("application/json"):
        return response
    code, text = PLAIN.get(response.status_code) or ("internal_error", "Something went wrong in CLM.")
    shaped = error_response(code, text, status=response.status_code)
    if allowed := response.get("Allow"):
        shaped["Allow"] = allowed
        shaped.content = error_response(code, f"{text} It takes {allowed}.", status=405).content
    return shaped


@sync_and_async_middleware
def ApiErrors(
    get_response: Callable[[HttpRequest], Any],
) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Shape the errors of Django itself under the API's paths: no such path, wrong method, refused host, a crash.

    It stands first, so that what the other middleware answers passes through it too.
    """
    if iscoroutinefunction(get_response):

        async def shaping(request: HttpRequest) -> HttpResponseBase:
            return in_contract(request, await get_response(request))

        return shaping

    def shaping_at_once(request: HttpRequest) -> HttpResponseBase:
        return in_contract(request, get_response(request))

    return shaping_at_once
