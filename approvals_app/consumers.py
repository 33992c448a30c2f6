"""The queue's socket. Every page has it: the badge and the title's count follow on all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from channels.db import database_sync_to_async
from django.db import DatabaseError
from django.template.loader import render_to_string

from approvals_app import standing, together
from approvals_app.models import Gate
from approvals_app.states import MOST_URGENT_FIRST
from sessions_app import feed
from sessions_app.consumers import CONNECTED, PageConsumer, frame
from sessions_app.models import SessionEvent
from sessions_app.rendering import Ring

log = logging.getLogger("clm.pages")

#: Events after which a gate stands in the queue, or no longer does.
GATE_KINDS = frozenset({"gate_fired", "gate_decided", "gate_expired", "gate_cancelled"})
#: Events after which a row in the list of sessions reads otherwise.
SESSION_KINDS = frozenset({"session.created", "session.status_changed", "session.updated"})
#: Events after which a gate's card has another question to the agent on it, or its answer.
ASKED_KINDS = frozenset({"gate_asked", "gate_answered"})
#: Seconds between two things that a page says of itself, other ones and the same again.
PAUSE, SAME_AGAIN = 0.1, 3.0
#: Gates that are pushed into open queues at once; after more of them the pages ask again.
MOST_PUSHED = 50


class QueueConsumer(PageConsumer):
    """The gates that wait, for everybody who may see them."""

    permission = "approvals_app.view_gate"
    group = feed.EVERYTHING
    audience_name = "queue"

    async def enter(self) -> int | None:
        """Everybody hears the same."""
        self._said: together.Said | None = None
        self._said_at = 0.0
        return None

    @classmethod
    async def with_beat(cls) -> dict[str, str]:
        """Send the strip along, so that its numbers follow on every open page without a request."""
        return {"standing": await standing.rendered()}

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Hear which gate's card is open on the page and what its person does there; nothing else is listened to."""
        said = together.heard(text_data)
        if said is None or self._audience is None:
            return
        # A page says it when it changes and with every heartbeat; one that says it without a pause is not heard.
        waited = time.monotonic() - self._said_at
        if waited < (PAUSE if said != self._said else SAME_AGAIN):
            return
        left = self._said.gate_id if self._said else None
        self._said, self._said_at = said, time.monotonic()
        await self._in_database(together.note, said, left)

    async def disconnect(self, code: int) -> None:
        """Stop listening; whoever closes a gate's card is not reading it any more."""
        await super().disconnect(code)
        if self._audience is not None and self._said is not None:
            await self._in_database(together.leave, self._said.gate_id)

    async def _in_database(self, step: Any, *args: Any) -> None:
        try:
            await database_sync_to_async(step, thread_sensitive=False)(self.scope["user"], *args)
        except DatabaseError:
            # Who reads what is never needed: it is said again with the next heartbeat.
            log.warning("Who is at a gate could not be written", exc_info=True)

    def cares(self, ring: Ring) -> bool:
        """Gates, what the list of sessions shows, and a page that connects again with an old badge."""
        return ring.kind in GATE_KINDS | ASKED_KINDS | SESSION_KINDS | together.KINDS or ring.kind == CONNECTED

    def render(self, rings: Sequence[Ring]) -> str:
        """Return the rows that came and went and the new count; what a page filters it asks for itself."""
        beside, news = together.pushed(rings)
        news += ["sessions"] if any(ring.kind in SESSION_KINDS for ring in rings) else []
        news += _asked([ring.seq for ring in rings if ring.kind in ASKED_KINDS])
        seqs = [ring.seq for ring in rings if ring.kind in GATE_KINDS]
        if not seqs and not any(ring.kind == CONNECTED for ring in rings):
            return frame(beside, *news)
        payloads = SessionEvent.objects.filter(seq__in=seqs).values_list("payload", flat=True)
        ids = {payload["gate_id"] for payload in payloads}
        gates = list(
            Gate.objects.with_outcome().filter(pk__in=ids).select_related("session").order_by(*MOST_URGENT_FIRST)
        )
        if seqs:
            news += ["gates", *(f"gate-{gate.pk}" for gate in gates)]
        few = len(gates) <= MOST_PUSHED
        content = render_to_string(
            "approvals/_push.html",
            {
                "waiting": Gate.objects.pending().count(),
                "came": [gate for gate in gates if gate.pending] if few else [],
                "gone": [gate for gate in gates if not gate.pending] if few else [],
            },
        )
        return frame(content + beside, *news, *([] if few else ["queue"]))


def _asked(seqs: Sequence[int]) -> list[str]:
    """Return what to tell the cards of gates at which the agent was asked, or has answered."""
    payloads = SessionEvent.objects.filter(seq__in=seqs).values_list("payload", flat=True) if seqs else ()
    return sorted({f"asked-{payload['gate_id']}" for payload in payloads})
