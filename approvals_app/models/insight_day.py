from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import models
from django.utils import timezone

#: How long after its end a day is counted for good: whatever was under way at midnight has been committed by then.
SETTLED_AFTER = timedelta(hours=1)


class InsightDay(models.Model):
    """What insight.py counted of a day that is over. No part of the record: it can be counted again at any time."""

    day = models.DateField(primary_key=True)
    counts = models.JSONField()

    def __str__(self) -> str:
        return f"{self.day}"

    @classmethod
    def known(cls, days: list[date]) -> dict[date, Any]:
        """Return what was counted of these days."""
        if not days:
            return {}
        return dict(cls.objects.filter(day__gte=days[0], day__lte=days[-1]).values_list("day", "counts"))

    @classmethod
    def keep(cls, counted: dict[date, Any]) -> None:
        """Write down the days among these that are over."""
        over = timezone.now() - SETTLED_AFTER
        rows = [
            InsightDay(day=day, counts=counts)
            for day, counts in counted.items()
            if datetime.combine(day + timedelta(days=1), time.min, tzinfo=UTC) <= over
        ]
        if rows:
            InsightDay.objects.bulk_create(rows, ignore_conflicts=True)

    @classmethod
    def forget(cls) -> None:
        """Have every day counted again."""
        cls.objects.all().delete()
