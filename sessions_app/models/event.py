from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, connection, connections, models, transaction
from django.utils import timezone

from sessions_app import chain, events, feed
from sessions_app.append_only import AppendOnlyModel
from sessions_app.querysets import SessionEventQuerySet
from sessions_app.statements import insert

if TYPE_CHECKING:
    from django.contrib.auth.models import User

#: The PostgreSQL advisory lock under which events are numbered ("CLM" in ASCII).
_NUMBERING = 0x434C4D

#: Read and move the end of a session's chain. Written out, because building them anew for every event takes many
#: times as long as running them.
_END_OF_CHAIN = "SELECT version, head FROM sessions_app_session WHERE id = %s"
_MOVE_END = "UPDATE sessions_app_session SET version = %s, head = %s, updated_at = %s WHERE id = %s"

#: How many blocks are open in this thread, whose connection is its own.
_open = threading.local()

#: Whose turn it is to write, among the threads of this process on SQLite.
_turn = threading.RLock()


@contextmanager
def log_transaction() -> Iterator[None]:
    """Open the transaction in which events are written; every verb that writes one begins with it.

    `seq` is a cursor that readers resume from, so a higher number must never become visible before a lower one.
    SQLite has one writer at a time; PostgreSQL would commit out of order, so writers queue on an advisory lock,
    taken before any row's lock so that two writers cannot block each other crosswise.

    A verb called within another's block joins it, without a savepoint and a lock of its own: when it raises, the
    whole block is undone, and Django refuses every further query until it is.
    """
    outermost = not getattr(_open, "blocks", 0)
    with _writing() if outermost else nullcontext(), transaction.atomic(savepoint=outermost):
        # Back to what it was before the commit, because callbacks of the commit may open a block again.
        _open.blocks = getattr(_open, "blocks", 0) + 1
        try:
            if outermost and connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_NUMBERING])
            yield
        finally:
            _open.blocks -= 1


def _writing() -> AbstractContextManager[Any]:
    """Return what waits for this thread's turn to write, where threads can wait for each other better than SQLite can.

    SQLite asks for its lock again after 1, 2, 5, 10 … 100 ms, so a request that meets a busy engine would wait for a
    quarter of a second; a lock of the process is handed over at once. Whoever is in a transaction already has SQLite's.
    """
    mine = connection.vendor == "sqlite" and not connection.in_atomic_block
    return _turn if mine else nullcontext()


class SessionEvent(AppendOnlyModel):
    """One thing that happened to a session, numbered over all sessions; written once."""

    seq = models.BigAutoField(primary_key=True)
    session = models.ForeignKey("sessions_app.Session", on_delete=models.PROTECT, related_name="events")
    position = models.PositiveIntegerField(help_text="Its number within the session: 1, 2, 3 …")
    hash = models.CharField(max_length=64, help_text="Over the event before it and this one (docs/audit.md).")
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
        constraints = [models.UniqueConstraint(fields=["session", "position"], name="event_position_once")]
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
        """Write one event of a registered kind at the end of its session's chain, and ring after the commit."""
        (event,) = cls.append_all(session_id, (kind, payload), actor=actor)
        return event

    @classmethod
    def append_all(
        cls, session_id: str, *told: tuple[str, dict[str, Any]], actor: User | None = None
    ) -> list[SessionEvent]:
        """Write events of one session that happened together, each as kind and payload, in that order.

        The end of the chain is read and moved once, under the log's lock, so two events never follow the same one.
        """
        for kind, payload in told:
            events.check(kind, payload)
        with log_transaction():
            now, database = timezone.now(), connections[DEFAULT_DB_ALIAS]
            with database.cursor() as cursor:
                cursor.execute(_END_OF_CHAIN, [session_id])
                position, head = cursor.fetchone()
                appended = []
                for kind, payload in told:
                    position += 1
                    event = cls(
                        session_id=session_id,
                        position=position,
                        kind=kind,
                        payload=chain.as_stored(payload),
                        actor=actor,
                        ts=now,
                    )
                    head = event.hash = event.hash_after(head)
                    appended.append(event)
                at = database.ops.adapt_datetimefield_value(now)
                cursor.execute(_MOVE_END, [position, head, at, session_id])
            for event in appended:
                insert(event)
                feed.announce(event)
        return appended

    @property
    def text(self) -> str:
        """What the kind means, in a few words."""
        return events.KINDS[self.kind].text if self.kind in events.KINDS else self.kind

    def hashed(self) -> list[Any]:
        """Return what the hash covers, beside the hash of the event before."""
        return [self.session_id, self.position, self.kind, self.payload, self.actor_id, chain.instant(self.ts)]

    def hash_after(self, previous: str) -> str:
        """Return the event's hash when `previous` is the hash of the event before it."""
        return chain.digest([previous, *self.hashed()])

    def as_json(self) -> dict[str, Any]:
        """Return the event as every stream and the API give it."""
        return {
            "seq": self.seq,
            "session_id": self.session_id,
            "kind": self.kind,
            "payload": self.payload,
            "ts": self.ts.isoformat(),
        }
