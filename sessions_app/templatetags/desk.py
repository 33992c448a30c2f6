"""How the desk words times, risks, statuses, calls and results."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django import template
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from sessions_app import redaction
from sessions_app.agents import consequence

register = template.Library()

#: Of a gate's time, the part after which the row says that it runs out.
AT_RISK = 0.8
#: Letters of one result that a page shows; the API has all of it.
MAX_SHOWN = 20_000

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))

#: Shapes for what colour must not say alone, in a 12 x 12 box. Drawn with strokes where the name ends in an o.
_MARKS = {
    "low": '<circle cx="6" cy="6" r="3.5" fill="none" stroke="currentColor" stroke-width="1.5"/>',
    "medium": '<path d="M6 1.2 10.8 6 6 10.8 1.2 6Z" fill="none" stroke="currentColor" stroke-width="1.6"/>',
    "high": '<path d="M6 .8 11.6 11H.4Z" fill="currentColor"/>',
    "forbidden": '<path d="M3.4.6h5.2l2.8 2.8v5.2l-2.8 2.8H3.4L.6 8.6V3.4Z" fill="currentColor"/>',
    "question": (
        '<path d="M3.2 4.2a2.8 2.8 0 1 1 4 2.6C6.3 7.2 6 7.6 6 8.4" fill="none" stroke="currentColor" '
        'stroke-width="1.6"/><circle cx="6" cy="10.9" r="1" fill="currentColor"/>'
    ),
    "new": (
        '<circle cx="6" cy="6" r="4.4" fill="none" stroke="currentColor" stroke-width="1.4" stroke-dasharray="2 1.5"/>'
    ),
    "in_progress": (
        '<circle cx="6" cy="6" r="4.6" fill="none" stroke="currentColor" stroke-width="1.4"/>'
        '<path d="M6 2.6a3.4 3.4 0 0 1 0 6.8Z" fill="currentColor"/>'
    ),
    "awaiting_input": '<path d="M2.4 1.5h2.6v9H2.4zM7 1.5h2.6v9H7z" fill="currentColor"/>',
    "resolved": '<path d="M1.2 6.4 4.6 9.8 10.8 2.6" fill="none" stroke="currentColor" stroke-width="1.9"/>',
    "escalated": '<path d="M6 11V1.6M2 5.4l4-4 4 4" fill="none" stroke="currentColor" stroke-width="1.7"/>',
    "error": '<path d="M2 2l8 8M10 2l-8 8" fill="none" stroke="currentColor" stroke-width="1.9"/>',
    "stopped": '<path d="M2 2h8v8H2z" fill="currentColor"/>',
    "duplicate": '<path d="M1.5 4h9M1.5 8h9" fill="none" stroke="currentColor" stroke-width="1.7"/>',
    "expired": (
        '<circle cx="6" cy="6" r="4.6" fill="none" stroke="currentColor" stroke-width="1.4"/>'
        '<path d="M6 3.2V6l2 1.4" fill="none" stroke="currentColor" stroke-width="1.4"/>'
    ),
    "dot": '<circle cx="6" cy="6" r="2" fill="currentColor"/>',
    "tool": '<path d="M2 3l3 3-3 3M6.4 9.4H11" fill="none" stroke="currentColor" stroke-width="1.5"/>',
    "person": (
        '<circle cx="6" cy="3.6" r="2.4" fill="currentColor"/><path d="M1.4 11a4.6 4.6 0 0 1 9.2 0Z" '
        'fill="currentColor"/>'
    ),
    "agent": '<path d="M2 3.5h8v6H2zM6 1v2.5" fill="none" stroke="currentColor" stroke-width="1.5"/>',
    "route": '<path d="M1.5 6h8M6.6 2.8 9.8 6 6.6 9.2" fill="none" stroke="currentColor" stroke-width="1.5"/>',
}
_SAME = {
    "needs_review": "question",
    "queued": "new",
    "done": "resolved",
    "running": "in_progress",
    "waiting": "awaiting_input",
    "failed": "error",
    "ahead": "new",
    "skipped": "duplicate",
    "approved": "resolved",
    "edited": "resolved",
    "responded": "resolved",
    "rejected": "error",
    "cancelled": "stopped",
    "pending": "awaiting_input",
    "executed": "resolved",
    "executed_with_notify": "resolved",
    "executing": "in_progress",
    "pending_approval": "awaiting_input",
    "unknown": "question",
}


@register.simple_tag
def mark(name: str) -> SafeString:
    """Return the shape that stands beside the word `name`; unknown names get a dot."""
    shape = _MARKS.get(_SAME.get(name, name), _MARKS["dot"])
    return mark_safe(f'<svg class="mark" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>')  # noqa: S308 - our own shapes


@register.simple_tag
def risk(level: str) -> SafeString:
    """Return a risk as a shape and a word; a question has none and says so."""
    word = {"medium": "med", "": "ask"}.get(level, level)
    return format_html(
        '<span class="risk risk-{}" title="{}">{} {}</span>',
        level or "none",
        f"{level} risk" if level else "a question, not a call",
        mark(level or "question"),
        word,
    )


@register.simple_tag
def status(name: str, label: str) -> SafeString:
    """Return a status as a shape and its words."""
    return format_html('<span class="status status-{}">{} {}</span>', name, mark(name), label)


# Times -----------------------------------------------------------------------------------------------------------


def span_words(seconds: float) -> str:
    """Return a length of time in one unit, the one that a person would say."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _exact(when: datetime) -> str:
    return when.astimezone(timezone.get_default_timezone()).strftime("%Y-%m-%d %H:%M:%S UTC")


