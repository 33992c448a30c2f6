"""The two roles: operators submit and stop sessions, approvers decide. Made by `migrate`, kept by it."""

from __future__ import annotations

from typing import Any

#: Group -> its permissions. Whoever is in neither sees nothing; a superuser may do everything.
ROLES = {
    "operator": (
        "sessions_app.view_session",
        "sessions_app.add_session",
        "sessions_app.stop_session",
        "approvals_app.view_gate",
    ),
    "approver": ("sessions_app.view_session", "approvals_app.view_gate", "approvals_app.decide_gate"),
}


def ensure_roles(**kwargs: Any) -> None:
    """Create the groups and give them at least their permissions; what an administrator added stays."""
    from django.contrib.auth.models import Group, Permission

    for name, wanted in ROLES.items():
        group, _ = Group.objects.get_or_create(name=name)
        for permission in wanted:
            app, codename = permission.split(".")
            group.permissions.add(*Permission.objects.filter(content_type__app_label=app, codename=codename))
