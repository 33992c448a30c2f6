"""What people asked the agent, on the gate's card."""

from __future__ import annotations

from django import template
from django.contrib.auth.models import AnonymousUser, User

from approvals_app.models import Gate, Inquiry
from approvals_app.models.inquiry import MOST_LETTERS

register = template.Library()


@register.simple_tag
def inquiries_of(gate: Gate) -> list[Inquiry]:
    """Return the gate's inquiries with who asked and what came of each: one query."""
    return list(gate.inquiries.select_related("asker", "reply"))


@register.filter
def can_be_repeated(asked: Inquiry, inquiries: list[Inquiry]) -> bool:
    """Whether to offer the same question again: it has no answer, and nobody has asked it since."""
    open_ended = str(asked.status) in {"failed", "unanswered"}
    return open_ended and not any(one.pk > asked.pk and one.text == asked.text for one in inquiries)


@register.filter
def asked_by(inquiries: list[Inquiry], person: User | AnonymousUser) -> int:
    """Return how many of them this person asked."""
    return sum(asked.asker_id == person.pk for asked in inquiries)


@register.simple_tag
def most_letters() -> int:
    """Return how long a question may be."""
    return MOST_LETTERS
