"""The one TOML file: models, environments, risk, approvals, limits and words.

`CLM_CONFIG` names a file whose tables are laid over the shipped `default.toml`, so a site writes down only
what it wants otherwise. Whatever is wrong with it is said at once, each thing with its file and line.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from django.core.signals import setting_changed
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)

from sessions_app.agents.consequence import ToolWords
from sessions_app.agents.durations import Duration
from sessions_app.agents.risk import OnExpiry, RiskRule
from sessions_app.agents.toml_lines import Way, line_of, locate
from sessions_app.exceptions import ClmError

SHIPPED = Path(__file__).with_name("default.toml")
OFFLINE = "offline"

_OTHER_PROVIDERS = (
    *("anthropic_bedrock", "azure_ai", "baseten", "bedrock", "bedrock_converse", "bedrock_mantle_anthropic"),
    *("bedrock_mantle_openai", "cohere", "deepseek", "fireworks", "google_anthropic_vertex", "google_genai"),
    *("google_vertexai", "groq", "huggingface", "ibm", "langsmith", "litellm", "meta", "mistralai", "nvidia"),
    *("openrouter", "perplexity", "together", "upstage", "xai"),
)
#: Providers that `init_chat_model` knows, and CLM's extra where one brings the provider's package.
PROVIDERS: Mapping[str, str] = {
    **dict.fromkeys(_OTHER_PROVIDERS, ""),
    "anthropic": "anthropic",
    "azure_openai": "azure",
    "ollama": "ollama",
    "openai": "openai",
}

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,80}")
#: Where most senders sign.
DEFAULT_HEADER = "X-Hub-Signature-256"
_ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_SECRET = re.compile(
    r"(^|[_-])(api[_-]?key|key|secret|password|passwd|token|authorization|credentials?)$", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a configuration file."""

    path: Path
    line: int | None
    key: str
    text: str

    def __str__(self) -> str:
        """Return where it is, what it is and what to do."""
        where = f"{self.path}, line {self.line}" if self.line else str(self.path)
        return f"{where}: {self.key + ': ' if self.key else ''}{self.text}"


class ConfigError(ClmError):
    """The configuration cannot be used."""

    def __init__(self, *problems: Problem) -> None:
        """Take everything that is wrong, to be said at once."""
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def _chat_model_name(value: str) -> str:
    if value == OFFLINE:
        return value
    provider, _, name = value.partition(":")
    provider = provider.replace("-", "_").lower()
    if not name.strip() or value != value.strip():
        raise ValueError(f'must be "{OFFLINE}" or "provider:model": write for example "ollama:gpt-oss:20b"')
    if provider not in PROVIDERS:
        raise ValueError(f"names no provider that CLM knows{_closest(provider, PROVIDERS)}")
    return f"{provider}:{name}"


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError('must be an http or https address: write for example "http://127.0.0.1:11434"')
    if parts.username or parts.password:
        raise ValueError("must have no user or password in it: put the key in an environment variable, api_key_env")
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        # The text may be the key itself, so it is never repeated.
        raise ValueError(
            'must be the name of an environment variable, not the key itself: write for example "OPENAI_API_KEY"'
        )
    return value


