"""Reads every dialect in which a graph asks, and writes each answer in the dialect of its question. Pure.

The first dialect that fits a value reads it; none is refused, because the last takes anything and is answered with
JSON. docs/decisions.md has a table of them, tests/corpus/ a recorded question of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import jsonschema
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing.exceptions import Unresolvable

from approvals_app.exceptions import AnswerUnfit
from approvals_app.states import DecisionType, GateKind
from sessions_app.agents.tools import CATALOGUE, public_name

_ALL = tuple(str(one) for one in DecisionType)
APPROVE, EDIT, REJECT, RESPOND = _ALL


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an interrupt asks, in CLM's words.

    `calls` are `{tool_call_id, tool, args}`; of several, each also has its `allowed` decisions and `description`.
    """

    kind: GateKind
    calls: tuple[dict[str, Any], ...] = ()
    agent: str = ""
    question: str = ""
    reasoning: str = ""
    reason: str = ""
    allowed: tuple[str, ...] = _ALL
    about: dict[str, Any] = field(default_factory=dict)


#: Said of an answer that was given in words alone: `null` is an answer too.
NOTHING: Any = object()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A person's word on one call or one question.

    `args` are those of an edit, `value` is the answer where JSON is asked for, `extra` goes along with an answer.
    """

    type: DecisionType
    message: str = ""
    args: dict[str, Any] | None = None
    value: Any = NOTHING
    extra: Mapping[str, Any] = field(default_factory=dict)


# The dialects ---------------------------------------------------------------------------------------------------


class Dialect:
    """One way to ask: which values are in it, what they ask, and the answer that such a graph expects."""

    name: ClassVar[str]

    def fits(self, value: Any) -> bool:
        """Whether the value is in this dialect, to the last part that `read` needs."""
        raise NotImplementedError

    def read(self, value: Any, schema: Any) -> Asked:
        """Return what the value asks; `schema` is what the graph published for the answer."""
        raise NotImplementedError

    def write(self, value: Any, verdicts: Sequence[Verdict]) -> Any:
        """Return the answer to the value: one verdict for each call in order, or one for the question."""
        raise NotImplementedError

    def refuse(self, value: Any, why: str) -> list[Any]:
        """Return answers that run nothing, the best first: the first that the graph's schema takes is sent."""
        return [{"type": REJECT, "message": why}]

    def takes_json(self, schema: Any) -> bool:
        """Whether a person answers with JSON instead of words."""
        return False


class ToolApproval(Dialect):
    """LangChain's `per_call` interrupt: one gated call, answered with one decision."""

    name = "tool_approval"

    def fits(self, value: Any) -> bool:
        return _is(value, "tool_approval") and isinstance(value.get("name"), str)

    def read(self, value: Any, schema: Any) -> Asked:
        return Asked(
            kind=GateKind.TOOL_APPROVAL,
            calls=(_call(value),),
            reasoning=_text(value.get("description")),
            allowed=_allowed_by(schema) or (APPROVE, EDIT, REJECT),
        )

    def write(self, value: Any, verdicts: Sequence[Verdict]) -> Any:
        return _decision(verdicts[0], str(value["name"]))


class UnknownOutcome(Dialect):
    """CLM's own: a call was cut off, and nobody knows whether it ran."""

    name = "unknown_outcome"

    def fits(self, value: Any) -> bool:
        return _is(value, "unknown_outcome")

    def read(self, value: Any, schema: Any) -> Asked:
        return Asked(
            kind=GateKind.UNKNOWN_OUTCOME,
            calls=(_call(value),),
            agent=_text(value.get("agent")),
            question=_text(value.get("description")),
            reason="unknown_outcome",
            allowed=(APPROVE, RESPOND, REJECT),
        )

    def write(self, value: Any, verdicts: Sequence[Verdict]) -> Any:
        return _decision(verdicts[0], "")


