from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from approvals_app.exceptions import NothingSaid
from approvals_app.models.sealed import SealedModel
from approvals_app.states import Channel
from sessions_app.append_only import AppendOnlyQuerySet
from sessions_app.models import SessionEvent, log_transaction
from sessions_app.storable import storable

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from approvals_app.models.gate import Gate

#: The longest comment.
MAX_COMMENT = 4000


class Comment(SealedModel):
    """What one person says to the others about a gate, written once; the agent never reads it."""

    gate = models.ForeignKey("approvals_app.Gate", on_delete=models.PROTECT, related_name="comments")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="gate_comments")
    channel = models.CharField(max_length=10, choices=Channel.choices)
    text = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    SEALED = ("id", "gate_id", "author_id", "channel", "text", "created_at")

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.author} on gate {self.gate_id}"

    @classmethod
    def write(cls, gate: Gate, *, author: User, channel: Channel, text: str) -> Comment:
        """Write a comment, before the decision or after it, with its event; raises NothingSaid where it is empty."""
        text = storable(text.strip())
        if not text:
            raise NothingSaid(path="text")
        if len(text) > MAX_COMMENT:
            raise NothingSaid(f"A comment has at most {MAX_COMMENT} letters.", path="text")
        with log_transaction():
            comment = cls.objects.create(gate=gate, author=author, channel=channel, text=text)
            SessionEvent.append(gate.session_id, "gate_commented", comment.as_commented(), actor=author)
        return comment

    def as_commented(self) -> dict[str, Any]:
        """Return the payload of `gate_commented`."""
        return {
            "gate_id": self.gate_id,
            "comment_id": self.pk,
            "actor": self.author.get_username(),
            "text": self.text,
            "seal": self.seal(),
        }
