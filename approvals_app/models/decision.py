from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone

from approvals_app.states import Channel, DecisionType, Next
from sessions_app import chain
from sessions_app.append_only import AppendOnlyModel, AppendOnlyQuerySet


class Decision(AppendOnlyModel):
    """One decision on one gate, written once: who, what, why, through which surface, and of what they saw."""

    gate = models.ForeignKey("approvals_app.Gate", on_delete=models.PROTECT, related_name="decisions")
    type = models.CharField(max_length=10, choices=DecisionType.choices)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="gate_decisions"
    )
    channel = models.CharField(max_length=10, choices=Channel.choices)
    digest = models.CharField(max_length=64, help_text="Of what was shown.")
    message = models.TextField(blank=True, help_text="The reason or the answer.")
    edited_args = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    verdicts = models.JSONField(
        default=list,
        blank=True,
        encoder=DjangoJSONEncoder,
        help_text="Of several calls, each one's: [{tool_call_id, tool, type, message, edited_args}]",
    )
    next = models.CharField(
        max_length=10, choices=Next.choices, default=Next.CONTINUE, help_text="What follows a rejection."
    )
    approver_note = models.CharField(
        max_length=200, blank=True, help_text="Whom an API client names; the actor is the token's person."
    )
    created_at = models.DateTimeField(default=timezone.now)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.type} by {self.actor}"

    def type_on(self, position: int) -> str:
        """Return what was decided on one of the gate's calls."""
        return str(self.verdicts[position]["type"] if position < len(self.verdicts) else self.type)

    def sealed(self) -> list[Any]:
        """Return what the seal covers: the decision, by whom, through what, and of what they saw.

        What only some decisions have comes last and where they have it, so that the seals of earlier ones hold.
        """
        more = [str(self.next), chain.as_stored(self.verdicts)] if self.verdicts or self.next != Next.CONTINUE else []
        return [
            self.gate_id,
            self.digest,
            str(self.type),
            self.actor_id,
            str(self.channel),
            self.message,
            chain.as_stored(self.edited_args),
            self.approver_note,
            chain.instant(self.created_at),
            *more,
        ]

    def seal(self) -> str:
        """Return the hash that `gate_decided` carries."""
        return chain.digest(self.sealed())
