"""Callers of the API: this machine itself, tokens, and a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from sessions_app.models import ApiToken

ROOT = "/api/v1"


class Caller:
    """One caller: a client, and the headers that it always sends."""

    def __init__(self, client: Client, **headers: str) -> None:
        self.client = client
        self.headers = headers

    def _send(self, method: str, path: str, **kwargs: Any) -> Any:
        headers = {**self.headers, **kwargs.pop("headers", {})}
        address = path if path.startswith(("/api", "/readyz", "/healthz")) else ROOT + path
        return getattr(self.client, method)(address, headers=headers, **kwargs)

    def get(self, path: str, **kwargs: Any) -> Any:
        return self._send("get", path, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> Any:
        return self._send("delete", path, **kwargs)

    def post(self, path: str, body: Any = None, *, raw: bytes | str | None = None, **kwargs: Any) -> Any:
        data = raw if raw is not None else json.dumps(body) if body is not None else ""
        return self._send("post", path, data=data, content_type="application/json", **kwargs)


@pytest.fixture(autouse=True)
def _embedded_profile(settings: Any) -> None:
    """Test as on a fresh machine, whichever database the suite runs on."""
    settings.CLM_OPEN_LOOPBACK = True


@pytest.fixture
def local(db: None) -> Caller:
    """This machine itself, without a token."""
    return Caller(Client(raise_request_exception=False), Host="127.0.0.1:8000")


@pytest.fixture
def remote(db: None) -> Callable[..., Caller]:
    """Somebody with a token, from anywhere."""

    def make(user: User, *scopes: str, expires_at: datetime | None = None) -> Caller:
        token = ApiToken.issue(user, scopes=list(scopes) or None, expires_at=expires_at)
        client = Client(raise_request_exception=False, REMOTE_ADDR="203.0.113.9")
        return Caller(client, Authorization=f"Bearer {token}", Host="localhost")

    return make


@pytest.fixture
def as_alice(alice: User, remote: Callable[..., Caller]) -> Caller:
    """The operator's script."""
    return remote(alice)


@pytest.fixture
def as_bob(bob: User, remote: Callable[..., Caller]) -> Caller:
    """The approver's script."""
    return remote(bob)


@pytest.fixture
def as_charlie(charlie: User, remote: Callable[..., Caller]) -> Caller:
    """The script of somebody without a role."""
    return remote(charlie)


def error_of(response: Any, status: int, code: str) -> dict[str, Any]:
    """Hold a response to the contract's error shape and return its error."""
    assert response.status_code == status, response.content
    assert response["Content-Type"].startswith("application/json")
    body = json.loads(response.content)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert isinstance(body["error"]["details"], dict)
    error: dict[str, Any] = body["error"]
    return error
