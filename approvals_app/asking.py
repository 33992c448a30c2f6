"""A question to the agent at a gate: from the asked row, over one request to its model, to the reply.

The gate stays pending and the paused thread as it is (sessions_app/agents/inquiry.py). The request runs on the engine's
loop, outside of any transaction; whatever cuts it off leaves the question unanswered, and the sweep asks once more.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sessions_app import engine
from sessions_app.exceptions import ClmError
from sessions_app.models import Run, ToolCall
from sessions_app.states import CallStatus, RunKind
from sessions_app.steps import in_database

if TYPE_CHECKING:
    from approvals_app.models import Gate, Inquiry
    from sessions_app.agents.inquiry import Reading
    from sessions_app.agents.registry import Saver

log = logging.getLogger("clm.gates")

#: Seconds that an answer may take, all tries together; after them the question counts as unanswered.
LIMIT = 90.0
#: Seconds for which the sweep takes up what a crash cut off; later, a person asks again.
TAKEN_UP_FOR = 600.0

#: What a question to the agent is called among what is done beside the drives.
ANSWER = "answer"

_under_way: set[int] = set()


def begin(inquiry_id: int) -> None:
    """Have the question answered after the commit, by whoever drives runs; else the sweep finds it."""
    engine.beside(ANSWER, inquiry_id)


async def answer(inquiry_id: int, saver: Saver) -> None:
    """Answer one question and write the reply; a second call while the first is under way does nothing."""
    from sessions_app.agents.inquiry import ask, paused_at, record

    if inquiry_id in _under_way:
        return
    _under_way.add(inquiry_id)
    try:
        asked = await in_database(_read, inquiry_id)
        if asked is None:
            return
        checkpoint_id = text = error = ""
        try:
            async with asyncio.timeout(LIMIT):
                paused = await paused_at(saver, asked.thread_id, asked.gate.tool_call_id)
                checkpoint_id = paused.checkpoint_id
                known = record(paused, asked.readings, waits=asked.waits, question=asked.inquiry.text)
                text = await ask(asked.gate.agent, known)
        except TimeoutError:
            error = f"The agent did not answer within {LIMIT:.0f} seconds."
        except ClmError as failed:
            error = failed.text
        except Exception as failed:
            log.exception("Inquiry %s was not answered", inquiry_id)
            error = f"{type(failed).__name__}: {failed}"[:500]
        await in_database(_write, asked.inquiry, text, error, checkpoint_id)
    finally:
        _under_way.discard(inquiry_id)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question with what the agent knows beside its checkpoint."""

    inquiry: Inquiry
    gate: Gate
    thread_id: str
    readings: list[Reading]
    waits: str


def _read(inquiry_id: int) -> Asked | None:
    from approvals_app.models import Inquiry

    inquiry = Inquiry.objects.unanswered().select_related("gate__run", "gate__session").filter(pk=inquiry_id).first()
    if inquiry is None:
        return None
    gate = inquiry.gate
    called = [f"{call['tool']} with {call['args']}" for call in gate.calls]
    return Asked(
        inquiry=inquiry,
        gate=gate,
        thread_id=gate.run.thread_id,
        readings=readings_of(gate),
        waits="\n".join([gate.question or gate.headline, *called]),
    )


def readings_of(gate: Gate) -> list[Reading]:
    """Return every call that ran in the gate's attempt, and before it in those whose checkpoint it went on from."""
    from sessions_app.agents.inquiry import Reading

    ran = [CallStatus.EXECUTED, CallStatus.EXECUTED_WITH_NOTIFY, CallStatus.FAILED]
    calls: list[ToolCall] = []
    thread, until = gate.run.thread_id, gate.created_at
    while thread:
        rows = ToolCall.objects.filter(session_id=gate.session_id, thread_id=thread, status__in=ran, ts__lte=until)
        calls = [*rows.order_by("pk"), *calls]
        first = Run.objects.filter(session_id=gate.session_id, thread_id=thread).exclude(kind=RunKind.RESUME).first()
        origin = first.origin if first else None
        thread, until = (origin["thread_id"], datetime.fromisoformat(origin["at"])) if origin else ("", until)
    return [
        Reading(agent=row.agent, tool=row.tool, args=row.effective_args, text=row.result or row.error) for row in calls
    ]


def _write(inquiry: Inquiry, text: str, error: str, checkpoint_id: str) -> None:
    from approvals_app.models import Reply
    from sessions_app.agents import models

    model = "" if error else models.settings_of(inquiry.gate.agent).model
    Reply.give(inquiry, text=text, error=error, model=model, checkpoint_id=checkpoint_id)


def take_up() -> None:
    """Answer what a crash cut off, where this process has an engine; asked by each sweep."""
    from approvals_app.models import Inquiry

    if engine.running() is not None:
        for inquiry_id in Inquiry.objects.left_lying().values_list("pk", flat=True)[:20]:
            begin(inquiry_id)
