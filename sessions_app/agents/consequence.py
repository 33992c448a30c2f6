"""What a tool call would do, in a sentence that a tired person can decide on, and whether it can be undone.

The words come from `[tools]` of the configuration. Arguments are put in as text, once, with a length limit
and without control characters: what an agent writes can neither reach into the process nor forge a sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sessions_app.agents.risk import When, holds

#: Letters of one argument that a sentence shows; the card shows the whole call beside it.
MAX_ARGUMENT = 80
#: Arguments that the sentence of an undescribed tool shows.
MAX_ARGUMENTS = 6

_PLACE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Words(BaseModel):
    """What to say of a call; `${name}` stands for an argument, `${environment}` for where the incident is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sentence: str = ""
    reversible: bool | None = None
    undo: str = ""
    breaks: str = ""

    @field_validator("sentence", "undo", "breaks")
    @classmethod
    def _places(cls, value: str) -> str:
        if "$" in _PLACE.sub("", value):
            raise ValueError("has a $ that opens no ${argument}: write for example ${service}")
        if value.count("**") % 2:
            raise ValueError("has a ** without its pair: write **${service}** for bold")
        return value


class Variant(Words):
    """Other words for calls whose arguments have the values of `when`."""

    when: When


class ToolWords(Words):
    """The table `[tools."server:tool"]`."""

    variants: tuple[Variant, ...] = Field(default=(), strict=False)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a sentence; templates render it, escaped, in bold when `strong`."""

    text: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """What a call does, to be read after "`agent` wants to"."""

    parts: tuple[Part, ...]
    reversible: bool | None = None
    undo: str = ""
    breaks: str = ""
    described: bool = True

    @property
    def sentence(self) -> str:
        """Return the sentence as plain text."""
        return "".join(part.text for part in self.parts)

    @property
    def undoable(self) -> str:
        """Return the answer to "Can be undone?": yes, no, or that nobody said."""
        answer = {True: "yes", False: "no", None: "not known"}[self.reversible]
        return f"{answer}, {self.undo}" if self.undo else answer

    @property
    def text(self) -> str:
        """Return everything in one line, for mail, chat and logs."""
        line = f"{self.sentence}. Can be undone: {self.undoable.rstrip('.')}."
        return f"{line} {self.breaks}" if self.breaks else line


def consequence(
    tool: str,
    args: Mapping[str, Any],
    *,
    environment: str = "",
    tools: Mapping[str, ToolWords] | None = None,
) -> Consequence:
    """Return what the call would do, in the words of the configuration or in safe general ones.

    Without `tools` it reads the configuration in force.
    """
    if tools is None:
        from sessions_app.agents.config import current

        tools = current().tools
    from sessions_app.redaction import shown as without_secrets

    # The sentence goes where the call itself does not: into rows, titles and notices.
    args = without_secrets(dict(args))
    words = tools.get(tool)
    values = {**args, "environment": environment or args.get("environment", "")}
    if words is None or not (chosen := _choose(words, args)).sentence:
        return Consequence(parts=_general(tool, args, environment), described=False)
    return Consequence(
        parts=_parts(chosen.sentence, values),
        reversible=chosen.reversible,
        undo=_fill(chosen.undo, values),
        breaks=_fill(chosen.breaks, values),
    )


def _choose(words: ToolWords, args: Mapping[str, Any]) -> Words:
    """Return the first variant that holds, with the tool's own words where the variant has none."""
    for variant in words.variants:
        if holds(variant.when, args):
            own = variant.model_dump(exclude_unset=True, exclude={"when"})
            return Words(**(words.model_dump(exclude={"variants"}) | own))
    return words


def _parts(template: str, values: Mapping[str, Any]) -> tuple[Part, ...]:
    # Split before the arguments are put in, so an argument with ** in it stays text.
    pieces = ((_fill(piece, values), index % 2 == 1) for index, piece in enumerate(template.split("**")))
    return tuple(Part(text=text, strong=strong) for text, strong in pieces if text)


def _fill(template: str, values: Mapping[str, Any]) -> str:
    return _PLACE.sub(lambda place: shown(values.get(place[1])) or f"(no {place[1]})", template)


def _general(tool: str, args: Mapping[str, Any], environment: str) -> tuple[Part, ...]:
    parts = [Part(text="call "), Part(text=shown(tool), strong=True)]
    listed = [f"{shown(name)} {shown(value) or '(empty)'}" for name, value in list(args.items())[:MAX_ARGUMENTS]]
    if len(args) > MAX_ARGUMENTS:
        listed.append(f"{len(args) - MAX_ARGUMENTS} more")
    if listed:
        parts.append(Part(text=f" with {', '.join(listed)}"))
    if environment:
        parts.append(Part(text=f" in {shown(environment)}"))
    return tuple(parts)


def shown(value: Any) -> str:
    """Return a value as one short line: no control, direction or invisible characters, nothing too long."""
    if value is None:
        return ""
    # str() of a huge nested argument is cut before it is cleaned, so its length costs nothing.
    letters = str(value)[: MAX_ARGUMENT * 8]
    line = " ".join("".join(" " if unicodedata.category(x)[0] in "CZ" else x for x in letters).split())
    return line if len(line) <= MAX_ARGUMENT else line[: MAX_ARGUMENT - 1].rstrip() + "…"
