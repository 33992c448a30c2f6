"""What a person says to each call of a gate, held against what the gate takes, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from approvals_app import requests
from approvals_app.exceptions import AnswerUnfit
from approvals_app.requests import Verdict
from approvals_app.states import DecisionType, GateKind
from sessions_app import redaction
from sessions_app.agents import config, risk

if TYPE_CHECKING:
    from approvals_app.models import Gate


def read(
    gate: Gate,
    decision: str | Sequence[Verdict],
    *,
    message: str,
    args: dict[str, Any] | None,
    value: Any,
    extra: dict[str, Any],
) -> list[Verdict]:
    """Return a checked verdict for each call, or one for a question; raise AnswerUnfit where one cannot be."""
    if isinstance(decision, str):
        if decision not in gate.allowed:
            raise AnswerUnfit(f"This gate takes {', '.join(gate.allowed)}, not {decision!r}.", allowed=gate.allowed)
        if value is not requests.NOTHING and not message:
            message = json.dumps(value, ensure_ascii=False)
        one = Verdict(type=DecisionType(decision), message=message, args=args, value=value, extra=extra)
        verdicts = [one] * max(1, len(gate.calls))
    else:
        verdicts = list(decision)
        if len(verdicts) != len(gate.calls):
            raise AnswerUnfit(
                f"This gate asks about {len(gate.calls)} calls: decide each of them, in order.", path="decisions"
            )
    return [_checked(gate, verdict, position) for position, verdict in enumerate(verdicts)]


def kept(gate: Gate, verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the verdicts on several calls as their decision keeps them."""
    if gate.kind != GateKind.BATCH:
        return []
    return [
        {
            "tool_call_id": call["tool_call_id"],
            "tool": call["tool"],
            "type": str(verdict.type),
            "message": verdict.message,
            "edited_args": verdict.args,
        }
        for call, verdict in zip(gate.calls, verdicts, strict=True)
    ]


def _checked(gate: Gate, verdict: Verdict, position: int) -> Verdict:
    """Return the verdict as it will be kept: an edit with what its writer could not see put back."""
    where = f"decisions.{position}." if gate.kind == GateKind.BATCH else ""
    allowed = gate.allowed_for(position)
    if verdict.type not in allowed and gate.kind == GateKind.BATCH:
        tool = gate.calls[position]["tool"]
        raise AnswerUnfit(f"{tool} takes {', '.join(allowed)}, not {verdict.type}.", path=f"{where}type")
    if verdict.type == DecisionType.RESPOND and not verdict.message.strip():
        raise AnswerUnfit("Write the answer that the agent should get.", path=f"{where}message")
    if verdict.type != DecisionType.EDIT:
        return verdict
    if verdict.args is None:
        raise AnswerUnfit("Say with which arguments the call should run instead.", path=f"{where}edited_action")
    return replace(verdict, args=_edited(gate, verdict.args, position, f"{where}edited_action.args"))


def _edited(gate: Gate, args: dict[str, Any], position: int, path: str) -> dict[str, Any]:
    """Return the arguments as they will run, or raise AnswerUnfit for those that the schema or a rule refuses."""
    call = gate.calls[position]
    try:
        args = redaction.restored(args, call["args"])
    except redaction.HiddenPart as hidden:
        raise AnswerUnfit(f"{path}: {hidden.text}", path=path) from None
    if fields := {
        ".".join([path, *map(str, error.absolute_path)]): error.message
        for error in requests.complaints(args, gate.args_schema(position))
    }:
        at, complaint = next(iter(fields.items()))
        raise AnswerUnfit(f"{at}: {complaint}", path=at, complaint=complaint, fields=fields)
    judged = risk.judge(call["tool"], args, gate.session.environment, config.current().risk.rules)
    if judged.forbidden:
        raise AnswerUnfit(f"Rule {judged.rule} forbids the call as you edited it.", path=path)
    return args
