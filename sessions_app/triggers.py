"""What another system's webhook starts: a session, in the words of its `[triggers.<name>]` (docs/triggers.md)."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
from typing import Any

from django.contrib.auth.models import User

from sessions_app.agents import config
from sessions_app.agents.config import DEFAULT_HEADER, Trigger
from sessions_app.exceptions import NotFound
from sessions_app.models import Session

log = logging.getLogger("clm.triggers")

#: A place in a trigger's text: a way into the body, its keys and numbers joined with dots; `{}` is the whole body.
PLACE = re.compile(r"\{([^{}]*)\}")
#: The longest key that names a request.
MAX_KEY = 200


def find(name: str) -> Trigger:
    """Return the trigger of that name, or raise NotFound."""
    known = config.current().triggers
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "there is none: docs/triggers.md says how to make one"
        raise NotFound(f"There is no trigger {name[:40]!r}; {there}.")
    return known[name]


def header_of(name: str) -> str:
    """Return in which header the trigger's sender signs; of one that there is not, where most do."""
    trigger = config.current().triggers.get(name)
    return trigger.signature_header if trigger else DEFAULT_HEADER


def is_signed(name: str, body: bytes, signature: str) -> bool:
    """Whether the body was signed with the trigger's own secret: HMAC-SHA256 in hex, with or without `sha256=`."""
    trigger = config.current().triggers.get(name)
    if trigger is None or trigger.secret_env is None:
        return False
    secret = os.environ.get(trigger.secret_env, "").strip()
    if not secret:
        log.error("%s is not set, so trigger %s believes no signature", trigger.secret_env, name)
        return False
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = signature.strip().removeprefix("sha256=").lower()
    return hmac.compare_digest(expected.encode(), given.encode())


def why_ignored(trigger: Trigger, payload: Any) -> str:
    """Return what of the body is otherwise than the trigger wants it, or nothing."""
    for way, wanted in trigger.when.items():
        if (found := _text_at(payload, way)) != wanted:
            return f"{way} is {found[:100]!r} and not {wanted!r}."
    return ""


def start(name: str, payload: Any, *, requester: User | None, idempotency_key: str) -> Session:
    """Start the session that the trigger asks for, or return the one that the same key started.

    A text that would be too long is cut: an alert must not be lost for its length. Raises what `Session.submit` does.
    """
    trigger = find(name)
    most = config.current().limits.max_query_chars
    query = filled(trigger.query, payload)
    key = idempotency_key or filled(trigger.key, payload)
    return Session.submit(
        query=query if len(query) <= most else query[: most - 1] + "…",
        environment=filled(trigger.environment, payload),
        requester=requester,
        submitter_id=f"trigger:{name}",
        graph=trigger.graph,
        idempotency_key=key if len(key) <= MAX_KEY else hashlib.sha256(key.encode()).hexdigest(),
        extra_fields={"trigger": name, "payload": payload},
    )


def filled(text: str, payload: Any) -> str:
    """Return the text with what the body has at each place; one that it has not is named."""
    return PLACE.sub(lambda place: _text_at(payload, place[1]), text)


def _text_at(payload: Any, way: str) -> str:
    value = payload
    for step in way.split(".") if way else ():
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return f"(no {way})"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
