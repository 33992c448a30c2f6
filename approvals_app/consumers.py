"""The queue's socket. Every page has it: the badge and the title's count follow on all of them."""

from __future__ import annotations

from collections.abc import Sequence

from django.template.loader import render_to_string

from approvals_app import standing
from approvals_app.models import Gate
from approvals_app.states import MOST_URGENT_FIRST
from sessions_app import feed
from sessions_app.consumers import CONNECTED, PageConsumer, frame
from sessions_app.models import SessionEvent
from sessions_app.rendering import Ring

#: Events after which a gate stands in the queue, or no longer does.
GATE_KINDS = frozenset({"gate_fired", "gate_decided", "gate_expired", "gate_cancelled"})
#: Events after which a row in the list of sessions reads otherwise.
SESSION_KINDS = frozenset({"session.created", "session.status_changed", "session.updated"})
#: Events after which a gate's card has another question to the agent on it, or its answer.
ASKED_KINDS = frozenset({"gate_asked", "gate_answered"})
#: Gates that are pushed into open queues at once; after more of them the pages ask again.
MOST_PUSHED = 50


class QueueConsumer(PageConsumer):
    """The gates that wait, for everybody who may see them."""

    permission = "approvals_app.view_gate"
    group = feed.EVERYTHING
    audience_name = "queue"

    async def enter(self) -> int | None:
        """Everybody hears the same."""
        return None

    async def with_beat(self) -> dict[str, str]:
        """Send the strip along, so that its numbers follow on every open page without a request."""
        return {"standing": await standing.rendered()}

    def cares(self, ring: Ring) -> bool:
        """Gates, what the list of sessions shows, and a page that connects again with an old badge."""
        return ring.kind in GATE_KINDS | ASKED_KINDS | SESSION_KINDS or ring.kind == CONNECTED

    def render(self, rings: Sequence[Ring]) -> str:
        """Return the rows that came and went and the new count; what a page filters it asks for itself."""
        news = ["sessions"] if any(ring.kind in SESSION_KINDS for ring in rings) else []
        news += _asked([ring.seq for ring in rings if ring.kind in ASKED_KINDS])
        seqs = [ring.seq for ring in rings if ring.kind in GATE_KINDS]
        if not seqs and not any(ring.kind == CONNECTED for ring in rings):
            return frame("", *news)
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
                "went": [gate for gate in gates if not gate.pending] if few else [],
            },
        )
        return frame(content, *news, *([] if few else ["queue"]))


def _asked(seqs: Sequence[int]) -> list[str]:
    """Return what to tell the cards of gates at which the agent was asked, or has answered."""
    payloads = SessionEvent.objects.filter(seq__in=seqs).values_list("payload", flat=True) if seqs else ()
    return sorted({f"asked-{payload['gate_id']}" for payload in payloads})
