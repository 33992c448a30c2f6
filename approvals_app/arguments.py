"""The form of one call's arguments: a field for each, typed by the tool's schema or by the value that stands there.

A value that was not touched comes back exactly as it was, also where the form could not show all of it: a secret, a
line break that a browser writes otherwise, a number's own way of being written. Nothing here needs a script: a list
has one empty place more than it has items, and each item a box that leaves it out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from approvals_app.requests import complaints, follow
from sessions_app import redaction
from sessions_app.templatetags.desk import unseen

#: Said of an argument that is not there.
ABSENT: Any = object()
#: Levels of objects in objects that get fields of their own; deeper ones are written as JSON.
DEEPEST = 4
#: Letters from which on a text gets several lines.
LONG = 60
#: Items of a list that get fields of their own; a longer list is written as JSON.
MOST_ITEMS = 40

_WHOLE = re.compile(r"[+-]?\d{1,300}")
_NEWLINES = re.compile(r"\r\n?")
_TYPES: dict[type, str] = {str: "text", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}
_SCHEMA_TYPES = {
    "string": "text",
    "boolean": "boolean",
    "integer": "integer",
    "number": "number",
    "array": "list",
    "object": "object",
}
#: What a person reads beside a field.
_WORDS = {
    "text": "text",
    "lines": "text, several lines",
    "integer": "whole number",
    "number": "number",
    "boolean": "yes or no",
    "choice": "one of these",
    "json": "JSON",
    "list": "list",
    "object": "object",
}


class Wrong(ValueError):
    """What was written into a field does not fit it."""


@dataclass(kw_only=True)
class Field:
    """One argument, or a part of one: what it is called, of which type it is, what stands in it."""

    prefix: str
    path: tuple[str | int, ...]
    kind: str
    value: Any = ABSENT
    schema: dict[str, Any] = field(default_factory=dict)
    required: bool = True
    nullable: bool = False
    hidden: bool = False
    fields: list[Field] = field(default_factory=list)
    slot: bool = False
    raw: str | None = None
    error: str = ""
    dropped: bool = False
    nothing: bool = False

    @property
    def name(self) -> str:
        """Its name in the form: a JSON pointer behind the call's prefix."""
        return "/".join([self.prefix, *(str(part).replace("~", "~0").replace("/", "~1") for part in self.path)])

    @property
    def id(self) -> str:
        """Its id on the page."""
        return re.sub(r"[^A-Za-z0-9_-]", lambda found: f"_{ord(found[0]):x}", self.name)

    @property
    def label(self) -> str:
        """What it is called beside its field."""
        last = self.path[-1] if self.path else ""
        if self.slot:
            return "one more"
        return f"{last + 1}." if isinstance(last, int) else str(last)

    @property
    def help(self) -> str:
        """What its schema says of it."""
        text = self.schema.get("description")
        return text if isinstance(text, str) else ""

    @property
    def type(self) -> str:
        """Its type, in words, with whether it may be missing."""
        words = _WORDS[self.kind]
        if self.slot or (self.required and not self.nullable):
            return words
        return f"{words}, or nothing" if self.required else f"{words}, may be left out"

    @property
    def removable(self) -> bool:
        """Whether it is an item of a list, which may be left out."""
        return bool(self.path) and isinstance(self.path[-1], int) and not self.slot

    @property
    def may_be_nothing(self) -> bool:
        """Whether a box says that it has no value: an empty text is a value, an empty number is none."""
        if self.kind == "json":
            return not self.required and not self.slot
        return self.kind in {"text", "lines"} and (self.nullable or not self.required) and not self.slot

    @property
    def options(self) -> list[tuple[str, str]]:
        """What can be chosen: each value as JSON, and as a person reads it."""
        if self.kind == "boolean":
            offered = [("true", "yes"), ("false", "no")]
        else:
            offered = [(json.dumps(one), one if isinstance(one, str) else json.dumps(one)) for one in self._enum()]
        if self.nullable or not self.required or self.value is ABSENT:
            offered.insert(0, ("", "no value"))
        return offered

    def _enum(self) -> list[Any]:
        given = [self.schema["const"]] if "const" in self.schema else list(self.schema.get("enum", ()))
        known = [one for one in given if one is not None]
        # The agent may have written something that is not offered; it stays, until somebody chooses otherwise.
        return known if self.value in (ABSENT, None) or self.value in known else [*known, self.value]

    @property
    def shown(self) -> str:
        """What the field shows of the value: nothing of a secret, and the mark where one is inside a text."""
        if self.value is ABSENT or self.hidden or (self.value is None and self.kind != "json"):
            return ""
        if self.kind in {"text", "lines"}:
            return redaction.shown_text(self.value)
        if self.kind == "json":
            return _escaped(json.dumps(redaction.shown(self.value), ensure_ascii=False, indent=2))
        return json.dumps(self.value)

    @property
    def text(self) -> str:
        """What stands in the field now: what was sent, or what it shows."""
        return self.shown if self.raw is None else self.raw

    def parse(self, data: Mapping[str, Any]) -> Any:
        """Return what was written, ABSENT where it is left out; what does not fit is said at its field."""
        if self.removable:
            self.dropped = f"drop:{self.name}" in data
        self.nothing = f"none:{self.name}" in data
        if self.fields or self.kind in {"object", "list"}:
            return self._parse_parts(data)
        sent = data.get(self.name)
        if sent is None:
            return self.value
        self.raw = str(sent)
        if self.nothing and self.may_be_nothing:
            return None if self.nullable else ABSENT
        if _plain(self.raw) == _plain(self.shown):
            return self.value
        try:
            return self._read(_plain(self.raw))
        except Wrong as wrong:
            self.error = str(wrong)
            return ABSENT

    def _parse_parts(self, data: Mapping[str, Any]) -> Any:
        if self.kind == "object":
            if self.slot and f"add:{self.name}" not in data:
                return ABSENT
            found = {str(part.path[-1]): part.parse(data) for part in self.fields}
            return {name: value for name, value in found.items() if value is not ABSENT}
        items = []
        for item in self.fields:
            value = item.parse(data)
            if item.slot and item.kind not in {"object", "list"} and not (item.raw or "").strip():
                item.error = ""
                continue
            if value is not ABSENT and not item.dropped:
                items.append(value)
        return ABSENT if self.value is ABSENT and not items else items

    def _read(self, text: str) -> Any:
        if redaction.MARK in text:
            raise Wrong("It has a hidden part in it: leave it as it was, or write all of it anew.")
        blank = not text.strip()
        if blank and self.kind not in {"text", "lines"}:
            if self.nullable:
                return None
            if not self.required or self.slot:
                return ABSENT
            raise Wrong("It needs a value.")
        match self.kind:
            case "integer":
                if not _WHOLE.fullmatch(text.strip()):
                    raise Wrong("A whole number is needed, like 12.")
                return int(text)
            case "number":
                return _number(text)
            case "boolean" | "choice":
                if text not in {value for value, _ in self.options}:
                    raise Wrong("Choose one of those that are offered.")
                return json.loads(text)
            case "json":
                return read_json(text)
        return text

    def at(self, path: tuple[str | int, ...]) -> Field:
        """Return the field of a path, or the one closest above it."""
        for part in self.fields:
            if path[: len(part.path)] == part.path:
                return part.at(path)
        return self

    def every(self) -> Iterator[Field]:
        """Yield the field and all that are in it."""
        yield self
        for part in self.fields:
            yield from part.every()


