"""What every page shows around its own content."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from approvals_app.models import Comparison, Gate, Preferences
from sessions_app.agents import config, models


def desk(request: HttpRequest) -> dict[str, Any]:
    """Return the brand, the number of gates that wait for this viewer, and which model is in use.

    The number is the list's own query (law L5), asked only by a page that shows it, and never for a stranger.
    """
    return {
        "brand": config.current().ui,
        "waiting": SimpleLazyObject(lambda: _waiting(request)),
        "preferences": SimpleLazyObject(lambda: Preferences.of(request.user)),
        "comparison": SimpleLazyObject(Comparison.latest),
        "offline": SimpleLazyObject(models.is_offline),
        "chat_models": SimpleLazyObject(lambda: sorted({row["model"] for row in models.describe()})),
    }


def _waiting(request: HttpRequest) -> int:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return 0
    return Gate.objects.visible_to(user).pending().count()
