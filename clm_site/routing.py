"""Every socket: those of the contract, and those of our own pages behind a check of where the page came from."""

from __future__ import annotations

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import re_path

from approvals_app import routing as approvals
from sessions_app import routing as sessions

_pages = AllowedHostsOriginValidator(URLRouter([*approvals.page_urlpatterns, *sessions.page_urlpatterns]))

sockets = AuthMiddlewareStack(URLRouter([*sessions.api_urlpatterns, re_path("", _pages)]))
