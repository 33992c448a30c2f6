"""A session's attempts on its page."""

from __future__ import annotations

from django import template

from sessions_app.attempts import Attempt, attempts_of
from sessions_app.models import Session

register = template.Library()


@register.simple_tag(name="attempts_of")
def attempts(session: Session) -> list[Attempt]:
    """Return the session's attempts, the first one first."""
    return attempts_of(session)