ChatModelName = Annotated[
    str, BeforeValidator(lambda value: _chat_model_name(value) if isinstance(value, str) else value)
]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Table(BaseModel):
    """A table of the file: no key that it does not know, no value of another type, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelOptions(Table):
    """How a chat model is reached; what an agent leaves out is taken from `[models]`."""

    base_url: str | None = None
    api_key_env: str | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=3600)
    max_retries: int | None = Field(default=None, ge=0, le=10)
    temperature: float | None = Field(default=None, ge=0, le=2)
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return value if value is None else _base_url(value)

    @field_validator("api_key_env")
    @classmethod
    def _name_of_variable(cls, value: str | None) -> str | None:
        return value if value is None else _variable(value)


class Models(ModelOptions):
    """`[models]`: the chat model of every agent that has none of its own."""

    default: ChatModelName
    timeout_seconds: float = Field(gt=0, le=3600)
    max_retries: int = Field(ge=0, le=10)


class Agent(ModelOptions):
    """`[agents.<name>]`: what is different for one agent."""

    model: ChatModelName | None = None


class Environments(Table):
    """`[environments]`: where an incident can be."""

    names: Names = Field(min_length=1)

    @field_validator("names")
    @classmethod
    def _words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _ENVIRONMENT.fullmatch(name):
                raise ValueError(f"{name!r} must be lower-case letters, digits, - and _, at most 40 of them")
        if len(set(value)) < len(value):
            raise ValueError("has a name twice: write each once")
        return value


class Risk(Table):
    """`[risk]`: the rules, in the order in which they are tried."""

    rules: tuple[RiskRule, ...] = Field(strict=False)


class Questions(Table):
    """`[approvals.questions]`: what is different for a gate that asks for words and not for a call."""

    expires_after: Duration | None = None
    on_expiry: OnExpiry | None = None


class Approvals(Table):
    """`[approvals]`: how long a gate waits and what happens then, where no rule says otherwise; who may decide."""

    expires_after: Duration
    execution_expires_after: Duration
    on_expiry: OnExpiry
    questions: Questions = Questions()
    four_eyes: bool


class Limits(Table):
    """`[limits]`: how much at once, and how long a request may be."""

    concurrent_runs: int = Field(ge=1, le=1000)
    max_queued_sessions: int = Field(ge=1, le=1_000_000)
    max_query_chars: int = Field(ge=1, le=1_000_000)


class Trigger(Table):
    """`[triggers.<name>]`: the session that a webhook starts; `{way.into.it}` stands for what its body has there."""

    query: str = Field(min_length=1)
    environment: str = Field(min_length=1)
    graph: str = Field(default="incident", min_length=1)
    when: dict[str, str] = Field(default_factory=dict)
    key: str = ""
    secret_env: str | None = None
    signature_header: str = DEFAULT_HEADER

    @field_validator("secret_env")
    @classmethod
    def _name_of_variable(cls, value: str | None) -> str | None:
        return value if value is None else _variable(value)

    @field_validator("signature_header")
    @classmethod
    def _header(cls, value: str) -> str:
        if not _HEADER.fullmatch(value):
            raise ValueError(f'must be the name of a header: write for example "{DEFAULT_HEADER}"')
        return value

    @field_validator("query", "environment", "key")
    @classmethod
    def _whole_places(cls, value: str) -> str:
        if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", value)):
            raise ValueError('has a brace that is alone: write places as "{labels.service}"')
        return value


class Ui(Table):
    """`[ui]`: the name over the door, and the texts that a person can pick instead of writing."""

    brand_name: str = Field(min_length=1, max_length=60)
    brand_logo_url: str
    approval_rationale_templates: Names
    hitl_question_templates: Names

    @field_validator("brand_logo_url")
    @classmethod
    def _served_from_here(cls, value: str) -> str:
        if value and not re.match(r"/(?!/)|data:image/", value):
            raise ValueError(
                'must be a path on this server or a data:image/ address: write for example "/static/us.svg"'
            )
        return value


class Redaction(Table):
    """`[redaction]`: what no reader is shown, beside what is hidden anyway."""

    names: Names = ()
    patterns: Names = ()

    @field_validator("patterns")
    @classmethod
    def _expressions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                found = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
            if found.search(""):
                raise ValueError(f"{pattern!r} fits an empty text, so it would hide everything")
        return value


@dataclass(frozen=True)
class Source:
    """A file that a configuration was read from, and its text, which is searched for a key only when one is wrong."""

    path: Path
    tables: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    @functools.cached_property
    def lines(self) -> dict[Way, int]:
        """Where its keys stand."""
        return locate(self.text)

    def problem(self, way: Way, text: str) -> Problem:
        """Return what is wrong with the value at `way`, or with the closest thing to it."""
        return Problem(path=self.path, line=line_of(self.lines, way) or 1, key=spell(way), text=text)


class Config(Table):
    """Everything that the file says, checked."""

    models: Models
    agents: dict[str, Agent]
    environments: Environments
    risk: Risk
    approvals: Approvals
    limits: Limits
    redaction: Redaction
    triggers: dict[str, Trigger] = Field(default_factory=dict)
    ui: Ui
    tools: dict[str, ToolWords]

    _sources: tuple[Source, ...] = PrivateAttr(default=())

    def problem(self, way: Way, text: str) -> Problem:
        """Return a problem with a value that only showed in use, at the line where the value stands."""
        for source in self._sources:
            if way in source.lines:
                return source.problem(way, text)
        path = self._sources[0].path if self._sources else SHIPPED
        return Problem(path=path, line=None, key=spell(way), text=text)


def load(path: Path | None = None, *, own_graphs: bool = False) -> Config:
    """Return the shipped configuration with the tables of `path` laid over it.

    With graphs of one's own there are agents that the shipped file does not know, so only names that look
    like a slip of the pen are refused.
    Tables are merged key by key and lists are replaced, but for `[[risk.rules]]`: a site's rules are tried
    before the shipped ones, and a rule with the name of a shipped one stands in its place.
    """
    shipped = read(SHIPPED)
    own = read(path) if path is not None else Source(SHIPPED)
    if problems := list(_secrets(own)):
        raise ConfigError(*problems)
    tables = _laid_over(shipped.tables, own.tables)
    _put_rules_first(tables, shipped.tables, own.tables)
    blamed = own if path is not None else shipped
    try:
        config = Config.model_validate(tables)
    except ValidationError as error:
        raise ConfigError(*_distinct(_complaint(blamed, details) for details in error.errors())) from None
    unfit = chain(_unknown_names(own, shipped, config, own_graphs=own_graphs), _unfit_triggers(own, config))
    if problems := list(_distinct(unfit)):
        raise ConfigError(*problems)
    config._sources = (own, shipped)
    return config


@functools.lru_cache(maxsize=1)
def current() -> Config:
    """Return the configuration that `settings.CLM_CONFIG` names, read once per process."""
    from django.conf import settings

    return load(settings.CLM_CONFIG, own_graphs=bool(settings.CLM_GRAPHS))


def _forget(*, setting: str, **_: Any) -> None:
    if setting in {"CLM_CONFIG", "CLM_GRAPHS"}:
        current.cache_clear()


setting_changed.connect(_forget, dispatch_uid="sessions_app.agents.config")


def read(path: Path) -> Source:
    """Return the tables of a TOML file, and its text."""

    def refuse(line: int | None, text: str) -> ConfigError:
        return ConfigError(Problem(path=path, line=line, key="", text=text))

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise refuse(
            None, f"cannot be read ({error.strerror}): point CLM_CONFIG at a file that can, or unset it."
        ) from None
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise refuse(line, "is not UTF-8 text: save the file as UTF-8.") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).partition(" (at ")
        found = re.search(r"line (\d+)", where)
        line = int(found[1]) if found else text.count("\n") + 1
        raise refuse(line, f"is not TOML here: {what}. {_toml_advice(text, line)}") from None
    return Source(path, tables, text)


def spell(way: Way) -> str:
    """Return a way as it would be written in the file."""
    text = ""
    for part in way:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'
            text += f".{name}" if text else name
    return text


def _toml_advice(text: str, line: int) -> str:
    lines = text.splitlines()
    content = lines[line - 1] if line <= len(lines) else ""
    if re.match(r"\s*[A-Za-z0-9_.-]+\s*=\s*[A-Za-z]", content):
        return "Put text in quotes."
    return "Write tables as [name] and values as key = value."


def _laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        both_tables = isinstance(value, dict) and isinstance(below, dict)
        merged[key] = _laid_over(below, value) if both_tables else value  # type: ignore[arg-type]
    return merged


def _put_rules_first(tables: dict[str, Any], shipped: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    risk = own.get("risk")
    rules = risk.get("rules") if isinstance(risk, dict) else None
    if isinstance(rules, list):
        names = {rule.get("name") for rule in rules if isinstance(rule, dict)}
        kept = [rule for rule in shipped["risk"]["rules"] if rule["name"] not in names]
        tables["risk"] = tables["risk"] | {"rules": rules + kept}


def _secrets(source: Source) -> Iterator[Problem]:
    """Yield a problem for every key in the model tables that looks as if it held a secret."""
    for table in ("models", "agents"):
        for way in _keys(source.tables.get(table), (table,)):
            if isinstance(way[-1], str) and way != ("agents", way[-1]) and _SECRET.search(way[-1]):
                yield source.problem(
                    way,
                    "a secret does not belong in this file: put it in an environment variable, and write "
                    "that variable's name as api_key_env.",
                )


def _keys(value: Any, way: Way) -> Iterator[Way]:
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, below in items:
        yield (*way, key)
        yield from _keys(below, (*way, key))


def _unknown_names(own: Source, shipped: Source, config: Config, *, own_graphs: bool) -> Iterator[Problem]:
    """Yield a problem for every agent, tool and environment of a site's file that does not exist.

    The shipped file has a table for each agent and tool, so it is the list of them; a site that adds tools of
    its own gives each a table.
    """
    agents, tools = list(shipped.tables["agents"]), list(shipped.tables["tools"])
    servers = list(dict.fromkeys(tool.partition(":")[0] for tool in tools))
    for name in own.tables.get("agents", {}):
        slip = difflib.get_close_matches(name, agents, cutoff=0.8)
        if name not in agents and (slip or not own_graphs):
            yield own.problem(("agents", name), f"there is no such agent{_closest(name, agents)}")
    for name in own.tables.get("tools", {}):
        server, colon, _ = name.partition(":")
        if not colon:
            yield own.problem(("tools", name), f'must be "server:tool"{_closest(name, tools)}')
        elif name not in tools and difflib.get_close_matches(server, servers, cutoff=0.8):
            yield own.problem(("tools", name), f"there is no such tool{_closest(name, tools)}")
    named = set[str]()
    for index, rule in enumerate(config.risk.rules):
        way: Way = ("risk", "rules", index)
        if rule.name in named:
            yield own.problem((*way, "name"), f"{rule.name!r} is the name of two rules: give each its own.")
        named.add(rule.name)
        if not any(rule.covers(tool) for tool in config.tools):
            known = [*config.tools, *(f"{server}:*" for server in servers)]
            yield own.problem((*way, "tool"), f"{rule.tool!r} matches no tool{_closest(rule.tool, known)}")
        for environment in rule.environments:
            if environment not in config.environments.names:
                yield own.problem(
                    (*way, "environments"),
                    f"{environment!r} is no environment{_closest(environment, config.environments.names)}",
                )


def _unfit_triggers(own: Source, config: Config) -> Iterator[Problem]:
    """Yield a problem for every trigger that nothing could call, or that names an environment that does not exist."""
    for name, trigger in config.triggers.items():
        if not _ENVIRONMENT.fullmatch(name):
            text = "must be lower-case letters, digits, - and _, at most 40 of them: it stands in an address."
            yield own.problem(("triggers", name), text)
        if "{" not in trigger.environment and trigger.environment not in config.environments.names:
            close = _closest(trigger.environment, config.environments.names)
            text = f"{trigger.environment!r} is no environment{close}"
            yield own.problem(("triggers", name, "environment"), text)


def _closest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: the name that was probably meant, or all that there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f": did you mean {close[0]!r}?" if close else f": write one of {', '.join(names)}."


def _distinct(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield one problem per key: pydantic reports a value that fits none of several types once for each."""
    seen = set[tuple[int | None, str]]()
    for problem in problems:
        if (problem.line, problem.key) not in seen:
            seen.add((problem.line, problem.key))
            yield problem