@register.simple_tag
def ago(when: datetime | str | None) -> SafeString:
    """Return "2 min ago", with the exact instant on hover."""
    instant = parse_datetime(when) if isinstance(when, str) else when
    if instant is None:
        return mark_safe("")
    seconds = (timezone.now() - instant).total_seconds()
    words = "just now" if seconds < 10 else f"{span_words(seconds)} ago"
    return format_html(
        '<time datetime="{}" title="{}" data-tick="ago">{}</time>', instant.isoformat(), _exact(instant), words
    )


@register.simple_tag
def left(until: datetime, since: datetime, then: str = "") -> SafeString:
    """Return how much time a gate has left; amber from the last fifth on, struck when it is over.

    `then` says what happens at its end, on hover.
    """
    now = timezone.now()
    whole, over = (until - since).total_seconds(), (now - since).total_seconds()
    rest = (until - now).total_seconds()
    if rest <= 0:
        css, words = "left expired", "expired"
    else:
        at_risk = over > AT_RISK * whole
        css, words = f"left{' at-risk' * at_risk}", f"{'only ' * at_risk}{span_words(rest)} left"
    return format_html(
        '<time class="{}" datetime="{}" title="{}" data-tick="left" data-since="{}">{}</time>',
        css,
        until.isoformat(),
        f"until {_exact(until)}. {then}".removesuffix(". "),
        since.isoformat(),
        words,
    )


@register.simple_tag
def clock(when: datetime) -> SafeString:
    """Return the time of day, with the date on hover: for rows where the order says the rest."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', when.isoformat(), _exact(when), when.strftime("%H:%M:%S")
    )


@register.simple_tag
def took(began: datetime | None, ended: datetime | None) -> str:
    """Return how long something took."""
    if began is None or ended is None:
        return ""
    return duration((ended - began).total_seconds() * 1000)


@register.filter
def duration(milliseconds: float | None) -> str:
    """Return milliseconds as a person would say them."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else span_words(seconds)


@register.filter
def plain_span(length: timedelta) -> str:
    """Return a timedelta in words."""
    return span_words(length.total_seconds())


# Calls and results -----------------------------------------------------------------------------------------------


class Argument(NamedTuple):
    """One argument of a call as the card shows it."""

    name: str
    type: str
    text: str


_TYPES = {str: "text", bool: "yes/no", int: "number", float: "number", list: "list", dict: "object"}


@register.filter
def typed(args: Mapping[str, Any] | None) -> list[Argument]:
    """Return a call's arguments with their types, exactly: what cannot be seen is written as an escape."""
    return [
        Argument(visible(str(name)), _TYPES.get(type(value), "nothing"), _cut(visible(_literal(value))))
        for name, value in redaction.shown(args or {}).items()
    ]


def _literal(value: Any) -> str:
    indent = 2 if isinstance(value, (dict, list)) and value else None
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


@register.filter
def visible(text: str) -> str:
    """Return the text with control, direction and invisible characters written as escapes, and without secrets.

    A right-to-left mark in an argument must not make the approver read another call.
    """
    return _escaped(redaction.shown_text(str(text)))


def unseen(text: str) -> bool:
    """Whether a text has control, direction or invisible characters in it."""
    return any(map(_is_unseen, text))


def _is_unseen(letter: str) -> bool:
    return letter not in "\n\t" and unicodedata.category(letter) in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" if _is_unseen(letter) else letter for letter in text)


@register.filter
def pretty(text: str) -> str:
    """Return a result to read: JSON laid out, anything else as it is, neither longer than a page can show."""
    text = text or ""
    if text[:1] in "{[" and len(text) <= MAX_SHOWN:
        # What a tool returned may be cut off in the middle, or nested deeper than a parser goes.
        with suppress(ValueError, RecursionError):
            text = json.dumps(redaction.shown(json.loads(text)), ensure_ascii=False, indent=2)
    return _cut(visible(text))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}\n… {len(text) - MAX_SHOWN:,} more letters"


@register.filter
def percent(share: float | None) -> str:
    """Return a confidence as "82 %"."""
    return "" if share is None else f"{share * 100:.0f} %"


@register.simple_tag
def means(tool: str, args: Mapping[str, Any], environment: str) -> Iterable[consequence.Part]:
    """Return what a call does, in parts that the template escapes; nothing where the words lack an argument."""
    found = consequence.consequence(tool, args or {}, environment=environment)
    return found.parts if found.described and "(no " not in found.sentence else ()


@register.filter
def original_name(tool: str) -> str:
    """Return a tool's name without its server."""
    return tool.rpartition(":")[2]


@register.filter
def spaced(name: str) -> str:
    """Return a status as words: `awaiting_input` is "awaiting input"."""
    return str(name).replace("_", " ")


@register.filter
def unscored(name: str) -> str:
    """Return a node's name; the graph's own end is called so."""
    return "the end" if name == "__end__" else name


@register.filter
def plain(value: Any) -> str:
    """Return a payload's value as text."""
    shown = redaction.shown(value)
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, default=str)