class ArgumentsForm:
    """The arguments of one call, to be edited; the tool's name is fixed."""

    def __init__(
        self, args: dict[str, Any], *, schema: dict[str, Any] | None, prefix: str, data: Mapping[str, Any] | None = None
    ) -> None:
        self.args = args
        self.schema = schema
        self.value: dict[str, Any] = args
        self.error = ""
        root = schema or {}
        self._root = root
        self.top = Field(prefix=prefix, path=(), kind="object", value=args, schema=root)
        self.top.fields = list(self._parts(self.top, 0, data))
        if data is not None:
            self._parse(data)

    @property
    def fields(self) -> list[Field]:
        """The arguments."""
        return self.top.fields

    @property
    def changed(self) -> bool:
        """Whether anything would be called otherwise."""
        return not same(self.value, self.args)

    @property
    def valid(self) -> bool:
        """Whether nothing was said against any field."""
        return not self.error and not any(part.error for part in self.top.every())

    def blame(self, path: tuple[str | int, ...], complaint: str) -> None:
        """Say what is wrong at the field of a path, or above all of them where it has none."""
        found = self.top.at(path)
        if found is self.top:
            self.error = self.error or complaint
        else:
            found.error = found.error or complaint

    def _parse(self, data: Mapping[str, Any]) -> None:
        self.value = self.top.parse(data)
        if self.valid and self.changed:
            for error in complaints(self.value, self.schema):
                self.blame(tuple(error.absolute_path), _sentence(error))

    def _parts(self, parent: Field, depth: int, data: Mapping[str, Any] | None) -> Iterator[Field]:
        if parent.kind == "list":
            yield from self._items(parent, depth, data)
            return
        known = parent.value if isinstance(parent.value, dict) else {}
        properties = parent.schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        needed = parent.schema.get("required")
        needed = needed if isinstance(needed, list) else []
        for name in [*properties, *(name for name in known if name not in properties)]:
            value = known.get(name, ABSENT)
            schema = properties.get(name) if isinstance(properties.get(name), dict) else {}
            required = name in needed or (name not in properties and value is not ABSENT)
            yield self._field(parent, name, schema or {}, value, depth, data, required=required)

    def _items(self, parent: Field, depth: int, data: Mapping[str, Any] | None) -> Iterator[Field]:
        items = parent.value if isinstance(parent.value, list) else []
        schema = parent.schema.get("items")
        schema = schema if isinstance(schema, dict) else {}
        for index, item in enumerate(items):
            yield self._field(parent, index, schema, item, depth, data)
        if not schema and items:
            schema = _schema_like(items[-1])
        index = len(items)
        while True:
            slot = self._field(parent, index, schema, ABSENT, depth, data, slot=True)
            yield slot
            index += 1
            used = data is not None and any(
                str(data.get(part.name) or "").strip() or f"add:{part.name}" in data for part in slot.every()
            )
            if not used or index > len(items) + MOST_ITEMS:
                break

    def _field(
        self,
        parent: Field,
        name: str | int,
        schema: dict[str, Any],
        value: Any,
        depth: int,
        data: Mapping[str, Any] | None,
        *,
        required: bool = True,
        slot: bool = False,
    ) -> Field:
        schema, nullable = _without_null(follow(schema, self._root), self._root, value)
        hidden = isinstance(name, str) and redaction.hides(name)
        found = Field(
            prefix=parent.prefix,
            path=(*parent.path, name),
            kind=_kind(schema, value, hidden=hidden, deep=depth >= DEEPEST),
            value=value,
            schema=schema,
            required=required and not slot,
            nullable=nullable,
            hidden=hidden and value not in (ABSENT, None, ""),
            slot=slot,
        )
        if found.kind in {"object", "list"}:
            found.fields = list(self._parts(found, depth + 1, data))
        return found


