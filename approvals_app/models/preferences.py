from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


class Preferences(models.Model):
    """How one person wants the desk to behave; without a row it behaves as the defaults say."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="desk_preferences")
    keys = models.BooleanField(
        "single keys", default=True, help_text="Letters such as J, K and A do something on the desk (WCAG 2.1.4)."
    )
    go_on = models.BooleanField(
        "go on to the next", default=True, help_text="A decision made from the queue opens the next gate."
    )
    notices = models.BooleanField(
        "desktop notices", default=False, help_text="A new gate says so on the desktop while the desk is in the back."
    )

    class Meta:
        verbose_name_plural = "preferences"

    def __str__(self) -> str:
        return f"preferences of {self.user}"

    @property
    def switched(self) -> str:
        """The names of what is on, with spaces: what the page's scripts are told."""
        return " ".join(name for name in ("keys", "go_on", "notices") if getattr(self, name))

    @classmethod
    def of(cls, user: User | AnonymousUser) -> Preferences:
        """Return what this person has chosen, or the defaults, unsaved."""
        if not user.is_authenticated:
            return cls()
        return cls.objects.filter(user=user).first() or cls(user=user)
