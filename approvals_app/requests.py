"""Reads every dialect in which a graph asks, and writes each answer in the dialect of its question. Pure.

Dialects: LangChain's `per_call` tool approval, its batched `HITLRequest`, CLM's own question and unknown outcome,
and anything else as a question whose answer is plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from approvals_app.exceptions import AnswerUnfit
from approvals_app.states import DecisionType, GateKind
from sessions_app.agents.tools import public_name, wire_name

_ALL = tuple(str(one) for one in DecisionType)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an interrupt asks, in CLM's words: `calls` are `{tool_call_id, tool, args}`."""

    kind: GateKind
    calls: tuple[dict[str, Any], ...] = ()
    agent: str = ""
    question: str = ""
    reasoning: str = ""
    reason: str = ""
    allowed: tuple[str, ...] = _ALL
    about: dict[str, Any] = field(default_factory=dict)


def read(value: Any, schema: Any) -> Asked:
    """Return what the interrupt's value asks."""
    if isinstance(value, Mapping):
        kind = value.get("type")
        if kind == "tool_approval":
            return Asked(
                kind=GateKind.TOOL_APPROVAL,
                calls=(_call(value),),
                reasoning=str(value.get("description") or ""),
                allowed=_allowed_by(schema) or ("approve", "edit", "reject"),
            )
        if kind == "unknown_outcome":
            return Asked(
                kind=GateKind.UNKNOWN_OUTCOME,
                calls=(_call(value),),
                agent=str(value.get("agent") or ""),
                question=str(value.get("description") or ""),
                reason="unknown_outcome",
                allowed=("approve", "respond", "reject"),
            )
        if isinstance(value.get("action_requests"), list):
            return _read_batch(value)
        if kind == "question" or "question" in value:
            return Asked(
                kind=GateKind.QUESTION,
                agent=str(value.get("agent") or ""),
                question=str(value.get("question") or ""),
                reasoning=str(value.get("summary") or ""),
                reason=str(value.get("reason") or "asked_by_agent"),
                allowed=("respond",),
                about={key: value[key] for key in ("confidence", "evidence") if key in value},
            )
    return Asked(
        kind=GateKind.QUESTION,
        question=value if isinstance(value, str) else "The agent asks for an answer to the request below.",
        reason="asked_by_agent",
        allowed=("respond",),
    )


def answer(
    kind: GateKind,
    decision: DecisionType,
    *,
    calls: list[dict[str, Any]],
    message: str = "",
    edited_args: dict[str, Any] | None = None,
    request: Any = None,
    schema: Any = None,
    extra: dict[str, Any] | None = None,
) -> Any:
    """Return the value that resumes the interrupt, checked against the schema that the graph published.

    Raises AnswerUnfit with the schema's own complaint. `extra` goes along with a question's answer.
    """
    one: dict[str, Any] = {"type": str(decision)}
    if decision == DecisionType.EDIT:
        one["edited_action"] = {"name": wire_name(calls[0]["tool"]), "args": edited_args or {}}
    elif message and decision in {DecisionType.REJECT, DecisionType.RESPOND}:
        one["message"] = message
    if kind == GateKind.BATCH:
        return {"decisions": [dict(one) for _ in calls]}
    if kind == GateKind.QUESTION:
        if not (isinstance(request, Mapping) and request.get("type") == "question"):
            return message
        one |= extra or {}
    _check(one, schema)
    return one


def refused(kind: GateKind, *, calls: list[dict[str, Any]], request: Any, why: str) -> Any:
    """Return the answer that runs nothing, for a gate that ends without a person (fail closed)."""
    one = {"type": "reject", "message": why}
    if kind == GateKind.BATCH:
        return {"decisions": [dict(one) for _ in calls]}
    if kind == GateKind.QUESTION and not (isinstance(request, Mapping) and request.get("type") == "question"):
        return why
    return one


def _check(one: dict[str, Any], schema: Any) -> None:
    if not isinstance(schema, dict):
        return
    try:
        validator = _validator(json.dumps(schema, sort_keys=True))
        if (error := best_match(validator.iter_errors(one))) is None:
            return
        # A union says only that nothing fits; its deepest complaint says what is wrong.
        where = ".".join(str(part) for part in error.absolute_path) or "answer"
        raise AnswerUnfit(f"{where}: {error.message}", path=where, complaint=error.message)
    except jsonschema.SchemaError:
        return


@lru_cache(maxsize=256)
def _validator(schema: str) -> Validator:
    """Return what checks an answer; a graph asks with the same few schemas, and checking one costs most."""
    loaded = json.loads(schema)
    kind = validator_for(loaded)
    kind.check_schema(loaded)
    return kind(loaded)


def _call(value: Mapping[str, Any]) -> dict[str, Any]:
    args = value.get("args", value.get("arguments")) or {}
    return {
        "tool_call_id": str(value.get("tool_call_id") or ""),
        "tool": public_name(str(value.get("name") or "")),
        "args": dict(args) if isinstance(args, Mapping) else {"value": args},
    }


def _read_batch(value: Mapping[str, Any]) -> Asked:
    actions = [action for action in value["action_requests"] if isinstance(action, Mapping)]
    allowed = set(_ALL) - {"edit"}
    for review in value.get("review_configs") or []:
        allowed &= set(review.get("allowed_decisions") or _ALL)
    return Asked(
        kind=GateKind.BATCH,
        calls=tuple(_call(action) for action in actions),
        reasoning="\n\n".join(str(action.get("description") or "") for action in actions).strip(),
        allowed=tuple(one for one in _ALL if one in allowed),
    )


def _allowed_by(schema: Any) -> tuple[str, ...]:
    """Return the decision types that a `per_call` response schema names, in our order."""
    found: set[str] = set()

    def look(part: Any) -> None:
        if isinstance(part, dict):
            kind = part.get("properties", {}).get("type", {}) if isinstance(part.get("properties"), dict) else {}
            if isinstance(kind, dict):
                found.update([kind["const"]] if "const" in kind else kind.get("enum", []))
            for inner in part.values():
                look(inner)
        elif isinstance(part, list):
            for inner in part:
                look(inner)

    look(schema)
    return tuple(one for one in _ALL if one in found)