# Types ------------------------------------------------------------------------------------------------------------


def _without_null(schema: dict[str, Any], root: Mapping[str, Any], value: Any) -> tuple[dict[str, Any], bool]:
    """Return the schema of the value that is not null, and whether null is one, too."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        others = [kind for kind in kinds if kind != "null"]
        chosen = next((kind for kind in others if _SCHEMA_TYPES.get(kind) == _TYPES.get(type(value))), None)
        if chosen or len(others) == 1:
            return {**schema, "type": chosen or others[0]}, "null" in kinds
        return {key: inner for key, inner in schema.items() if key != "type"}, "null" in kinds
    for union in ("anyOf", "oneOf"):
        branches = [follow(one, root) for one in schema.get(union) or () if isinstance(one, dict)]
        if not branches:
            continue
        rest = [one for one in branches if one.get("type") != "null"]
        about = {key: inner for key, inner in schema.items() if key in {"description", "title"}}
        fitting = [one for one in rest if _SCHEMA_TYPES.get(str(one.get("type"))) == _TYPES.get(type(value))]
        chosen_branch = fitting[0] if fitting else rest[0] if len(rest) == 1 else {}
        return {**chosen_branch, **about}, len(rest) < len(branches)
    return schema, schema.get("type") == "null" or value is None


def _kind(schema: Mapping[str, Any], value: Any, *, hidden: bool, deep: bool) -> str:
    """Return how an argument is written: by its schema, or where that says nothing, by what stands there."""
    given = _TYPES.get(type(value), "")
    by_schema = _SCHEMA_TYPES.get(str(schema.get("type")), "")
    kind = by_schema or given or "json"
    if hidden:
        return kind if kind == "text" else "json"
    if isinstance(schema.get("enum"), list) or "const" in schema:
        return "choice"
    if value not in (ABSENT, None) and given != kind and (given, kind) != ("integer", "number"):
        # What stands there is not of the type that is asked for: only JSON can say both.
        return "json"
    if kind == "text" and isinstance(value, str) and unseen(value):
        return "json"
    if kind == "text":
        long = isinstance(value, str) and (len(value) > LONG or "\n" in value)
        return "lines" if long or (schema.get("maxLength") or 0) > 200 or schema.get("format") == "textarea" else "text"
    if kind == "list" and (deep or (isinstance(value, list) and len(value) > MOST_ITEMS)):
        return "json"
    if kind == "object" and (deep or not (schema.get("properties") or value not in (ABSENT, None, {}))):
        return "json"
    if kind in {"object", "list"} and value in (ABSENT, None):
        return "json" if kind == "object" or value is None else kind
    return kind


def _schema_like(value: Any) -> dict[str, Any]:
    """Return the schema that a list's next item has when it is like this one."""
    names = {kind: name for name, kind in _SCHEMA_TYPES.items()}
    return {"type": names[_TYPES[type(value)]]} if type(value) in _TYPES and not isinstance(value, (dict, list)) else {}


