"""The REST contract, the part about people at the same gate: claims, comments, and the facts under it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router
from ninja.responses import Status
from pydantic import Field

from approvals_app.api import DECIDE, SEE, GateAnswer, GateId, describe_gate, find_gate, with_gate
from approvals_app.models import Comment, Gate
from approvals_app.models.comment import MAX_COMMENT
from approvals_app.states import Channel
from sessions_app.exceptions import Conflict
from sessions_app.identity import Access, of
from sessions_app.models import ApiToken
from sessions_app.schemas import Answer, Asked, Instant, instant

#: Whoever sees a gate may say something about it, whether or not they may decide it.
SAY = Access(ApiToken.Scope.WRITE, "approvals_app.view_gate")

router = Router(auth=SEE)


class CommentAsked(Asked):
    """What somebody wants to say to the others about a gate."""

    text: str = Field(min_length=1, max_length=MAX_COMMENT)


class CommentAnswer(Answer):
    """A comment as it was written down."""

    id: int
    gate_id: int
    author: str
    channel: str
    text: str
    ts: Instant


class AcknowledgementAsked(Asked):
    """Which facts were seen: the gate's `fingerprint_now` as it was shown."""

    fingerprint: str = Field(max_length=64)


@router.get("/gates/{gate_id}/comments", response=list[CommentAnswer], tags=["gates"])
def list_comments(request: HttpRequest, gate_id: GateId) -> Any:
    """List what people said about a gate, the oldest first."""
    gate = find_gate(Gate.objects.visible_to(of(request).person), gate_id)
    return [_describe(comment) for comment in gate.comments.select_related("author")]


@router.post("/gates/{gate_id}/comments", auth=SAY, response={201: CommentAnswer}, tags=["gates"])
def write_comment(request: HttpRequest, gate_id: GateId, body: CommentAsked) -> Any:
    """Say something about a gate, before its decision or after it; it cannot be changed."""
    author = of(request).person
    gate = find_gate(Gate.objects.visible_to(author), gate_id)
    return Status(201, _describe(Comment.write(gate, author=author, channel=Channel.API, text=body.text)))


@router.post("/gates/{gate_id}/claim", auth=DECIDE, response=GateAnswer, tags=["gates"])
def claim_gate(request: HttpRequest, gate_id: GateId) -> Any:
    """Tell the others that you are on it, for five minutes; nobody is kept from deciding it."""
    actor = of(request).person
    gate = find_gate(Gate.objects.all(), gate_id)
    try:
        gate.claim(actor)
    except Conflict as refused:
        raise with_gate(refused, gate, actor) from None
    return describe_gate(gate, actor)


@router.delete("/gates/{gate_id}/claim", auth=DECIDE, response=GateAnswer, tags=["gates"])
def release_gate(request: HttpRequest, gate_id: GateId) -> Any:
    """Give your claim back."""
    actor = of(request).person
    gate = find_gate(Gate.objects.all(), gate_id)
    gate.release(actor)
    return describe_gate(gate, actor)


@router.post("/gates/{gate_id}/facts", auth=DECIDE, response=GateAnswer, tags=["gates"])
def look_at_facts(request: HttpRequest, gate_id: GateId) -> Any:
    """Read the facts under a gate again, and return it with what changed."""
    actor = of(request).person
    gate = find_gate(Gate.objects.visible_to(actor), gate_id)
    gate.look_again()
    return describe_gate(gate, actor)


@router.post("/gates/{gate_id}/acknowledgements", auth=DECIDE, response={201: GateAnswer}, tags=["gates"])
def acknowledge_facts(request: HttpRequest, gate_id: GateId, body: AcknowledgementAsked) -> Any:
    """Say that you have seen the new facts; the gate's digest is another from then on."""
    actor = of(request).person
    gate = find_gate(Gate.objects.all(), gate_id)
    try:
        gate.acknowledge(actor=actor, channel=Channel.API, fingerprint=body.fingerprint)
    except Conflict as refused:
        raise with_gate(refused, gate, actor) from None
    return Status(201, describe_gate(gate, actor))


def _describe(comment: Comment) -> dict[str, Any]:
    return {
        "id": comment.pk,
        "gate_id": comment.gate_id,
        "author": comment.author.get_username(),
        "channel": comment.channel,
        "text": comment.text,
        "ts": instant(comment.created_at),
    }
