from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import TextChoices
from django.utils import timezone

from sessions_app import feed

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from approvals_app.models.gate import Gate

#: How long somebody counts as there after their page's last word.
GONE_AFTER = timedelta(seconds=30)


class Doing(TextChoices):
    """What somebody does at a gate's card."""

    READING = "reading", "is reading"
    REJECTING = "rejecting", "is writing a rejection"
    ANSWERING = "answering", "is writing an answer"
    COMMENTING = "commenting", "is writing a comment"


class PresenceQuerySet(models.QuerySet["Presence"]):
    """Questions about who is where."""

    def here(self) -> PresenceQuerySet:
        """Keep those whose page has said something within the last half minute."""
        return self.filter(seen_at__gt=timezone.now() - GONE_AFTER)

    def gone(self) -> PresenceQuerySet:
        """Keep the others."""
        return self.filter(seen_at__lte=timezone.now() - GONE_AFTER)


class Presence(models.Model):
    """Somebody has a gate's card open. Nothing is decided by it: it ages out, and no event tells of it."""

    gate = models.ForeignKey("approvals_app.Gate", on_delete=models.CASCADE, related_name="presences")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    doing = models.CharField(max_length=12, choices=Doing.choices, default=Doing.READING)
    seen_at = models.DateTimeField(default=timezone.now)

    objects = PresenceQuerySet.as_manager()

    class Meta:
        ordering = ["person__username"]
        constraints = [models.UniqueConstraint(fields=["gate", "person"], name="present_once_a_gate")]
        indexes = [models.Index(fields=["seen_at"], name="presence_seen")]

    def __str__(self) -> str:
        return f"{self.person} {self.get_doing_display()}"

    @classmethod
    def note(cls, gate: Gate, person: User, doing: Doing | None = None) -> None:
        """Write that this person's card is open, and what they do there; without `doing`, that stays as it was.

        Open pages are rung only when it is news: not at every word of the page.
        """
        known = cls.objects.filter(gate=gate, person=person)
        before = known.here().values_list("doing", flat=True).first()
        changes = {"seen_at": timezone.now(), **({"doing": doing} if doing else {})}
        if not known.update(**changes):
            cls.objects.get_or_create(gate=gate, person=person, defaults=changes)
        if before is None or (doing and before != doing):
            feed.ring_unlogged(gate.session_id, "presence")

    @classmethod
    def leave(cls, gate: Gate, person: User) -> None:
        """Write that this person's card is closed, or hidden behind another page."""
        if cls.objects.filter(gate=gate, person=person).delete()[0]:
            feed.ring_unlogged(gate.session_id, "presence")
