"""What a button that runs something says when it is armed, and which of them are armed at all."""

from __future__ import annotations

from django import template

from approvals_app.bulk import MOST, TOGETHER
from approvals_app.models import Gate
from approvals_app.states import DecisionType, GateKind
from sessions_app.templatetags.desk import visible

register = template.Library()


@register.filter
def dangerous(gate: Gate) -> bool:
    """Whether approving takes a second step: it runs something whose risk is not known to be low or medium."""
    return DecisionType.APPROVE in gate.allowed and gate.risk not in TOGETHER


@register.filter
def arm_words(gate: Gate) -> str:
    """Return what an approval would do, in one line: "restart checkout in dev. 3 requests in flight fail"."""
    if gate.kind == GateKind.BATCH:
        return f"all {len(gate.calls)} calls, in {gate.session.environment}"
    parts = gate.consequence.get("parts") or []
    sentence = "".join(part["text"] for part in parts) or gate.headline
    return visible(". ".join(text for text in (sentence, gate.consequence.get("breaks", "")) if text)).rstrip(".")


@register.simple_tag
def most_at_once() -> int:
    """Return how many gates one bulk decision takes."""
    return MOST
