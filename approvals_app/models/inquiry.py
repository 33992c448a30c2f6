from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone

from approvals_app import asking
from approvals_app.exceptions import AnswerUnfit, NotYours
from approvals_app.models.gate import Gate
from approvals_app.models.sealed import SealedModel
from approvals_app.states import Channel, GateStatus, InquiryStatus
from sessions_app.append_only import AppendOnlyQuerySet
from sessions_app.exceptions import Conflict
from sessions_app.models import SessionEvent, log_transaction
from sessions_app.storable import is_storable, storable

if TYPE_CHECKING:
    from django.contrib.auth.models import User

#: Letters of one question, and questions on one gate: each costs a request to a model.
MOST_LETTERS = 1_000
MOST_ON_A_GATE = 20


class InquiryQuerySet(AppendOnlyQuerySet["Inquiry"]):
    """Questions about inquiries."""

    def unanswered(self) -> InquiryQuerySet:
        """Keep those that nobody has answered, or failed to."""
        return self.filter(reply=None)

    def under_way(self) -> InquiryQuerySet:
        """Keep those that somebody may still be answering."""
        return self.unanswered().filter(asked_at__gt=timezone.now() - timedelta(seconds=asking.LIMIT))

    def left_lying(self) -> InquiryQuerySet:
        """Keep those that a crash cut off lately, on gates that still wait."""
        now = timezone.now()
        longest, latest = now - timedelta(seconds=asking.TAKEN_UP_FOR), now - timedelta(seconds=asking.LIMIT)
        return self.unanswered().filter(gate__status=GateStatus.PENDING, asked_at__gt=longest, asked_at__lte=latest)


class Inquiry(SealedModel):
    """What a person asked the agent at a gate without deciding it; written once, as its reply is."""

    gate = models.ForeignKey(Gate, on_delete=models.PROTECT, related_name="inquiries")
    asker = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="gate_inquiries")
    channel = models.CharField(max_length=10, choices=Channel.choices)
    text = models.TextField()
    asked_at = models.DateTimeField(default=timezone.now)

    SEALED = ("id", "gate_id", "asker_id", "channel", "text", "asked_at")

    objects = InquiryQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "inquiries"

    def __str__(self) -> str:
        return f"{self.asker} asked about {self.gate_id}"

    @property
    def answered(self) -> Reply | None:
        """Its reply, if there is one."""
        return getattr(self, "reply", None)

    @property
    def status(self) -> InquiryStatus:
        """Where it stands: a reply says; without one, it is under way for as long as an answer may take."""
        if reply := self.answered:
            return InquiryStatus.FAILED if reply.error else InquiryStatus.ANSWERED
        waits = self.asked_at > timezone.now() - timedelta(seconds=asking.LIMIT)
        return InquiryStatus.WAITING if waits else InquiryStatus.UNANSWERED

    @classmethod
    def ask(cls, gate: Gate, text: str, *, actor: User, channel: Channel) -> Inquiry:
        """Write down the question, and have it answered after the commit; the gate stays as it is.

        Whoever may decide the gate may ask. Raises NotYours, AnswerUnfit, Conflict (one is under way, or it was asked
        enough) or what Gate.late says, and then nothing is written.
        """
        text = text.strip()
        gate.refresh_from_db()
        if refusal := gate.refusal_for(actor):
            raise NotYours(refusal)
        if gate.pending and gate.expired:
            gate.expire()
        if not text:
            raise AnswerUnfit("Write what you want to know.", path="text")
        if len(text) > MOST_LETTERS:
            raise AnswerUnfit(f"At most {MOST_LETTERS:,} letters; this has {len(text):,}.", path="text")
        if not is_storable(text):
            raise AnswerUnfit("Has a NUL or half a surrogate pair in it; no database keeps that.", path="text")
        with log_transaction():
            gate.refresh_from_db()
            if not gate.pending:
                raise gate.late()
            asked = cls.objects.filter(gate=gate)
            if asked.under_way().exists():
                raise Conflict("The agent is still answering the question before: wait for that.")
            if asked.count() >= MOST_ON_A_GATE:
                raise Conflict(f"The agent was asked {MOST_ON_A_GATE} times here, which is as often as it can be.")
            inquiry = cls.objects.create(gate=gate, asker=actor, channel=channel, text=text)
            SessionEvent.append(
                gate.session_id,
                "gate_asked",
                {
                    "gate_id": gate.pk,
                    "inquiry_id": inquiry.pk,
                    "actor": actor.get_username(),
                    "question": text,
                    "channel": str(channel),
                    "seal": inquiry.seal(),
                },
                actor=actor,
            )
            asking.begin(inquiry.pk)
        return inquiry


class Reply(SealedModel):
    """What came of an inquiry, written once: the agent's answer, or why there is none."""

    inquiry = models.OneToOneField(Inquiry, on_delete=models.PROTECT, related_name="reply")
    text = models.TextField(blank=True)
    error = models.TextField(blank=True, help_text="Why there is no answer.")
    model = models.CharField(max_length=120, blank=True, help_text="Which chat model answered.")
    checkpoint_id = models.CharField(max_length=64, blank=True, help_text="The paused checkpoint that it knew.")
    answered_at = models.DateTimeField(default=timezone.now)

    SEALED = ("id", "inquiry_id", "text", "error", "model", "checkpoint_id", "answered_at")

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "replies"

    def __str__(self) -> str:
        return f"reply to inquiry {self.inquiry_id}"

    @classmethod
    def give(
        cls, inquiry: Inquiry, *, text: str = "", error: str = "", model: str = "", checkpoint_id: str = ""
    ) -> bool:
        """Write the reply with its event; False when another has been faster, and then nothing is written."""
        text, error = storable(text), storable(error)
        with log_transaction():
            # No second writer can come between: the block holds the log's lock.
            if cls.objects.filter(inquiry=inquiry).exists():
                return False
            reply = cls.objects.create(
                inquiry=inquiry, text=text, error=error, model=model, checkpoint_id=checkpoint_id
            )
            said = {"error": error} if error else {"answer": text, "model": model, "checkpoint_id": checkpoint_id}
            SessionEvent.append(
                inquiry.gate.session_id,
                "gate_answered",
                {"gate_id": inquiry.gate_id, "inquiry_id": inquiry.pk, **said, "seal": reply.seal()},
            )
        return True
