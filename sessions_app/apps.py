from __future__ import annotations

from django.apps import AppConfig


class SessionsAppConfig(AppConfig):
    """What happens: sessions, runs, events, the agents and the live feed."""

    name = "sessions_app"
    verbose_name = "Sessions"
