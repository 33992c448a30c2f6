"""Who is on a gate. A claim tells the others; it never keeps anybody from deciding, nor the gate from expiring."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from approvals_app.exceptions import GateClaimed, NotYours
from approvals_app.states import GateStatus
from sessions_app.exceptions import Conflict
from sessions_app.models import SessionEvent, log_transaction

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

#: How long a claim holds that no open page keeps.
CLAIM_LASTS = timedelta(minutes=5)
#: How long one holds from one word of its open page to the next.
PAGE_KEEPS = timedelta(seconds=30)


class Claimable(models.Model):
    """The part of a gate that is about its claim; both columns are read together, so an old claim frees itself."""

    claimer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="claims"
    )
    claimed_until = models.DateTimeField(null=True, blank=True)

    if TYPE_CHECKING:
        objects: Any
        session_id: str

        @property
        def pending(self) -> bool: ...
        def refusal_for(self, user: User | AnonymousUser) -> str: ...
        def late(self) -> Conflict: ...

    class Meta:
        abstract = True

    @property
    def held_by(self) -> User | None:
        """Who is on it now."""
        held = self.pending and self.claimed_until is not None and self.claimed_until > timezone.now()
        return self.claimer if held else None

    def claim(self, actor: User) -> None:
        """Tell the others that this person is on it, for five minutes or for as long as their page is open.

        Raises NotYours for whoever may not decide it, GateClaimed where somebody else is on it, and what `late` says
        of a gate that has ended. Claiming what one has already claimed only keeps it.
        """
        self.refresh_from_db()
        if refusal := self.refusal_for(actor):
            raise NotYours(refusal)
        if not self.pending:
            raise self.late()
        mine = self.held_by == actor
        until = timezone.now() + CLAIM_LASTS
        free = Q(claimer=None) | Q(claimer=actor) | Q(claimed_until__lte=timezone.now())
        with log_transaction():
            took = (
                type(self)
                .objects.filter(free)
                .swap_among(self.pk, GateStatus.PENDING, claimer=actor, claimed_until=until)
            )
            if took and not mine:
                SessionEvent.append(
                    self.session_id, "gate_claimed", {"gate_id": self.pk, "actor": actor.get_username()}, actor=actor
                )
        self.refresh_from_db()
        if not took:
            raise self._held_elsewhere() if self.pending else self.late()

    def release(self, actor: User) -> None:
        """Give one's own claim back; raises Conflict where there is none."""
        if not self._free(Q(claimer=actor), whose=actor, cause="given back"):
            raise Conflict("You are not on this gate, so there is nothing to give back.")

    def keep_claim(self, actor: User) -> bool:
        """Keep one's claim a little longer, because the page that shows it is open; False where it is gone."""
        mine = type(self).objects.filter(claimer=actor, claimed_until__gt=timezone.now())
        return bool(mine.swap_among(self.pk, GateStatus.PENDING, claimed_until=timezone.now() + PAGE_KEEPS))

    def end_claim(self) -> bool:
        """Free the gate of a claim whose time is over, with the event that tells open pages."""
        over = Q(claimer__isnull=False, claimed_until__lte=timezone.now())
        return self.claimer is not None and self._free(over, whose=self.claimer, cause="its time ran out")

    def _free(self, which: Q, *, whose: User, cause: str) -> bool:
        with log_transaction():
            freed = (
                type(self)
                .objects.filter(which)
                .swap_among(self.pk, GateStatus.PENDING, claimer=None, claimed_until=None)
            )
            if freed:
                payload = {"gate_id": self.pk, "actor": whose.get_username(), "cause": cause}
                SessionEvent.append(self.session_id, "gate_released", payload, actor=whose)
        self.refresh_from_db()
        return bool(freed)

    def _held_elsewhere(self) -> GateClaimed:
        who = self.claimer.get_username() if self.claimer else "somebody"
        return GateClaimed(f"{who} is on it already. You can decide it all the same.", gate_id=self.pk, claimed_by=who)
