"""The registry of event kinds: what each is called, carries and means.

An event that is not listed here cannot be written, so the log has no word that the docs lack
(docs/events.md is checked against this table).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sessions_app.exceptions import UnknownEvent


@dataclass(frozen=True)
class EventKind:
    """One kind: its name, the payload keys that it must and may carry, and the fragment that shows it.

    `transition` marks the one kind that records a change of the session's status (law L7).
    """

    name: str
    text: str
    required: frozenset[str]
    optional: frozenset[str] = frozenset()
    transition: bool = False

    def check(self, payload: Mapping[str, Any]) -> None:
        """Refuse a payload that lacks a required key or has an unknown one."""
        keys = payload.keys()
        if not self.required <= keys or not keys <= self.required | self.optional:
            raise UnknownEvent(
                f"{self.name} carries {sorted(self.required)} and may carry {sorted(self.optional)}, "
                f"not {sorted(keys)}."
            )


def _kind(name: str, text: str, required: str, optional: str = "", *, transition: bool = False) -> EventKind:
    return EventKind(name, text, frozenset(required.split()), frozenset(optional.split()), transition)


#: Every kind by its name.
KINDS: dict[str, EventKind] = {
    kind.name: kind
    for kind in (
        _kind("session.created", "The session was submitted", "graph environment submitter", "run_id"),
        _kind("session.status_changed", "The status changed", "from to cause actor", "detail", transition=True),
        _kind("session.agent_running", "An agent has the session", "agent"),
        _kind("session.rerun_requested", "Somebody asked for a rerun", "run_id actor", "from_checkpoint before"),
        _kind("session.stop_requested", "Somebody stopped the session", "actor", "note"),
        _kind("session.updated", "The agent described the incident", "fields"),
        _kind("agent_started", "An agent began", "agent"),
        _kind("agent_finished", "An agent reported", "agent summary confidence signal", "usage"),
        _kind("confidence_emitted", "An agent said how sure it is", "agent confidence rationale"),
        _kind("route_decided", "The graph chose its way", "source target why"),
        _kind(
            "tool_invoked",
            "A tool ran",
            "tool agent args result_kind latency_ms risk status",
            "tool_call_id excerpt",
        ),
        _kind("tool_refused", "A tool call was refused", "tool agent why", "tool_call_id args risk"),
        _kind("tool_dispatched", "An approved call was let through", "tool agent tool_call_id args decision_id"),
        _kind("tool_lapsed", "An approved call was not run", "tool agent tool_call_id why decision_id", "expires_at"),
        _kind("gate_fired", "A gate opened", "gate_id tool agent reason risk", "kind expires_at digest"),
        _kind(
            "gate_decided",
            "A person decided",
            "gate_id decision actor channel",
            "tool rationale digest decision_id seal verdicts next",
        ),
        _kind("gate_expired", "Nobody decided in time", "gate_id tool", "expires_at on_expiry"),
        _kind("gate_cancelled", "The gate went with its session", "gate_id tool cause"),
        _kind("gate_asked", "A person asked the agent", "gate_id inquiry_id actor question channel", "seal"),
        _kind(
            "gate_answered",
            "The agent answered a person",
            "gate_id inquiry_id",
            "answer error model checkpoint_id seal",
        ),
        _kind("gate_claimed", "Somebody is on the gate", "gate_id actor"),
        _kind("gate_released", "Nobody is on the gate any more", "gate_id actor cause"),
        _kind("gate_commented", "Somebody said something about a gate", "gate_id comment_id actor text", "seal"),
        _kind("facts_changed", "The facts under a gate changed", "gate_id changes fingerprint", "what"),
        _kind(
            "facts_acknowledged",
            "Somebody has seen the new facts",
            "gate_id actor changes facts fingerprint digest",
            "channel acknowledgement_id seal",
        ),
        _kind("run_failed", "The run failed", "run_id error"),
        _kind("session.repaired", "The sweep put right what disagreed", "what"),
        _kind("session.repair_asked", "A person must put right what disagrees", "card_id what"),
        _kind("session.repair_closed", "What disagreed is put right", "card_id what cause"),
        _kind("run_recovered", "A run was taken up again", "run_id cause", "attempt"),
        _kind("lesson_extracted", "A lesson was noted", "lesson"),
    )
}


def check(kind: str, payload: Mapping[str, Any]) -> EventKind:
    """Return the registered kind that `payload` fits, or raise UnknownEvent."""
    if kind not in KINDS:
        raise UnknownEvent(f"{kind!r} is not an event kind; register it in events.py.")
    KINDS[kind].check(payload)
    return KINDS[kind]