class Batch(Dialect):
    """LangChain's `HITLRequest`: the gated calls of one turn, answered together with a decision for each, in order."""

    name = "batch"

    def fits(self, value: Any) -> bool:
        actions = value.get("action_requests") if isinstance(value, Mapping) else None
        return isinstance(actions, list) and bool(actions) and all(map(_is_action, actions))

    def read(self, value: Any, schema: Any) -> Asked:
        actions, configs = value["action_requests"], _review_configs(value)
        calls = []
        for position, action in enumerate(actions):
            allowed = configs[position].get("allowed_decisions")
            known = [one for one in _ALL if one in allowed] if isinstance(allowed, list) else []
            calls.append(_call(action, position) | {"allowed": known or list(_ALL)})
        if len(calls) == 1:
            (call,) = calls
            return Asked(
                kind=GateKind.TOOL_APPROVAL,
                calls=({name: call[name] for name in ("tool_call_id", "tool", "args")},),
                reasoning=_text(actions[0].get("description")),
                allowed=tuple(call["allowed"]),
            )
        for call, action in zip(calls, actions, strict=True):
            call["description"] = _text(action.get("description"))
        # One word for all of them can be neither an edit nor an answer: those are each call's own.
        shared = tuple(one for one in (APPROVE, REJECT) if all(one in call["allowed"] for call in calls))
        return Asked(kind=GateKind.BATCH, calls=tuple(calls), allowed=shared)

    def write(self, value: Any, verdicts: Sequence[Verdict]) -> Any:
        actions = value["action_requests"]
        return {
            "decisions": [
                _decision(verdict, str(action["name"])) for verdict, action in zip(verdicts, actions, strict=True)
            ]
        }

    def refuse(self, value: Any, why: str) -> list[Any]:
        return [{"decisions": [{"type": REJECT, "message": why} for _ in value["action_requests"]]}]


class HumanInterrupt(Dialect):
    """The older Agent Inbox request, `{action_request, config, description}`, alone or in a list.

    A list is answered with a list, in order; one alone with one response, `{type, args}`.
    """

    name = "human_interrupt"
    _asks: ClassVar[dict[str, str]] = {
        "allow_accept": APPROVE,
        "allow_edit": EDIT,
        "allow_ignore": REJECT,
        "allow_respond": RESPOND,
    }

    def fits(self, value: Any) -> bool:
        requests = value if isinstance(value, list) else [value]
        return bool(requests) and all(self._is_request(one) and self._allowed(one) for one in requests)

    def _is_request(self, one: Any) -> bool:
        action = one.get("action_request") if isinstance(one, Mapping) else None
        return isinstance(action, Mapping) and isinstance(action.get("action"), str)

    def _allowed(self, one: Mapping[str, Any]) -> list[str]:
        config = one.get("config")
        if not isinstance(config, Mapping):
            return list(_ALL)
        return [decision for name, decision in self._asks.items() if config.get(name)]

    def read(self, value: Any, schema: Any) -> Asked:
        requests = value if isinstance(value, list) else [value]
        calls = [
            _call({"name": one["action_request"]["action"], "args": one["action_request"].get("args")}, position)
            for position, one in enumerate(requests)
        ]
        if len(calls) == 1:
            return Asked(
                kind=GateKind.TOOL_APPROVAL,
                calls=(calls[0],),
                reasoning=_text(requests[0].get("description")),
                allowed=tuple(self._allowed(requests[0])),
            )
        for call, one in zip(calls, requests, strict=True):
            call |= {"allowed": self._allowed(one), "description": _text(one.get("description"))}
        shared = tuple(one for one in (APPROVE, REJECT) if all(one in call["allowed"] for call in calls))
        return Asked(kind=GateKind.BATCH, calls=tuple(calls), allowed=shared)

    def write(self, value: Any, verdicts: Sequence[Verdict]) -> Any:
        requests = value if isinstance(value, list) else [value]
        answers = [self._response(one, verdict) for one, verdict in zip(requests, verdicts, strict=True)]
        return answers if isinstance(value, list) else answers[0]

    def _response(self, one: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
        match verdict.type:
            case DecisionType.APPROVE:
                return {"type": "accept", "args": one["action_request"]}
            case DecisionType.EDIT:
                return {"type": "edit", "args": {"action": one["action_request"]["action"], "args": verdict.args or {}}}
            case DecisionType.RESPOND:
                return {"type": "response", "args": verdict.message}
        return {"type": "ignore", "args": None}

    def refuse(self, value: Any, why: str) -> list[Any]:
        requests = value if isinstance(value, list) else [value]
        answers = [
            {"type": "response", "args": why}
            if RESPOND in self._allowed(one) and REJECT not in self._allowed(one)
            else {"type": "ignore", "args": None}
            for one in requests
        ]
        return [answers if isinstance(value, list) else answers[0]]


class Question(Dialect):
    """CLM's own question, `{type: "question", question, …}`: answered with `{type: "respond", message}`."""

    name = "question"

    def fits(self, value: Any) -> bool:
        return _is(value, "question")

    def read(self, value: Any, schema: Any) -> Asked:
        return Asked(
            kind=GateKind.QUESTION,
            agent=_text(value.get("agent")),
            question=_text(value.get("question")),
            reasoning=_text(value.get("summary")),
            reason=_text(value.get("reason")) or "asked_by_agent",
            allowed=(RESPOND,),
            about={key: value[key] for key in ("confidence", "evidence") if key in value},
        )

    def write(self, value: Any, verdicts: Sequence[Verdict]) -> Any:
        return _decision(verdicts[0], "") | dict(verdicts[0].extra)


class Words(Dialect):
    """A text, or an object with a `question` in it: answered with a text, unless the graph's schema takes none."""

    name = "text"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) or (isinstance(value, Mapping) and isinstance(value.get("question"), str))

    def read(self, value: Any, schema: Any) -> Asked:
        known = {} if isinstance(value, str) else value
        return Asked(
            kind=GateKind.QUESTION,
            agent=_text(known.get("agent")),
            question=value if isinstance(value, str) else value["question"],
            reasoning=_text(known.get("summary")),
            reason=_text(known.get("reason")) or "asked_by_agent",
            allowed=(RESPOND,),
            about={key: known[key] for key in ("confidence", "evidence") if key in known},
        )

    def write(self, value: Any, verdicts: Sequence[Verdict]) -> Any:
        return verdicts[0].message if verdicts[0].value is NOTHING else verdicts[0].value

    def refuse(self, value: Any, why: str) -> list[Any]:
        return [why, {"type": REJECT, "message": why}, None, False]

    def takes_json(self, schema: Any) -> bool:
        return not _takes_words(schema)


