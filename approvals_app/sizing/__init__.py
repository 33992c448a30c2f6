"""Fill an installation with lawful rows, many of them, to see how it does at a size (docs/sizing.md)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

from approvals_app.models import InsightDay
from approvals_app.sizing.life import Cast, Life
from approvals_app.sizing.plots import ENDED, HALF_DECIDED, UNKNOWN, WAITING, Plot
from approvals_app.sizing.writing import ORDER, Keys, write
from sessions_app.models import Session, SessionNumber, log_transaction

#: Over how long ago the sessions that have ended were submitted, and those that wait.
PAST = timedelta(days=180)
LATELY = timedelta(days=3)
#: Sessions that are written in one transaction; other writers wait for that long.
BATCH = 500
#: Of those that wait: how many had a call cut off, and how many had one of two gates decided, at the most.
FEW = 25


@dataclass(kw_only=True)
class Made:
    """What was made: rows by what they are, and sessions by their status."""

    rows: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def sessions(self) -> int:
        """How many sessions."""
        return sum(self.statuses.values())


def fill(
    *,
    sessions: int,
    pending: int,
    seed: int,
    cast: Cast,
    told: Callable[[Made], None] = lambda made: None,
    now: datetime | None = None,
) -> Made:
    """Write that many sessions, `pending` of them waiting at a gate, and return what was made.

    Each has its runs, turns, calls, gates, decisions and events, as the verbs would have written them: chained, sealed
    and replayable. They are written in bulk, so nobody is rung and no engine wakes. `told` hears after every batch.
    The same seed makes the same kinds of lives in the same order.
    """
    rng, now, made = random.Random(seed), now or timezone.now(), Made()  # noqa: S311 - nothing secret
    submitted = sorted(
        [
            *((now - LATELY - rng.random() * (PAST - LATELY), plot) for plot in _ended(rng, sessions - pending)),
            *((now - rng.random() * LATELY, plot) for plot in _waiting(pending)),
        ],
        key=lambda one: one[0],
    )
    for first in range(0, len(submitted), BATCH):
        with log_transaction():
            _write(submitted[first : first + BATCH], rng, cast, now, made)
        told(made)
    InsightDay.forget()
    _settle()
    return made


def _settle() -> None:
    """Do what PostgreSQL's autovacuum would get round to: how the rows are spread, which pages everybody may see."""
    if connection.vendor == "postgresql":
        verb = "ANALYZE" if connection.in_atomic_block else "VACUUM (ANALYZE)"
        with connection.cursor() as cursor:
            cursor.execute(f"{verb} {', '.join(model._meta.db_table for model in ORDER)}")


def _ended(rng: random.Random, number: int) -> list[Plot]:
    plots, weights = zip(*ENDED.items(), strict=True)
    # One of each first, so that a small installation has every outcome too.
    return [*plots[:number], *rng.choices(plots, weights, k=max(0, number - len(plots)))]


def _waiting(number: int) -> list[Plot]:
    few = min(FEW, number // 4)
    return [*[HALF_DECIDED] * few, *[UNKNOWN] * few, *[WAITING] * (number - 2 * few)]


def _write(batch: list[tuple[datetime, Plot]], rng: random.Random, cast: Cast, now: datetime, made: Made) -> None:
    days = Counter(at.date() for at, _ in batch)
    ids = {day: iter(SessionNumber.take(day, number)) for day, number in days.items()}
    keys, lives = Keys(), list[Life]()
    for at, plot in batch:
        life = Life(keys=keys, rng=rng, cast=cast, session_id=next(ids[at.date()]), at=at, now=now)
        plot(life, lives[-1] if lives else None)
        life.close()
        lives.append(life)
    for model, rows in write([row for life in lives for row in life.rows]).items():
        made.rows[str(model._meta.verbose_name_plural)] += rows
    made.statuses.update(life.session.status for life in lives)


def is_used() -> bool:
    """Whether there are sessions already."""
    return Session.objects.exists()
