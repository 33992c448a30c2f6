"""What stands around every tool call: judge it once, ask where it must be asked, write it in the ledger.

Order matters. `Judge` is outermost and has no effect before its handler; LangChain's own
`HumanInTheLoopMiddleware` pauses in the middle; `Ledger` is innermost, so no edit, retry or other middleware
reaches a tool without passing it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, InterruptOnConfig
from langchain.agents.middleware.types import ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, interrupt

from sessions_app.agents import config, facts, risk
from sessions_app.agents.context import RunContext
from sessions_app.agents.tool_call_ids import unique_tool_call_ids
from sessions_app.agents.tools import ToolSpec, public_name
from sessions_app.exceptions import LeaseLost, ToolRefused
from sessions_app.lease import still_held
from sessions_app.models import ToolCall
from sessions_app.states import CallStatus
from sessions_app.steps import in_database
from sessions_app.storable import is_storable, storable

Answer = ToolMessage | Command[Any]
Handler = Callable[[ToolCallRequest], Awaitable[Answer]]
ModelHandler = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]

#: How a question about an unknown outcome may be answered (issue "nothing runs twice").
UNKNOWN_OUTCOME_SCHEMA = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["approve", "respond", "reject"]},
        "message": {"type": "string"},
    },
}


def gate_middleware(
    agent: str, tools: Sequence[ToolSpec], *, unique_ids: bool = False
) -> list[AgentMiddleware[Any, Any]]:
    """Return the middleware of one agent, in its order.

    With `unique_ids`, tool call ids that the model repeats or that are too short are replaced (tool_call_ids.py).
    Every middleware around a call costs about as much as a row in the database, LangChain's tracing of it
    included, so what can be one is one.
    """
    rules = config.current().risk.rules
    # A tool that no rule could ever gate needs nobody who asks; were its stored judgement from other rules, and gated,
    # the ledger would refuse the call.
    asks = {
        tool.wire_name: InterruptOnConfig(
            allowed_decisions=["approve", "edit", "reject"], description=_reasoning_of_request, when=_must_ask
        )
        for tool in tools
        if risk.may_gate(tool.name, rules)
    }
    if not asks:
        return [Judge(agent, tools, unique_ids=unique_ids, then=Ledger())]
    between = HumanInTheLoopMiddleware(interrupt_on=dict(asks), interrupt_mode="per_call")
    return [Judge(agent, tools, unique_ids=unique_ids), between, Ledger()]


def _must_ask(request: ToolCallRequest) -> bool:
    """Say what the stored judgement says, so that the answer is the same on every replay."""
    context = _context(request)
    judgement = context.drive.judgements.get(str(request.tool_call["id"]))
    return judgement is None or judgement.gated


def _reasoning_of_request(tool_call: Any, state: Any, runtime: Any) -> str:
    return reasoning(state)


def reasoning(state: Any) -> str:
    """Return what the agent said beside its latest tool calls."""
    messages = state["messages"] if isinstance(state, dict) else getattr(state, "messages", [])
    for found in reversed(messages):
        if isinstance(found, AIMessage):
            return found.text
    return ""


def _context(request: ToolCallRequest) -> RunContext:
    return cast(RunContext, request.runtime.context)


class Judge(AgentMiddleware[Any, Any]):
    """Judges each tool call when it is first seen and stores that; a forbidden call ends here.

    Where nobody stands in between, the ledger is its own next step (`then`).
    """

    def __init__(
        self, agent: str, tools: Sequence[ToolSpec], *, unique_ids: bool = False, then: Ledger | None = None
    ) -> None:
        super().__init__()
        self._agent = agent
        self._unique_ids = unique_ids
        self._then = then
        self._idempotent = {tool.name: tool.idempotent for tool in tools}

    # Not coroutine functions, but functions that return one: LangChain's tracing runs the former through a thread
    # before and after every call, also when nothing is traced.

    def awrap_model_call(
        self, request: ModelRequest[Any], handler: ModelHandler
    ) -> Coroutine[Any, Any, ModelResponse[Any]]:
        """Make the model's calls storable as they arrive: what is judged, shown and run is then the same text."""
        return self._ask_model(request, handler)

    def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> Coroutine[Any, Any, Answer]:
        """Store the judgement before anything can pause or run."""
        return self._judge(request, handler)

    async def _ask_model(self, request: ModelRequest[Any], handler: ModelHandler) -> ModelResponse[Any]:
        response = await handler(request)
        if self._unique_ids:
            response.result = unique_tool_call_ids(response.result, request.messages)
        for message in response.result:
            if isinstance(message, AIMessage) and not is_storable([call["args"] for call in message.tool_calls]):
                message.tool_calls = [{**call, "args": storable(call["args"])} for call in message.tool_calls]
        return response

    async def _judge(self, request: ToolCallRequest, handler: Handler) -> Answer:
        context = _context(request)
        call_id = str(request.tool_call["id"])
        row, new = await in_database(
            self._enter,
            context,
            call_id,
            request.tool_call["name"],
            request.tool_call["args"],
            reasoning(request.state),
        )
        # The context changes on the loop alone: LangChain walks through it there at every tool call, and a
        # thread that adds to it meanwhile breaks that.
        judgement = context.drive.judgements[call_id] = row.judgement
        context.drive.rows[call_id] = row.pk
        if new and row.status == CallStatus.EXECUTING:
            context.drive.claimed.add(call_id)
            context.drive.entered[call_id] = row
        if judgement.forbidden:
            return _refusal(request, f"{row.tool} is forbidden by rule {row.rule}.")
        if judgement.gated and row.facts is None and row.status == CallStatus.PENDING_APPROVAL:
            await _keep_facts(context, row)
        return await (self._then.awrap_tool_call(request, handler) if self._then else handler(request))

    def _enter(
        self, context: RunContext, call_id: str, wire: str, args: dict[str, Any], said: str
    ) -> tuple[ToolCall, bool]:
        tool = public_name(wire)
        row, new = ToolCall.enter(
            session_id=context.session_id,
            run_id=context.run_id,
            attempt=context.attempt,
            agent=self._agent,
            tool_call_id=call_id,
            tool=tool,
            args=args,
            reasoning=said,
            idempotent=self._idempotent.get(tool, False),
            judge=lambda: risk.judge(tool, args, context.environment, config.current().risk.rules),
        )
        if new and row.judgement.forbidden:
            row.refuse(f"forbidden by rule {row.rule}")
        return row, new


