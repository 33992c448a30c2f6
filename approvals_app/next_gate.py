"""Working through the queue: after a decision comes the gate that stood behind it in the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.http import QueryDict
from django.utils.html import format_html
from django.utils.safestring import SafeString

from approvals_app.forms import QueueFilter
from approvals_app.models import Gate
from approvals_app.states import QueueTab, order_of
from sessions_app.querysets import Page
from sessions_app.templatetags.desk import visible

if TYPE_CHECKING:
    from django.contrib.auth.models import User

#: How far down the list it looks; behind that the list begins again from its top.
FAR = 50


class Ahead(NamedTuple):
    """What there is to do once a gate is decided: the next one for this person, and how many fit the list."""

    gate: Gate | None
    left: int


def ahead_of(gate: Gate, person: User, filters: str) -> Ahead:
    """Return what stands in the list after `gate`, which still stands in it; `filters` is the list's own query.

    Gates that this person may not decide are passed over. At the end it goes on from the top.
    """
    page = _listed(person, filters)
    at = next((index + 1 for index, other in enumerate(page.items) if other.pk == gate.pk), 0)
    there = page.items[at:] + page.items[:at]
    mine = (other for other in there if other.pk != gate.pk and not other.expired and not other.refusal_for(person))
    return Ahead(next(mine, None), page.total - any(other.pk == gate.pk for other in page.items))


def beside(gate: Gate, person: User, filters: str, step: int) -> Gate | None:
    """Return the gate that stands `step` rows after `gate` in the list, or None where the list ends there.

    Nothing is passed over: it is for reading. A gate that does not stand in the list is before its first row.
    """
    rows = _listed(person, filters).items
    at = next((index for index, other in enumerate(rows) if other.pk == gate.pk), -1)
    to = max(at + step, 0) if at < 0 else at + step
    return rows[to] if 0 <= to < len(rows) else None


def _listed(person: User, filters: str) -> Page[Gate]:
    waiting = Gate.objects.visible_to(person).in_tab(QueueTab.PENDING)
    return QueueFilter(QueryDict(filters)).kept(waiting, person).page(order=order_of(QueueTab.PENDING), limit=FAR)


def words(gate: Gate, ahead: Ahead) -> SafeString:
    """Return what was done and what comes now: "Approved: restart checkout. Next: roll back payments, 6 left."."""
    done = format_html(
        '{}: <a href="{}">{}</a>.',
        gate.get_status_display().capitalize(),
        gate.get_absolute_url(),
        visible(gate.headline),
    )
    if ahead.gate is None:
        return done
    return format_html("{} Next: {}, {} left.", done, visible(ahead.gate.headline), ahead.left)
