"""Several gates decided at once: one by one through `Gate.decide`, so that each has a decision of its own and may
fail on its own. What must not be decided together is refused before the first of them is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from approvals_app.exceptions import AnswerUnfit, NotTogether, NotYours
from approvals_app.models import Decision, Gate
from approvals_app.states import Channel, DecisionType, GateKind
from sessions_app.exceptions import ClmError, NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import User

#: As many as a person can still read on one page.
MOST = 50
#: Risks that may be approved together. Anything else, a risk nobody named included, is approved one at a time.
TOGETHER = frozenset({"low", "medium"})
#: The decisions that can be the same for many gates; an edit or an answer is about one.
BULK = (DecisionType.APPROVE, DecisionType.REJECT)


@dataclass(frozen=True)
class Result:
    """What became of one gate: the decision, or why there is none."""

    gate_id: int
    gate: Gate | None
    decision: Decision | None = None
    error: ClmError | None = None


def unfit(gates: Sequence[Gate], decision: str) -> str:
    """Return why these gates cannot be decided together, in a sentence; nothing where they can."""
    if not gates:
        return "Pick at least one gate."
    if len(gates) > MOST:
        return f"{MOST} gates at once is the most; these are {len(gates)}."
    if decision not in BULK:
        return "Only approving and rejecting can be done with several gates at once."
    if any(not gate.tool for gate in gates):
        return "A question is answered on its own."
    tools = sorted({gate.tool for gate in gates})
    if len(tools) > 1:
        return f"Only gates of one tool go together; these are of {', '.join(tools)}."
    if decision == DecisionType.APPROVE:
        if alone := [gate for gate in gates if gate.risk not in TOGETHER]:
            return f"High risk is approved one at a time: {_numbers(alone)}."
        if odd := [gate for gate in gates if gate.kind != GateKind.TOOL_APPROVAL]:
            return f"These need a closer look, one at a time: {_numbers(odd)}."
    return ""


def found(ids: Iterable[int]) -> list[Gate]:
    """Return the gates of these ids that there are, in that order, each once."""
    wanted = list(dict.fromkeys(ids))
    rows = Gate.objects.select_related("session__requester", "run").in_bulk(wanted)
    return [rows[pk] for pk in wanted if pk in rows]


def decide_all(
    shown: Mapping[int, str], decision: str, *, actor: User, channel: Channel, message: str = ""
) -> list[Result]:
    """Decide each gate of `shown` (its id and the digest that the person saw), in that order.

    Raises NotYours, NotTogether or AnswerUnfit before anything is decided; whatever stands in the way of one gate is
    in its own result and keeps no other from being decided.
    """
    # Before anything is said of these gates: somebody without the role learns nothing about them here.
    if not actor.has_perm("approvals_app.decide_gate"):
        raise NotYours(f"{actor.get_username()} is not in the approver group; an administrator can add them.")
    if len(shown) > MOST:
        raise NotTogether(f"{MOST} gates at once is the most; these are {len(shown)}.", most=MOST)
    gates = {gate.pk: gate for gate in found(shown)}
    if why := unfit(list(gates.values()), decision) if gates or not shown else "":
        raise NotTogether(why, gate_ids=list(shown))
    if decision == DecisionType.REJECT and not message.strip():
        raise AnswerUnfit("Say why: the agents read it before they try another way.", path="message")
    return [
        _decide(pk, gates.get(pk), decision, actor=actor, channel=channel, digest=digest, message=message)
        for pk, digest in shown.items()
    ]


def _decide(
    pk: int, gate: Gate | None, decision: str, *, actor: User, channel: Channel, digest: str, message: str
) -> Result:
    if gate is None:
        return Result(pk, None, error=NotFound(f"There is no gate {pk}."))
    try:
        taken = gate.decide(decision, actor=actor, channel=channel, digest=digest, message=message)
    except ClmError as refused:
        return Result(pk, gate, error=refused)
    return Result(pk, gate, decision=taken)


def _numbers(gates: Sequence[Gate]) -> str:
    return f"gate{'s' * (len(gates) > 1)} {', '.join(str(gate.pk) for gate in gates)}"
