"""What a person may do, asked in one query: every page asks, and Django's own backend asks twice."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission
from django.db.models import Q


class OneQueryBackend(ModelBackend):
    """Django's backend, with a person's own permissions and those of their groups read together."""

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """Return `app.codename` of everything the person may do; of nothing, when they are not active."""
        if not user_obj.is_active or user_obj.is_anonymous or obj is not None:
            return set()
        if not hasattr(user_obj, "_perm_cache"):
            rows = Permission.objects.all()
            if not user_obj.is_superuser:
                rows = rows.filter(Q(user=user_obj) | Q(group__user=user_obj)).distinct()
            names = rows.order_by().values_list("content_type__app_label", "codename")
            user_obj._perm_cache = {f"{app}.{codename}" for app, codename in names}
        found: set[str] = user_obj._perm_cache
        return found