class Raw(Words):
    """Anything else: shown as it came, and answered with any JSON that the graph's schema takes."""

    name = "raw"

    def fits(self, value: Any) -> bool:
        return True

    def read(self, value: Any, schema: Any) -> Asked:
        return Asked(
            kind=GateKind.QUESTION,
            agent=_text(value.get("agent")) if isinstance(value, Mapping) else "",
            question="The agent asks for an answer to the request below.",
            reason="asked_by_agent",
            allowed=(RESPOND,),
        )

    def takes_json(self, schema: Any) -> bool:
        return True


#: In the order in which they are tried.
DIALECTS: tuple[Dialect, ...] = (
    ToolApproval(),
    UnknownOutcome(),
    Batch(),
    HumanInterrupt(),
    Question(),
    Words(),
    Raw(),
)


def dialect_of(value: Any) -> Dialect:
    """Return the dialect that an interrupt's value is in."""
    return next(dialect for dialect in DIALECTS if dialect.fits(value))


def read(value: Any, schema: Any) -> Asked:
    """Return what the interrupt's value asks."""
    return dialect_of(value).read(value, schema)


def answer(request: Any, verdicts: Sequence[Verdict], schema: Any) -> Any:
    """Return the value that resumes the interrupt, checked against the schema that the graph published.

    Raises AnswerUnfit with the schema's own complaint.
    """
    found = dialect_of(request).write(request, verdicts)
    if error := best_match(complaints(found, schema)):
        where = ".".join(str(part) for part in error.absolute_path) or "answer"
        raise AnswerUnfit(f"{where}: {error.message}", path=where, complaint=error.message)
    return found


def refused(kind: GateKind, *, calls: list[dict[str, Any]], request: Any, why: str, schema: Any = None) -> Any:
    """Return the answer that runs nothing, for a gate that ends without a person (fail closed)."""
    offered = dialect_of(request).refuse(request, why)
    return next((one for one in offered if not any(complaints(one, schema))), offered[0])


# Schemas --------------------------------------------------------------------------------------------------------


def complaints(value: Any, schema: Any) -> Iterator[ValidationError]:
    """Yield what the JSON schema says against the value; a schema that is none says nothing.

    A union says only that nothing fits, so of each complaint the deepest is taken: that says what is wrong.
    """
    if not isinstance(schema, dict):
        return
    try:
        for error in _validator(json.dumps(schema, sort_keys=True)).iter_errors(value):
            yield best_match([error]) or error
    except (jsonschema.SchemaError, Unresolvable):
        return


@lru_cache(maxsize=256)
def _validator(schema: str) -> Validator:
    """Return what checks an answer; a graph asks with the same few schemas, and checking one costs most."""
    loaded = json.loads(schema)
    kind = validator_for(loaded)
    kind.check_schema(loaded)
    return kind(loaded)


