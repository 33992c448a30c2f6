"""The REST contract, the part that decides several gates at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Router
from pydantic import Field

from approvals_app import bulk
from approvals_app.api import DECIDE, MAX_TEXT, DecisionTaken, describe_decision
from approvals_app.exceptions import NotTogether
from approvals_app.states import Channel
from sessions_app.identity import of
from sessions_app.schemas import Answer, Asked
from sessions_app.streams import MAX_SEQ

router = Router(auth=DECIDE)


class GateShown(Asked):
    """A gate, and the digest of what was shown of it."""

    gate_id: int = Field(ge=1, le=MAX_SEQ)
    digest: str = Field(max_length=64)


class BulkAsked(Asked):
    """One decision for several gates."""

    type: Literal["approve", "reject"]
    gates: Annotated[list[GateShown], Field(min_length=1, max_length=bulk.MOST)]
    message: str = Field("", max_length=MAX_TEXT, description="One reason for all; needed to reject.")


class Refusal(Answer):
    """Why one gate was not decided, as the error of its own path would say it."""

    code: str
    message: str
    details: dict[str, Any]


class BulkResult(Answer):
    """What became of one gate."""

    gate_id: int
    status: str | None
    decision: DecisionTaken | None
    error: Refusal | None


class BulkAnswer(Answer):
    """What became of each, in the order asked."""

    decided: int
    results: list[BulkResult]


@router.post("/gates/bulk-decisions", response=BulkAnswer, tags=["gates"])
def decide_gates(request: HttpRequest, body: BulkAsked) -> Any:
    """Decide several gates of one tool, each on its own; what must not go together is refused as a whole."""
    shown = {gate.gate_id: gate.digest for gate in body.gates}
    if len(shown) < len(body.gates):
        raise NotTogether("A gate is named twice; name each once.")
    results = bulk.decide_all(shown, body.type, actor=of(request).person, channel=Channel.API, message=body.message)
    return {
        "decided": sum(result.decision is not None for result in results),
        "results": [_describe(result) for result in results],
    }


def _describe(result: bulk.Result) -> dict[str, Any]:
    error = result.error
    return {
        "gate_id": result.gate_id,
        "status": result.gate.status if result.gate else None,
        "decision": describe_decision(result.decision) if result.decision else None,
        "error": {"code": error.code, "message": error.text, "details": error.details} if error else None,
    }
