from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from sessions_app.models import Session, SessionEvent, log_transaction


class RepairCardQuerySet(models.QuerySet["RepairCard"]):
    """Questions about repair cards."""

    def open(self) -> RepairCardQuerySet:
        """Keep the cards that still ask for a person."""
        return self.filter(closed_at=None)


class RepairCard(models.Model):
    """A disagreement without one right answer: it asks a person to stop the session, or to decide.

    The sweep opens it and closes it when what it says is no longer so; the end of its session closes it at once.
    """

    session = models.ForeignKey(Session, on_delete=models.PROTECT, related_name="repair_cards")
    kind = models.CharField(max_length=40, help_text="Which disagreement (consistency.py).")
    what = models.CharField(max_length=200, help_text="The disagreement, in words.")
    remedy = models.CharField(max_length=300, help_text="What a person can do about it.")
    opened_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)
    ending = models.CharField(max_length=200, blank=True, help_text="Why it was closed.")

    objects = RepairCardQuerySet.as_manager()

    class Meta:
        ordering = ["opened_at", "pk"]
        indexes = [
            models.Index(fields=["opened_at", "id"], name="repair_open", condition=Q(closed_at__isnull=True)),
            models.Index(fields=["-closed_at"], name="repair_closed"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["session", "kind"], condition=Q(closed_at__isnull=True), name="one_open_card_per_disagreement"
            )
        ]

    def __str__(self) -> str:
        return f"{self.session_id}: {self.what}"

    # Verbs: each returns whether this call did it. ---------------------------------------------------------------

    @classmethod
    def ask(cls, session_id: str, *, kind: str, what: str, remedy: str) -> bool:
        """Open a card, with its event, unless one asks this already."""
        with log_transaction():
            if cls.objects.open().filter(session_id=session_id, kind=kind).exists():
                return False
            card = cls.objects.create(session_id=session_id, kind=kind, what=what, remedy=remedy)
            card._log("session.repair_asked")
        return True

    def close(self, *, ending: str) -> bool:
        """End it, with its event."""
        with log_transaction():
            ended: dict[str, Any] = {"closed_at": timezone.now(), "ending": ending[:200]}
            if not RepairCard.objects.open().filter(pk=self.pk).update(**ended):
                return False
            self._log("session.repair_closed", cause=ending)
        return True

    def _log(self, kind: str, **more: Any) -> None:
        SessionEvent.append(self.session_id, kind, {"card_id": self.pk, "what": self.what, **more})