def args_schema(request: Any, schema: Any, position: int = 0) -> dict[str, Any] | None:
    """Return the schema of one call's arguments, or nothing where none says more than "an object".

    The interrupt's own first: in the answer that it takes, or in its review configuration; then the catalogue's.
    """
    found: Any = None
    if isinstance(schema, dict) and (branch := _edit_branch(schema)):
        found = branch
    elif isinstance(request, Mapping) and isinstance(request.get("action_requests"), list):
        found = _review_configs(request)[position].get("args_schema")
    if not _says_something(found):
        calls = read(request, schema).calls
        spec = CATALOGUE.get(calls[position]["tool"]) if position < len(calls) else None
        # Which arguments a graph of one's own needs is its own affair; of which type they are is the tool's.
        found = {**_schema_of(spec.tool.tool_call_schema), "required": []} if spec else None
    return found if _says_something(found) else None


def _says_something(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema.get("properties"))


def _schema_of(model: Any) -> Any:
    return model if isinstance(model, dict) else model.model_json_schema()


def follow(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema that a `$ref` leads to within `root`, or the schema itself."""
    for _ in range(20):
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        found: Any = root
        for part in reference[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        schema = {**found, **{k: v for k, v in schema.items() if k != "$ref"}} if isinstance(found, dict) else {}
    return schema if isinstance(schema, dict) else {}


def _edit_branch(root: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments' schema in the branch of an answer schema that is an edit."""
    for branch in [root, *root.get("oneOf", ()), *root.get("anyOf", ())]:
        properties = follow(branch, root).get("properties")
        if isinstance(properties, dict) and EDIT in _words_of(properties.get("type")):
            action = follow(properties.get("edited_action"), root)
            args = follow((action.get("properties") or {}).get("args"), root)
            return {**args, "$defs": root["$defs"]} if args and "$defs" in root else args or None
    return None


def _allowed_by(schema: Any) -> tuple[str, ...]:
    """Return the decision types that a `per_call` answer schema names, in our order."""
    if not isinstance(schema, dict):
        return ()
    found: set[str] = set()
    for branch in [schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())]:
        properties = follow(branch, schema).get("properties")
        if isinstance(properties, dict):
            found.update(_words_of(properties.get("type")))
    return tuple(one for one in _ALL if one in found)


def _words_of(schema: Any) -> list[str]:
    """Return the words that a `type` property takes."""
    if not isinstance(schema, dict):
        return []
    given = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return [word for word in given if isinstance(word, str)] if isinstance(given, list) else []


def _takes_words(schema: Any) -> bool:
    """Whether a text can fit the schema."""
    if not isinstance(schema, dict) or not schema:
        return True
    if isinstance(schema.get("enum"), list):
        return any(isinstance(one, str) for one in schema["enum"])
    if "const" in schema:
        return isinstance(schema["const"], str)
    for union in ("anyOf", "oneOf"):
        if isinstance(schema.get(union), list):
            return any(_takes_words(one) for one in schema[union])
    kind = schema.get("type")
    return (kind is None and "$ref" not in schema) or kind == "string" or (isinstance(kind, list) and "string" in kind)


# Parts ----------------------------------------------------------------------------------------------------------


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, Mapping) and value.get("type") == kind


def _is_action(action: Any) -> bool:
    return isinstance(action, Mapping) and isinstance(action.get("name"), str)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _call(value: Mapping[str, Any], position: int = 0) -> dict[str, Any]:
    """Return a call as a gate keeps it; one without an id of its own gets one by its position."""
    args = value.get("args", value.get("arguments")) or {}
    return {
        "tool_call_id": str(value.get("tool_call_id") or value.get("id") or f"action-{position + 1}"),
        "tool": public_name(str(value.get("name") or "")),
        "args": dict(args) if isinstance(args, Mapping) else {"value": args},
    }


def _review_configs(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the review configuration of each action: the one with its name, or else the one at its place."""
    given = value.get("review_configs")
    configs = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    named = {str(one.get("action_name")): one for one in configs if one.get("action_name")}
    return [
        named.get(str(action.get("name")), configs[position] if position < len(configs) and not named else {})
        for position, action in enumerate(value["action_requests"])
    ]


def _decision(verdict: Verdict, name: str) -> dict[str, Any]:
    """Return one verdict in LangChain's words; `name` is the tool's as the graph wrote it."""
    one: dict[str, Any] = {"type": str(verdict.type)}
    if verdict.type == DecisionType.EDIT:
        one["edited_action"] = {"name": name, "args": verdict.args or {}}
    elif verdict.message and verdict.type in {DecisionType.REJECT, DecisionType.RESPOND}:
        one["message"] = verdict.message
    return one