class Ledger(AgentMiddleware[Any, Any]):
    """Runs a tool at most once: claims the call, runs it, settles it; a settled call answers from its row."""

    def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> Coroutine[Any, Any, Answer]:
        """Claim, run, settle; or return what is already there; or ask where nobody knows."""
        return self._run_once(request, handler)

    async def _run_once(self, request: ToolCallRequest, handler: Handler) -> Answer:
        context = _context(request)
        call_id = str(request.tool_call["id"])
        tool, args = public_name(request.tool_call["name"]), request.tool_call["args"]
        if (entered := context.drive.entered.pop(call_id, None)) is not None:
            return await self._run(request, handler, entered)
        try:
            # Read before the claim and outside its transaction: services may take their time.
            judged = context.drive.judgements.get(call_id)
            now = await facts.read(tool, args, context.environment) if judged and judged.gated else None
            row = await in_database(_ready, context, call_id, tool, args, now)
        except ToolRefused as refused:
            return _refusal(request, refused.text)
        if row.status == CallStatus.UNKNOWN:
            await _keep_facts(context, row)
            return _ask_what_became_of_it(request, row)
        if row.status == CallStatus.EXECUTING:
            context.drive.claimed.add(call_id)
        if row.status != CallStatus.EXECUTING:
            return _from_ledger(request, row)
        return await self._run(request, handler, row)

    async def _run(self, request: ToolCallRequest, handler: Handler, row: ToolCall) -> Answer:
        # The database's answer to the claim may come so late that somebody was told since that the call was cut off.
        # Whoever has the run now says what becomes of it.
        await still_held()
        began = time.perf_counter()
        try:
            answer = await handler(request)
        except GraphBubbleUp:
            await in_database(row.give_back)
            raise
        except (asyncio.CancelledError, LeaseLost):
            cut_off = row.give_back if row.idempotent else row.settle_unknown
            await in_database(cut_off)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is the tool's answer, and is written down
            answer = _refusal(request, f"{type(error).__name__}: {error}")
        text, failed = _text_of(answer)
        await in_database(
            row.settle,
            result="" if failed else text,
            error=text if failed else "",
            result_kind="error" if failed else _kind_of(text),
            latency_ms=round((time.perf_counter() - began) * 1000),
        )
        return answer


