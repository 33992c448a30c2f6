"""What is kept from every reader: secrets, found by the name they go by and by the shape they have.

Applied where something leaves the server: pages and pushed fragments (the filters of `desk`), the API and its errors
(the renderer), both event streams, the admin, an export marked as redacted. Never where something is stored: the
digest, the ledger, the checkpoint and the log keep the original, and the tool runs with it. docs/decisions.md lists
each place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sessions_app.agents import config
from sessions_app.exceptions import Invalid

#: What stands where a secret was.
MARK = "[redacted]"
#: Deeper than anything that a person reads; what lies deeper is left out.
DEEPEST = 60

#: Names by which a secret goes, alone or as the last part of a longer name (`db_password`, `X-Api-Key`).
NAMES = frozenset(
    {
        *("password", "passwd", "pwd", "passphrase", "secret", "token", "authorization", "proxy_authorization"),
        *("api_key", "apikey", "access_key", "secret_key", "private_key", "signing_key", "encryption_key"),
        *("client_secret", "credential", "credentials", "cookie", "set_cookie", "connection_string", "dsn"),
    }
)

_Shapes = tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]
_NAME = r"password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key"
#: Each shape with what must be in a text for it to be looked for: most texts have none, and a search for a fixed
#: word costs next to nothing. A group called `keep` stays, before the mark or after it.
_SHAPES: _Shapes = (
    (
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.S
        ),
    ),
    (("://",), re.compile(r"(?P<keep>\b[a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^\s:/@\"']{0,200}:)[^\s/@\"']{1,200}(?=@)")),
    (("eyJ",), re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")),
    (("AKIA", "ASIA"), re.compile(r"\bA(?:KIA|SIA)[A-Z0-9]{16}\b")),
    (
        ("earer", "EARER"),
        re.compile(r"(?P<keep>\b(?i:bearer)\s{1,4})(?=[A-Za-z._~+/=-]{0,400}\d)[A-Za-z0-9._~+/=-]{12,}"),
    ),
    (
        ("uthorization", "UTHORIZATION"),
        re.compile(r"(?P<keep>(?i:authorization)[\"']?\s{0,4}[:=]\s{0,4}[\"']?)[^\s\"',][^\r\n\"',]*"),
    ),
    (("gh",), re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}")),
    (("xox",), re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    (("sk-",), re.compile(r"\bsk-[A-Za-z0-9_-]{20,}")),
    (("AIza",), re.compile(r"\bAIza[A-Za-z0-9_-]{35}")),
    (
        ("=", ":"),
        re.compile(
            rf"(?P<keep>(?:\b|_)(?i:{_NAME})[\\\"']{{0,4}}\s{{0,4}}[:=]\s{{0,4}})(?![\\\"']{{0,4}}\[redacted\])"
            # In JSON, in JSON inside a text, or bare.
            r"(?:\"(?:[^\"\\\r\n]|\\.){1,2000}\"?|\\{1,3}\"[^\"\\\r\n]{1,2000}(?:\\{1,3}\")?|'[^'\r\n]{1,2000}'?"
            r"|[^\s\"'\\,;&){}\]\[]{3,})"
        ),
    ),
)
_WORDS = re.compile(_NAME, re.IGNORECASE)
_latest: tuple[object, tuple[frozenset[str], _Shapes]] = (None, (NAMES, _SHAPES))


class HiddenPart(Invalid):
    """This has a hidden part in it: leave it as it was, or write all of it anew."""


# Hiding -----------------------------------------------------------------------------------------------------------


def shown(value: Any) -> Any:
    """Return a JSON value without its secrets; what has none comes back equal."""
    return _shown(value, 0)


def shown_text(text: str) -> str:
    """Return a text without what has the shape of a secret."""
    for hints, shape in _shapes():
        if any(hint in text for hint in hints) and (shape is not _BY_NAME or _WORDS.search(text)):
            text = shape.sub(_mark, text)
    return text


def hides(name: str) -> bool:
    """Whether what goes by this name is a secret."""
    return _hides(name, _names())


def _shown(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return shown_text(value)
    if depth > DEEPEST:
        return value if isinstance(value, (int, float, bool, type(None))) else MARK
    if isinstance(value, Mapping):
        # A list of {name, value}, as an environment is often written.
        named = isinstance(value.get("name"), str) and hides(value["name"])
        return {
            name: MARK
            if _is_secret(inner) and (hides(str(name)) or (named and name == "value"))
            else _shown_properties(inner, depth + 1)
            if name == "properties" and _is_schema(inner)
            else _shown(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_shown(inner, depth + 1) for inner in value]
    return value


def _is_schema(value: Any) -> bool:
    """Whether this is what a JSON schema says of an object: there a name like `password` is no password."""
    return isinstance(value, Mapping) and all(
        isinstance(inner, Mapping) and inner.keys() & {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}
        for inner in value.values()
    )


def _shown_properties(properties: Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {name: _shown(inner, depth) for name, inner in properties.items()}


def _is_secret(value: Any) -> bool:
    """Whether there is something to hide: that a password is missing or empty is no secret."""
    return value not in (None, "", [], {}) and not isinstance(value, bool)


def _mark(found: re.Match[str]) -> str:
    return f"{found['keep']}{MARK}" if "keep" in found.re.groupindex else MARK


_BY_NAME = _SHAPES[-1][1]


@lru_cache(maxsize=4096)
def _hides(name: str, names: frozenset[str]) -> bool:
    # `apiKey`, `API-Key` and `api_key` are one name.
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", snake.lower()) if part]
    return any("_".join(parts[start:]) in names for start in range(len(parts)))


def _names() -> frozenset[str]:
    return _in_force()[0]


def _shapes() -> _Shapes:
    return _in_force()[1]


def _in_force() -> tuple[frozenset[str], _Shapes]:
    """Return the names and shapes to look for: the shipped ones and the site's, put together once."""
    global _latest
    current = config.current().redaction
    if _latest[0] is not current:
        own = {re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in current.names}
        shapes = tuple((("",), re.compile(pattern)) for pattern in current.patterns)
        _latest = (current, (NAMES | own, _SHAPES + shapes))
    return _latest[1]


# Putting back -----------------------------------------------------------------------------------------------------


def restored(edited: Any, original: Any) -> Any:
    """Return what somebody wrote over a redacted value, with the original wherever they left it as they saw it.

    Raises HiddenPart where a mark stands in anything else: it must never be written as if it were the value.
    """
    if edited == original or edited == shown(original):
        return original
    if isinstance(edited, dict):
        known = original if isinstance(original, dict) else {}
        seen = shown(known)
        return {
            name: known[name] if name in known and inner == seen[name] else restored(inner, known.get(name))
            for name, inner in edited.items()
        }
    if isinstance(edited, list):
        known_items = original if isinstance(original, list) else []
        return [restored(inner, _counterpart(inner, index, known_items)) for index, inner in enumerate(edited)]
    if isinstance(edited, str) and MARK in edited:
        raise HiddenPart
    return edited


def _counterpart(inner: Any, index: int, items: list[Any]) -> Any:
    """Return the item that this one was: at its place, or else the one that looks the same."""
    same = [item for item in items if shown(item) == inner]
    at_place = items[index] if index < len(items) else None
    return at_place if not same or at_place in same else same[0]
