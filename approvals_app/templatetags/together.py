"""What people do at a gate, for its card: who is there, what was said, which facts changed."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib.auth.models import AnonymousUser, User

from approvals_app import together
from approvals_app.models import Comment, FactsAcknowledgement, Gate, Presence
from sessions_app.agents.facts import Fact

register = template.Library()

register.filter("version", together.version)


@register.simple_tag
def present_at(gate: Gate) -> list[Presence]:
    """Return who has the gate's card open; the page itself hides the one who reads it."""
    return list(Presence.objects.here().filter(gate=gate).select_related("person"))


@register.simple_tag
def comments_on(gate: Gate) -> list[Comment]:
    """Return what was said about the gate."""
    return list(gate.comments.select_related("author"))


@register.simple_tag
def acknowledgements_of(gate: Gate) -> list[FactsAcknowledgement]:
    """Return who has seen which new facts."""
    return list(gate.acknowledgements.select_related("actor")) if gate.facts else []


@register.filter
def may_decide(gate: Gate, user: User | AnonymousUser) -> bool:
    """Whether this person may decide the gate, and so be on it and acknowledge facts."""
    return not gate.refusal_for(user)


@register.filter
def fact_rows(gate: Gate) -> list[dict[str, Any]]:
    """Return the facts that an approval is for, and beside each what it is now where that is something else."""
    now = {one["tool_call_id"]: one for one in gate.facts_now} if gate.drifted else {}
    rows = []
    for known in gate.facts_known:
        later = now.get(known["tool_call_id"])
        names = {**known["facts"], **(later["facts"] if later else {})}
        facts = [_row(name, known, later) for name in names]
        rows.append({"tool": known["tool"], "reading": known, "later": later, "facts": facts})
    return rows


def _row(name: str, known: dict[str, Any], later: dict[str, Any] | None) -> dict[str, Any]:
    was: Fact = known["facts"].get(name)
    now: Fact = later["facts"].get(name) if later else was
    return {"name": name, "was": _say(was), "now": _say(now), "changed": was != now}


def _say(value: Fact) -> str:
    return "not known" if value is None else str(value)


@register.filter
def fact(value: Any) -> str:
    """Return a fact in a word."""
    return _say(value)