_TYPES = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number, without quotes",
    "float_type": "must be a number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "list_type": 'must be a list: ["…", "…"]',
    "tuple_type": 'must be a list: ["…", "…"]',
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "string_too_short": "must not be empty",
}


def _complaint(source: Source, details: Any) -> Problem:
    """Return pydantic's complaint in words for the person who wrote the file; it never repeats the value."""
    way, kind = _real_way(details["loc"]), details["type"]
    if kind == "extra_forbidden":
        known = _fields(way[:-1])
        return source.problem(way, f"there is no such key{_closest(str(way[-1]), known)}")
    if kind == "missing":
        return source.problem(way, f"is missing: write {way[-1]} = … there.")
    if kind == "value_error":
        return source.problem(way, f"{details['ctx']['error']}.".replace("?.", "?").replace("..", "."))
    if kind == "literal_error":
        words = details["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return source.problem(way, f"must be one of {words}.")
    text = _TYPES.get(kind) or details["msg"].replace("Input should", "must", 1).replace("must be a valid", "must be a")
    return source.problem(way, f"{text}.")


def _real_way(location: tuple[str | int, ...]) -> Way:
    """Return the location without the names of union members that pydantic adds at its end."""
    while location and isinstance(location[-1], str) and location[-1] in {
        "str", "int", "float", "bool", "list[union[str,int,float,bool]]"
    }:  # fmt: skip
        location = location[:-1]
    return location


def _fields(way: Way) -> list[str]:
    """Return the keys that the table at `way` can have."""
    model: Any = Config
    for part in way:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:  # the value of a dict, the item of a tuple
            model = [kind for kind in typing.get_args(model) if kind is not Ellipsis][-1]
        if typing.get_origin(model) in {typing.Union, types.UnionType}:
            model = typing.get_args(model)[0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