async def _keep_facts(context: RunContext, row: ToolCall) -> None:
    """Read what the call rests on, if its owner said how, for the gate that is about to ask about it."""
    reading = await facts.read(row.tool, row.effective_args, context.environment)
    if reading is not None:
        await in_database(row.keep_facts, reading)


def _ready(
    context: RunContext, call_id: str, tool: str, args: dict[str, Any], facts_now: facts.Reading | None
) -> ToolCall:
    """Return the call's row: claimed by this drive and free to run, or settled, or unknown."""
    if call_id not in context.drive.rows:
        raise ToolRefused(f"{tool} was not run: nothing judged it.")
    row = ToolCall.objects.get(pk=context.drive.rows[call_id])
    if row.status == CallStatus.EXECUTING and call_id not in context.drive.claimed:
        row.take_over(run_id=context.run_id, attempt=context.attempt)
    if row.status in {CallStatus.APPROVED, CallStatus.PENDING_APPROVAL, CallStatus.REJECTED, CallStatus.EXPIRED}:
        try:
            row.claim(run_id=context.run_id, attempt=context.attempt, tool=tool, args=args, facts=facts_now)
        except ToolRefused as refused:
            row.refuse(refused.text)
            raise
    return row


def _ask_what_became_of_it(request: ToolCallRequest, row: ToolCall) -> ToolMessage:
    """Pause until a person says what became of a call that was cut off.

    What they say is read from the row, which their decision writes: it is not `unknown` any more when the call comes
    here again. So an answer that is there while it still is belongs to an earlier time that it was cut off, and the
    question is asked anew. Only a rejection, which is how a question ends that nobody answered, goes on: with what is
    known, and running nothing.
    """
    answer: Any = None
    while not (isinstance(answer, dict) and answer.get("type") == "reject"):
        answer = interrupt(_unknown_outcome(row), response_schema=UNKNOWN_OUTCOME_SCHEMA)
    return _refusal(request, f"Nobody knows whether {row.tool} ran, and nobody said: do not take it for done.")


def _unknown_outcome(row: ToolCall) -> dict[str, Any]:
    return {
        "type": "unknown_outcome",
        "tool_call_id": row.tool_call_id,
        "name": row.tool,
        "args": row.effective_args,
        "agent": row.agent,
        "reason": "unknown_outcome",
        "description": (
            f"{row.tool} was started at {row.started_at:%H:%M:%S} and cut off; nobody knows whether it ran."
        ),
    }


def _refusal(request: ToolCallRequest, why: str) -> ToolMessage:
    return ToolMessage(
        content=why, name=request.tool_call["name"], tool_call_id=str(request.tool_call["id"]), status="error"
    )


def _from_ledger(request: ToolCallRequest, row: ToolCall) -> ToolMessage:
    failed = row.status == CallStatus.FAILED
    return ToolMessage(
        content=row.error if failed else row.result,
        name=request.tool_call["name"],
        tool_call_id=row.tool_call_id,
        status="error" if failed else "success",
    )


def _text_of(answer: Answer) -> tuple[str, bool]:
    if isinstance(answer, ToolMessage):
        return answer.text, answer.status == "error"
    return json.dumps(answer.update, default=str), False


def _kind_of(text: str) -> str:
    if not text:
        return "empty"
    try:
        json.loads(text)
    except ValueError:
        return "text"
    return "json"
