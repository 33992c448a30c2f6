"""What people at the same gates see of each other: what a page says of itself, and what open pages are pushed."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.template.loader import render_to_string

from approvals_app.models import Gate, Presence
from approvals_app.models.presence import Doing
from sessions_app import chain
from sessions_app.models import SessionEvent
from sessions_app.recovery import Repair
from sessions_app.rendering import Ring

log = logging.getLogger("clm.gates")

#: Events after which an open card of the gate shows something else.
GATE_KINDS = frozenset({"gate_claimed", "gate_released", "gate_commented", "facts_changed", "facts_acknowledged"})
#: The ring of somebody who comes, goes, or begins to write; there is no such event.
PRESENCE = "presence"
KINDS = GATE_KINDS | {PRESENCE}
#: A card that is open and not looked at: its claim is kept, and nobody is told that somebody reads.
AWAY = "away"


class Said(NamedTuple):
    """What a page says of itself: which gate's card is open on it and what its person does there."""

    gate_id: int
    doing: str


def heard(text: str | None) -> Said | None:
    """Return what a page said over its socket, or None for anything that is not that."""
    if not text or len(text) > 200:
        return None
    try:
        said = json.loads(text)["presence"]
        gate_id, doing = said["gate"], said["doing"]
    except (ValueError, TypeError, KeyError):
        return None
    known = type(gate_id) is int and 0 < gate_id < 2**63 and (doing == AWAY or doing in Doing.values)
    return Said(gate_id, doing) if known else None


def note(person: User, said: Said, left: int | None = None) -> None:
    """Write what a page said: who is there, and that their claim is kept; `left` is the gate that it showed before."""
    if left is not None and left != said.gate_id:
        leave(person, left)
    gate = Gate.objects.visible_to(person).pending().filter(pk=said.gate_id).first()
    if gate is None:
        return
    gate.keep_claim(person)
    if said.doing == AWAY:
        Presence.leave(gate, person)
    else:
        Presence.note(gate, person, Doing(said.doing))


def leave(person: User, gate_id: int) -> None:
    """Write that a page with this gate's card was closed."""
    if gate := Gate.objects.filter(pk=gate_id).first():
        Presence.leave(gate, person)


def version(gate: Gate) -> str:
    """Return a word that changes with whatever others do at the gate, so that a page knows whether it is current."""
    held = gate.held_by
    return chain.digest(
        [gate.status, gate.digest, gate.fingerprint_now, held.pk if held else None, gate.comments.count()]
    )[:16]


def pushed(rings: Sequence[Ring]) -> tuple[str, list[str]]:
    """Return what open pages swap in after these rings, and the names of what they may want to ask for."""
    seqs = [ring.seq for ring in rings if ring.kind in GATE_KINDS]
    payloads = SessionEvent.objects.filter(seq__in=seqs).values_list("payload", flat=True) if seqs else ()
    ids = {payload["gate_id"] for payload in payloads}
    sessions = {ring.session_id for ring in rings if ring.kind == PRESENCE}
    if not ids and not sessions:
        return "", []
    context: dict[str, Any] = {
        "marked": Gate.objects.filter(pk__in=ids).pending().select_related("claimer") if ids else (),
        "read": _present_in(sessions) if sessions else (),
    }
    return render_to_string("approvals/_push_together.html", context), [f"gate-{gate_id}" for gate_id in sorted(ids)]


def _present_in(sessions: set[str]) -> list[dict[str, Any]]:
    gates = Gate.objects.filter(session__in=sessions).pending().prefetch_related("presences__person")
    here = {one.pk for one in Presence.objects.here().filter(gate__session__in=sessions)}
    return [{"gate": gate, "present": [one for one in gate.presences.all() if one.pk in here]} for gate in gates]


def tidy(dry_run: bool = False, **kwargs: Any) -> list[Repair]:
    """Free the claims whose time is over, so that open pages hear of it, and forget who is gone; no repair."""
    if dry_run:
        return []
    for gate in Gate.objects.pending().exclude(claimer=None).unclaimed().select_related("claimer"):
        try:
            gate.end_claim()
        except Exception:
            log.exception("The claim of gate %s could not be freed; the sweep goes on", gate.pk)
    if Presence.objects.gone().exists():
        Presence.objects.gone().delete()
    return []
