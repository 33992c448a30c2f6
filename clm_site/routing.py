"""Every socket."""

from __future__ import annotations

from approvals_app.routing import websocket_urlpatterns as approvals
from sessions_app.routing import websocket_urlpatterns as sessions

websocket_urlpatterns = [*approvals, *sessions]
