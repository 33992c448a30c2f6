"""Every socket: those of the contract, and those of our own pages behind a check of where the page came from."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddleware, get_user
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import CookieMiddleware, SessionMiddleware
from django.urls import re_path

from approvals_app import routing as approvals
from sessions_app import routing as sessions


class People(AuthMiddleware):  # type: ignore[misc]
    """Who opens a socket and what they may do, read together: a thousand come back at once after a restart."""

    async def resolve_scope(self, scope: dict[str, Any]) -> None:
        """Find the person."""
        scope["user"]._wrapped = await database_sync_to_async(_person, thread_sensitive=False)(scope)


def _person(scope: dict[str, Any]) -> Any:
    person = get_user.func(scope)
    # Read here, kept by the person: whoever asks next asks nothing.
    person.get_all_permissions()
    return person


_pages = AllowedHostsOriginValidator(URLRouter([*approvals.page_urlpatterns, *sessions.page_urlpatterns]))

sockets = CookieMiddleware(SessionMiddleware(People(URLRouter([*sessions.api_urlpatterns, re_path("", _pages)]))))
