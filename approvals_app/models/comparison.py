from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

#: Sweep intervals after which the sweep is late, and after which a disagreement that it should put right lasts.
PATIENCE = 3


class Comparison(models.Model):
    """What the sweep found when it last held all rows against each other: one row, so everybody sees the same.

    `awaiting` and `gates` come from one statement and count sessions both, so they are equal unless something is
    wrong. It is no part of the record: the record has an event for each repair.
    """

    #: There is one.
    ONLY = 1

    checked_at = models.DateTimeField()
    awaiting = models.PositiveIntegerField(help_text="Sessions whose status is awaiting_input.")
    gates = models.PositiveIntegerField(help_text="Sessions that have an undecided gate.")
    disagreements = models.PositiveIntegerField(help_text="How many were found.")
    put_right = models.PositiveIntegerField(help_text="How many of them that sweep put right.")
    cards = models.PositiveIntegerField(help_text="How many wait for a person, each on a repair card.")
    lasting_since = models.DateTimeField(
        null=True, help_text="Since when there is one that the sweep should put right and does not."
    )

    def __str__(self) -> str:
        return f"{self.words} · checked {self.age_words} ago"

    @classmethod
    def latest(cls) -> Comparison | None:
        """Return what was found last, or None before the first sweep."""
        return cls.objects.filter(pk=cls.ONLY).first()

    def keep(self) -> None:
        """Let this be what everybody sees; a disagreement that was there before keeps its instant."""
        before = Comparison.latest()
        if self.left_lying and before and before.lasting_since:
            self.lasting_since = before.lasting_since
        elif self.left_lying:
            self.lasting_since = self.checked_at
        values: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in self._meta.fields if not field.primary_key
        }
        if before is None:
            # The first one ever; two processes that start together make one row.
            Comparison.objects.update_or_create(pk=self.ONLY, defaults=values)
        else:
            Comparison.objects.filter(pk=self.ONLY).update(**values)

    # What it says -----------------------------------------------------------------------------------------------

    @property
    def left_lying(self) -> int:
        """How many were neither put right nor given to a person."""
        return self.disagreements - self.put_right - self.cards

    @property
    def words(self) -> str:
        """The comparison as the strip, `/readyz` and `manage.py recover` say it."""
        parts = (_count(self.gates, "gate"), _count(self.disagreements, "disagreement"))
        return " · ".join((f"{self.awaiting} awaiting", *parts)) + self.aftermath

    @property
    def aftermath(self) -> str:
        """What became of the disagreements, where there are any."""
        said = []
        if self.put_right:
            said.append("put right" if self.put_right == self.disagreements else f"{self.put_right} put right")
        if self.cards:
            said.append(_count(self.cards, "repair card"))
        return f" ({', '.join(said)})" if said else ""

    @property
    def age(self) -> timedelta:
        """How long ago it was made."""
        return max(timezone.now() - self.checked_at, timedelta(0))

    @property
    def age_words(self) -> str:
        """The age as `6 s`, or in minutes from two of them on."""
        seconds = round(self.age.total_seconds())
        return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"

    @property
    def late(self) -> bool:
        """Whether the next one should have been made long ago."""
        return self.age > patience()

    @property
    def lasting(self) -> bool:
        """Whether a disagreement with one right answer stays, so that the sweep does not do its work."""
        return self.lasting_since is not None and self.checked_at - self.lasting_since > patience()


def patience() -> timedelta:
    """Return how long the sweep may be silent, or a disagreement stay, before somebody should know."""
    return timedelta(seconds=PATIENCE * settings.CLM_SWEEP_SECONDS)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
