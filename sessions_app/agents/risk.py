"""How risky a tool call is: rules in order, the first that matches decides, and no rule means a gate.

Pure: the same call, environment and rules give the same judgement. A judgement is stored when a call is first
seen and never made again, so a rule that changes while a gate waits changes nothing about that gate.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from sessions_app.agents.context import Judgement
from sessions_app.agents.durations import Duration

Level = Literal["low", "medium", "high", "forbidden"]
#: What happens when nobody decides in time: the call is rejected and the agent goes on, or the session ends.
OnExpiry = Literal["reject", "stop", "escalate"]
Scalar = str | int | float | bool
#: Argument name -> the value, or the values, that it must have.
When = dict[str, Scalar | list[Scalar]]

LEVELS: tuple[Level, ...] = ("low", "medium", "high", "forbidden")
#: The name that a judgement carries when no rule matched.
UNLISTED = "unlisted"

_PATTERN = re.compile(r"\*|[A-Za-z0-9_.*?-]+:[A-Za-z0-9_.*?-]+")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class RiskRule(BaseModel):
    """One rule of `[[risk.rules]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    tool: str
    risk: Level
    environments: tuple[str, ...] = Field(default=(), strict=False)
    when: When = Field(default_factory=dict)
    reason: str = ""
    #: Of the gates of this rule; what is left out is taken from `[approvals]`.
    expires_after: Duration | None = None
    execution_expires_after: Duration | None = None
    on_expiry: OnExpiry | None = None

    @field_validator("tool")
    @classmethod
    def _server_and_tool(cls, value: str) -> str:
        if not _PATTERN.fullmatch(value):
            raise ValueError('must be "server:tool", where * stands for any letters: write for example "local_inc:*"')
        return value

    @field_validator("name", "reason")
    @classmethod
    def _plain_word(cls, value: str) -> str:
        if value and not _NAME.fullmatch(value):
            raise ValueError("must be lower-case letters, digits and _, starting with a letter")
        return value

    @field_validator("name")
    @classmethod
    def _has_name(cls, value: str) -> str:
        if not value or value == UNLISTED:
            raise ValueError(f'must be a name of its own, other than "{UNLISTED}"')
        return value

    @field_validator("expires_after", "execution_expires_after", "on_expiry")
    @classmethod
    def _of_a_gate(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("risk", "high") != "high":
            raise ValueError('is for calls that wait for a person: write risk = "high", or leave this out')
        return value

    @property
    def version(self) -> str:
        """Return eight hex digits that change when anything in the rule changes."""
        return _version(self.model_dump(mode="json", exclude_none=True))

    @property
    def gates(self) -> bool:
        """Whether a call that this rule decides stops, for a person or for good."""
        return self.risk in {"high", "forbidden"}

    @property
    def unconditional(self) -> bool:
        """Whether every call of its tools matches, whatever the arguments and wherever."""
        return not self.environments and not self.when

    def covers(self, tool: str) -> bool:
        """Whether the rule is about `tool` at all."""
        return fnmatchcase(tool, self.tool)

    def matches(self, tool: str, args: Mapping[str, Any], environment: str) -> bool:
        """Whether the rule decides this call."""
        return (
            self.covers(tool)
            and (not self.environments or environment in self.environments)
            and holds(self.when, args, loosely=self.gates)
        )

    def judgement(self) -> Judgement:
        """Return what the rule says of a call that it matches."""
        usual = {
            "low": "low_risk",
            "medium": "medium_risk",
            "high": "gated_environment" if self.environments else "high_risk",
            "forbidden": "forbidden",
        }[self.risk]
        return Judgement(level=self.risk, reason=self.reason or usual, rule=self.name, rule_version=self.version)


def judge(tool: str, args: Mapping[str, Any], environment: str, rules: Sequence[RiskRule]) -> Judgement:
    """Return what the first matching rule says of the call; a call that no rule matches waits for a person.

    `tool` is the public name, `server:tool`.
    """
    for rule in rules:
        if rule.matches(tool, args, environment):
            return rule.judgement()
    return Judgement(
        level="high",
        reason="unlisted_tool",
        rule=UNLISTED,
        rule_version=_version({"risk": "high", "reason": "unlisted_tool"}),
    )


def may_gate(tool: str, rules: Sequence[RiskRule]) -> bool:
    """Whether any call of `tool` could be high or forbidden, so its agent needs a checkpoint to stop at."""
    for rule in rules:
        if rule.covers(tool):
            if rule.gates:
                return True
            if rule.unconditional:
                return False
    return True


def holds(when: Mapping[str, Any], args: Mapping[str, Any], *, loosely: bool = False) -> bool:
    """Whether every argument that `when` names has the value, or one of the values, asked for.

    Loosely means: whatever case, blanks or type it is written in, and also inside a list. Rules that gate or
    forbid compare loosely and rules that let a call run compare exactly, so a doubt never loosens a rule.
    """
    for name, wanted in when.items():
        if name not in args:
            return False
        values = wanted if isinstance(wanted, list) else [wanted]
        if not any(_same(value, args[name], loosely=loosely) for value in values):
            return False
    return True


def _same(wanted: Any, given: Any, *, loosely: bool) -> bool:
    if not loosely:
        return type(wanted) is type(given) and bool(wanted == given)
    if isinstance(given, list | tuple | set):
        return any(_same(wanted, item, loosely=True) for item in given)
    return _text(wanted) == _text(given)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def _version(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]
