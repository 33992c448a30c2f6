"""The REST contract, the part about asking the agent at a gate without deciding it."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Router
from ninja.responses import Status
from pydantic import Field

from approvals_app.api import DECIDE, SEE, GateId, describe_gate, find_gate
from approvals_app.models import Gate, Inquiry
from approvals_app.models.inquiry import MOST_LETTERS
from approvals_app.states import Channel
from sessions_app.exceptions import Conflict
from sessions_app.identity import of
from sessions_app.schemas import Answer, Asked, Instant, instant

router = Router(auth=SEE)


class QuestionAsked(Asked):
    """What a person wants to know from the agent before they decide."""

    text: Annotated[str, Field(max_length=MOST_LETTERS, description="The question, in words.")]


class QuestionAnswer(Answer):
    """A question to the agent, and its answer if there is one."""

    id: int
    gate_id: int
    asker: str
    channel: str
    text: str
    asked_at: Instant
    status: str
    answer: str | None
    error: str | None
    model: str | None
    checkpoint_id: str | None
    answered_at: Instant | None


@router.get("/gates/{gate_id}/questions", response=list[QuestionAnswer], tags=["gates"])
def list_questions(request: HttpRequest, gate_id: GateId) -> Any:
    """Return what people asked the agent at this gate, with its answers, the first one first."""
    gate = find_gate(Gate.objects.visible_to(of(request).person), gate_id)
    return [describe_inquiry(one) for one in gate.inquiries.select_related("asker", "reply")]


@router.post("/gates/{gate_id}/questions", auth=DECIDE, response={202: QuestionAnswer}, tags=["gates"])
def ask_question(request: HttpRequest, gate_id: GateId, body: QuestionAsked) -> Any:
    """Ask the agent without deciding; it is answered in the background, and the gate stays as it is."""
    actor = of(request).person
    gate = find_gate(Gate.objects.all(), gate_id)
    try:
        asked = Inquiry.ask(gate, body.text, actor=actor, channel=Channel.API)
    except Conflict as refused:
        gate.refresh_from_db()
        refused.details = {**refused.details, "gate": describe_gate(gate, actor)}
        raise
    return Status(202, describe_inquiry(asked))


def describe_inquiry(asked: Inquiry) -> dict[str, Any]:
    """Return a question to the agent as the contract has it."""
    reply = asked.answered
    return {
        "id": asked.pk,
        "gate_id": asked.gate_id,
        "asker": asked.asker.get_username(),
        "channel": asked.channel,
        "text": asked.text,
        "asked_at": instant(asked.asked_at),
        "status": str(asked.status),
        "answer": (reply.text or None) if reply else None,
        "error": (reply.error or None) if reply else None,
        "model": (reply.model or None) if reply else None,
        "checkpoint_id": (reply.checkpoint_id or None) if reply else None,
        "answered_at": instant(reply.answered_at) if reply else None,
    }
