"""The REST contract under /api/v1, put together: its routers, one reader of bodies, one shape of errors."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import resolve, reverse
from django.utils.datastructures import MultiValueDict
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI, Swagger
from ninja.openapi.schema import REF_TEMPLATE, OpenAPISchema
from ninja.parser import Parser
from ninja.renderers import JSONRenderer

from approvals_app.api import router as gates
from approvals_app.ask_api import router as questions
from approvals_app.bulk_api import router as bulk
from approvals_app.together_api import router as together
from clm_site.http import shape_errors
from sessions_app import redaction
from sessions_app.api import router as sessions
from sessions_app.exceptions import BadRequest
from sessions_app.schemas import ErrorAnswer
from sessions_app.triggers_api import router as triggers

#: Deeper than anything that is meant, and far from where Python's own limits begin.
MAX_DEPTH = 60
#: NUL, which PostgreSQL refuses, and halves of surrogate pairs, which have no UTF-8.
UNHOLDABLE = re.compile("[\x00\ud800-\udfff]")


class StrictParser(Parser):
    """Reads a body as JSON and nothing else, and refuses what a database could not hold."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Return the body's value. A body that came without a length is measured here."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if limit is not None and len(request.body) > limit:
            raise RequestDataTooBig
        value: dict[str, Any] = json.loads(request.body, parse_constant=_refuse_constant)
        _refuse_unholdable(value)
        return value

    def parse_querydict(
        self, data: MultiValueDict[str, Any], list_fields: list[str], request: HttpRequest
    ) -> dict[str, Any]:
        """Return the query's values."""
        values: dict[str, Any] = super().parse_querydict(data, list_fields, request)
        _refuse_unholdable(values)
        return values


def _refuse_constant(constant: str) -> NoReturn:
    raise BadRequest(f"The body is not JSON: {constant} is no JSON number.")


def _refuse_unholdable(value: Any) -> None:
    """Refuse NUL and halves of characters, infinite numbers and endless nesting, wherever they stand."""
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(one, dict):
            waiting.extend((part, depth + 1) for pair in one.items() for part in pair)
        elif isinstance(one, list):
            waiting.extend((part, depth + 1) for part in one)
        elif isinstance(one, str):
            if UNHOLDABLE.search(one):
                raise BadRequest("Text must not have NUL characters or halves of surrogate pairs in it.")
        elif isinstance(one, float) and not math.isfinite(one):
            raise BadRequest("A number is too large.")


class RedactingRenderer(JSONRenderer):
    """Writes every answer without the secrets in it: nothing that the API sends goes another way."""

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> Any:
        """Return the body."""
        return super().render(request, redaction.shown(data), response_status=response_status)


class DocsPage(Swagger):
    """The pages at /api/v1/docs, from ninja's own static files: nothing inline, nothing from elsewhere.

    With the CSRF token in them, so that a signed-in person can try an operation out.
    """

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        """Return the page."""
        address = {**self.settings, "url": self.get_openapi_url(api, kwargs)}
        context = {"swagger_settings": json.dumps(address), "api": api, "add_csrf": True}
        return render(request, self.template, context)


class Contract(NinjaAPI):
    """The API, whose OpenAPI document also says what every error looks like."""

    def get_openapi_schema(self, **kwargs: Any) -> OpenAPISchema:
        """Return the OpenAPI document."""
        document = super().get_openapi_schema(**kwargs)
        shape = ErrorAnswer.model_json_schema(ref_template=REF_TEMPLATE)
        document["components"]["schemas"] |= {**shape.pop("$defs"), "ErrorAnswer": shape}
        error = {"schema": {"$ref": REF_TEMPLATE.format(model="ErrorAnswer")}}
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"]["default"] = {
                    "description": "An error",
                    "content": {"application/json": error},
                }
        return document


api = Contract(
    title="CLM",
    version="1",
    description="Sessions, gates and decisions. Every path and field is described in docs/api.md.",
    urls_namespace="api-v1",
    docs=DocsPage(),
    parser=StrictParser(),
    renderer=RedactingRenderer(),
)
shape_errors(api)
api.add_router("", sessions)
# Before the gates: `bulk-decisions` is no id of one.
api.add_router("", bulk)
api.add_router("", gates)
api.add_router("", questions)
api.add_router("", together)
api.add_router("", triggers)


@csrf_exempt
def trigger_at_root(request: HttpRequest, name: str) -> HttpResponseBase:
    """Answer `/triggers/<name>` as the contract's path does, for senders that know no prefix."""
    request.resolver_match = match = resolve(reverse("api-v1:start_by_trigger", args=[name]))
    answer: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
    return answer
