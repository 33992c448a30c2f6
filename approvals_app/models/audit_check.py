from __future__ import annotations

from django.db import models
from django.utils import timezone

from sessions_app.append_only import AppendOnlyModel, AppendOnlyQuerySet


class AuditCheck(AppendOnlyModel):
    """One check of the whole history, as `manage.py verify_audit` wrote it down: when, how much, what it found."""

    at = models.DateTimeField(default=timezone.now)
    sessions = models.PositiveIntegerField()
    faults = models.PositiveIntegerField(help_text="Rows that are not as they were written.")

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.sessions} sessions, {self.faults} faults"
