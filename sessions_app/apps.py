from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SessionsAppConfig(AppConfig):
    """What happens: sessions, runs, events, the agents and the live feed."""

    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Have `migrate` make the checkpointer's tables too, where they are in the same database."""
        from sessions_app.agents import checkpointer

        post_migrate.connect(checkpointer.make_tables, sender=self, dispatch_uid="make_checkpoint_tables")
