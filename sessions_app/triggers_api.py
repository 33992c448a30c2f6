"""The REST contract, the part that other systems' webhooks call."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Body, Header, Router
from ninja.responses import Status

from sessions_app import triggers
from sessions_app.exceptions import Unauthorized
from sessions_app.identity import Access, Identity, of
from sessions_app.models import ApiToken
from sessions_app.schemas import Answer, Submitted


class Ignored(Answer):
    """Why a trigger started nothing."""

    session_id: None
    ignored: str


class TriggerAccess(Access):
    """A bearer token or a browser's login, as everywhere; else the body's signature with the trigger's own secret."""

    def __call__(self, request: HttpRequest) -> Identity:
        """Return who asks, or raise Unauthorized or Forbidden; a signature is nobody in particular."""
        name = request.resolver_match.kwargs["name"] if request.resolver_match else ""
        header = triggers.header_of(name)
        if "Authorization" in request.headers or header not in request.headers:
            return super().__call__(request)
        if not triggers.is_signed(name, request.body, request.headers[header]):
            raise Unauthorized(f"{header} is not the signature of this body with the trigger's secret.")
        return Identity()


TRIGGER = TriggerAccess(ApiToken.Scope.WRITE, "sessions_app.add_session")
router = Router(auth=TRIGGER)


@router.post("/triggers/{name}", response={200: Ignored, 202: Submitted}, tags=["triggers"])
def start_by_trigger(
    request: HttpRequest,
    name: str,
    payload: Annotated[Any, Body()],
    idempotency_key: Annotated[str, Header("", alias="Idempotency-Key", max_length=triggers.MAX_KEY)],
) -> Any:
    """Start the session that a configured trigger makes of this body; any JSON will do."""
    if why := triggers.why_ignored(triggers.find(name), payload):
        return Status(200, {"session_id": None, "ignored": why})
    session = triggers.start(name, payload, requester=of(request).user, idempotency_key=idempotency_key)
    return Status(202, {"session_id": session.pk})
