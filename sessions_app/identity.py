"""Who asks: a bearer token's person, a signed-in browser, or this machine itself in the embedded profile.

One order and no fallback: a bearer token that is sent is the one that counts, good or bad; then the browser's
login, which must prove itself against cross-site requests; then the open loopback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, cast

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from sessions_app.exceptions import Forbidden, Unauthorized
from sessions_app.models import ApiToken

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Whoever adds one of these stands between us and the person, so the peer's address says nothing of them.
FORWARDING = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "cf-connecting-ip", "true-client-ip"})


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks, and through what; no user means this machine itself, in the embedded profile."""

    user: User | None = None
    token: ApiToken | None = None

    @property
    def person(self) -> User:
        """The person, for an operation that always needs one."""
        if self.user is None:
            raise Unauthorized
        return self.user


def of(request: HttpRequest) -> Identity:
    """Return who sent a request that `Access` has let in."""
    return cast(Identity, request.auth)  # type: ignore[attr-defined]


class Access(AuthBase):
    """What an operation asks of whoever calls it: a token's scope, the person's own permission, or neither here.

    A scope narrows what a token may do and never widens what its person may do, so both are asked.
    """

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, scope: str, permission: str = "", *, open_on_loopback: bool = False) -> None:
        super().__init__()
        self.scope = scope
        self.permission = permission
        self.open_on_loopback = open_on_loopback

    def __call__(self, request: HttpRequest) -> Identity:
        """Return who asks, or raise Unauthorized or Forbidden."""
        identity = self._of_token(request.headers)
        if identity is None and request.user.is_authenticated:
            identity = Identity(user=request.user)
            if request.method not in SAFE_METHODS and check_csrf(request) is not None:
                raise Forbidden("Send the page's CSRF token as X-CSRFToken, or use a bearer token instead.")
        return self._admit(identity, request.headers, request.META.get("REMOTE_ADDR", ""))

    def admit_socket(self, scope: Mapping[str, Any]) -> Identity:
        """Return who opens a socket, or raise; `scope` is ASGI's, with the session's user in it if there is one."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        identity = self._of_token(headers)
        user: User | AnonymousUser | None = scope.get("user")
        if identity is None and user is not None and user.is_authenticated:
            identity = Identity(user=user)
            if refusal := _cross_site(headers):
                raise Forbidden(refusal)
        return self._admit(identity, headers, (scope.get("client") or ("",))[0])

    def _of_token(self, headers: Mapping[str, str]) -> Identity | None:
        sent = _get(headers, "Authorization")
        if not sent:
            return None
        scheme, _, text = sent.partition(" ")
        token = ApiToken.find(text.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise Unauthorized("That is no bearer token of ours, or it has expired: manage.py issue_token USERNAME.")
        if self.scope not in token.scopes:
            raise Forbidden(f"This token lacks the scope {self.scope}.", scope=self.scope, has=token.scopes)
        return Identity(user=token.user, token=token)

    def _admit(self, identity: Identity | None, headers: Mapping[str, str], peer: str) -> Identity:
        if identity is None:
            if not self.open_on_loopback:
                raise Unauthorized
            if refusal := why_not_open(headers, peer=peer):
                raise Unauthorized(f"{Unauthorized().text} {refusal}")
            return Identity()
        if self.permission and not identity.person.has_perm(self.permission):
            raise Forbidden(
                f"{identity.person.get_username()} may not do this; an administrator can change that.",
                permission=self.permission,
            )
        return identity


class StreamAccess(Access):
    """The same for a stream, asked in a shared thread: a stream lives long and must keep no connection open."""

    async def __call__(self, request: HttpRequest) -> Identity:  # type: ignore[override]
        """Return who asks, or raise Unauthorized or Forbidden."""
        ask = database_sync_to_async(super().__call__, thread_sensitive=False)
        return cast(Identity, await ask(request))


def why_not_open(headers: Mapping[str, str], *, peer: str) -> str:
    """Return why the embedded profile does not let this request in without a token, or nothing where it does.

    The peer's address alone proves nothing: a proxy on this machine, or a page of another site in a browser on
    it, comes from loopback too.
    """
    if not settings.CLM_OPEN_LOOPBACK:
        return "Only the embedded profile on loopback is open without."
    if not _is_loopback(peer):
        return "Only requests from this machine itself may come without."
    host, _ = split_domain_port(_get(headers, "Host"))
    if not validate_host(host, ["localhost", "[::1]"]) and not _is_loopback(host):
        return "Without, the address must be this machine's own name: 127.0.0.1 or localhost."
    names = {name.lower() for name in headers}
    if names & FORWARDING or any(name.startswith("x-forwarded") for name in names):
        return "A proxy forwarded this request, so it does not come from this machine itself."
    return _cross_site(headers)


def _cross_site(headers: Mapping[str, str]) -> str:
    """Return that another site's page sent this, where the browser says so.

    Browsers send Origin with whatever can change something and with every socket, `Sec-Fetch-Site` also with reads.
    Schemes are not compared: behind a proxy that speaks TLS ours is another than the browser's.
    """
    origin = _get(headers, "Origin")
    if origin and origin.lower().partition("://")[2] != _get(headers, "Host").lower():
        return f"A page of another site ({origin[:100]}) sent this."
    if _get(headers, "Sec-Fetch-Site").lower() not in {"", "same-origin", "none"}:
        return "A page of another site sent this."
    return ""


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


def _get(headers: Mapping[str, str], name: str) -> str:
    """Return a header of Django's (any case) or of a socket's (lower case)."""
    return headers.get(name) or headers.get(name.lower()) or ""
