from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models, transaction
from django.db.models import F
from django.utils import timezone

from sessions_app import events, feed
from sessions_app.append_only import AppendOnlyModel
from sessions_app.querysets import SessionEventQuerySet

if TYPE_CHECKING:
    from django.contrib.auth.models import User

#: The PostgreSQL advisory lock under which events are numbered ("CLM" in ASCII).
_NUMBERING = 0x434C4D


@contextmanager
def log_transaction() -> Iterator[None]:
    """Open the transaction in which events are written; every verb that writes one begins with it.

    `seq` is a cursor that readers resume from, so a higher number must never become visible before a lower one.
    SQLite has one writer at a time; PostgreSQL would commit out of order, so writers queue on an advisory lock,
    taken before any row's lock so that two writers cannot block each other crosswise.
    """
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_NUMBERING])
        yield


class SessionEvent(AppendOnlyModel):
    """One thing that happened to a session, numbered over all sessions; written once."""

    seq = models.BigAutoField(primary_key=True)
    session = models.ForeignKey("sessions_app.Session", on_delete=models.PROTECT, related_name="events")
    kind = models.CharField(max_length=40)
    payload = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        help_text="The person who caused it; none means CLM itself.",
    )
    ts = models.DateTimeField(default=timezone.now)

    objects = SessionEventQuerySet.as_manager()

    class Meta:
        ordering = ["seq"]
        indexes = [
            models.Index(fields=["session", "seq"], name="event_by_session"),
            models.Index(fields=["session", "kind"], name="event_by_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"

    @classmethod
    def append(
        cls,
        session_id: str,
        kind: str,
        payload: dict[str, Any],
        *,
        actor: User | None = None,
    ) -> SessionEvent:
        """Write one event of a registered kind, bump the session's version, and ring after the commit.

        The session's row is updated first: its lock puts the events of one session in order.
        """
        from sessions_app.models.session import Session

        events.check(kind, payload)
        with log_transaction():
            Session.objects.filter(pk=session_id).update(version=F("version") + 1, updated_at=timezone.now())
            event = cls(session_id=session_id, kind=kind, payload=payload, actor=actor)
            event.save()
            feed.announce(event)
        return event

    @property
    def text(self) -> str:
        """What the kind means, in a few words."""
        return events.KINDS[self.kind].text if self.kind in events.KINDS else self.kind

    def as_json(self) -> dict[str, Any]:
        """Return the event as every stream and the API give it."""
        return {
            "seq": self.seq,
            "session_id": self.session_id,
            "kind": self.kind,
            "payload": self.payload,
            "ts": self.ts.isoformat(),
        }