def _number(text: str) -> int | float:
    try:
        found = json.loads(text.strip(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or found in (float("inf"), float("-inf")):
        raise Wrong("A number is needed, like 0.5.")
    return found


def read_json(text: str) -> Any:
    """Return the value that a text is in JSON, or raise Wrong with where it stops being that."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise Wrong(
            f"This is no JSON: {error.msg} at line {error.lineno}, column {error.colno}. Texts go in quotes."
        ) from None
    except (ValueError, RecursionError):
        raise Wrong("This is no JSON that CLM can keep.") from None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _plain(text: str) -> str:
    return _NEWLINES.sub("\n", text)


def _escaped(text: str) -> str:
    """Return JSON with what cannot be seen written as an escape, which means the same."""
    return "".join(json.dumps(letter)[1:-1] if letter != "\n" and unseen(letter) else letter for letter in text)


def _sentence(error: Any) -> str:
    """Return a schema's complaint as a person would say it."""
    limit = error.validator_value
    match error.validator:
        case "maximum":
            return f"At most {limit}."
        case "minimum":
            return f"At least {limit}."
        case "exclusiveMaximum":
            return f"Less than {limit}."
        case "exclusiveMinimum":
            return f"More than {limit}."
        case "maxLength":
            return f"At most {limit} letters."
        case "minLength":
            return f"At least {limit} letter{'s' * (limit != 1)}."
        case "required":
            return f"{error.message}."
    return f"{redaction.shown_text(error.message)}."


# What is different ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One place at which two calls differ; `before` or `after` is missing where it is in one of them only."""

    name: str
    before: str | None
    after: str | None


def differences(before: Any, after: Any) -> list[Difference]:
    """Return where two calls' arguments differ, in the order in which they stand; secrets stay hidden."""
    old, new = dict(_leaves(before, ())), dict(_leaves(after, ()))
    return [
        Difference(name=_spelled(path), before=_said(path, old), after=_said(path, new))
        for path in [*old, *(path for path in new if path not in old)]
        if path not in old or path not in new or not same(old[path], new[path])
    ]


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: `1`, `1.0` and `true` are three."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict) and (value or not path):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _spelled(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _said(path: tuple[str | int, ...], values: Mapping[tuple[str | int, ...], Any]) -> str | None:
    if path not in values:
        return None
    value = values[path]
    if value not in (None, "") and any(isinstance(part, str) and redaction.hides(part) for part in path):
        return redaction.MARK
    return json.dumps(redaction.shown(value), ensure_ascii=False)
