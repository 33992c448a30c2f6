from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ApprovalsAppConfig(AppConfig):
    """What may happen: gates, decisions, the queue."""

    name = "approvals_app"
    verbose_name = "Approvals"

    def ready(self) -> None:
        """Wire the receivers and the roles, once."""
        from approvals_app import receivers, roles

        receivers.connect()
        post_migrate.connect(roles.ensure_roles, sender=self, dispatch_uid="ensure_roles")
