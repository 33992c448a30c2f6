"""Tool call ids that mean one call: the ledger and the gates are keyed on them.

Some OpenAI-compatible servers number the calls of each answer from `call_0`, so the second turn's call would
be taken for the first one's and get its result, or its approval.
"""

from __future__ import annotations

import re
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

#: Long enough to be random, short enough for the APIs that take at most 40, and safe in a path.
_GOOD = re.compile(r"[A-Za-z0-9_.-]{16,40}")
#: What stands for the id in content blocks of the providers' own kinds.
_BLOCKS = {"tool_use": "id", "tool_call": "id", "invalid_tool_call": "id", "function_call": "call_id"}

#: Old id -> new ids, in the order in which the calls stand in the answer.
_Renamed = dict[str | None, list[str]]


def unique_tool_call_ids(answer: Sequence[BaseMessage], before: Iterable[BaseMessage] = ()) -> list[BaseMessage]:
    """Return the answer with ids that are good and that neither it nor the messages `before` it used.

    An id that is missing, short, too long, unfit for a path or used already becomes `<old>-<12 hex digits>`.
    """
    used = {call["id"] for message in before if isinstance(message, AIMessage) for call in _calls(message)}
    messages: list[BaseMessage] = []
    queue = _Queue({})
    for message in answer:
        if isinstance(message, AIMessage):
            message, renamed = _rename(message, used)
            queue = _Queue(renamed)
        elif isinstance(message, ToolMessage):
            # create_agent answers the call of a structured report itself, in the same breath.
            new = queue.take(message.tool_call_id)
            message = message.model_copy(update={"tool_call_id": new})
        messages.append(message)
    return messages


def _calls(message: AIMessage) -> list[Any]:
    return [*message.tool_calls, *message.invalid_tool_calls]


def _rename(message: AIMessage, used: set[str | None]) -> tuple[AIMessage, _Renamed]:
    renamed: _Renamed = defaultdict(list)
    changes: dict[str, Any] = {}
    for name in ("tool_calls", "invalid_tool_calls"):
        calls = []
        for call in getattr(message, name):
            old = call["id"]
            new = old if _fits(old) and old not in used else _fresh(old)
            used.add(new)
            renamed[old].append(new)
            calls.append({**call, "id": new})
        changes[name] = calls
    if all(news == [old] for old, news in renamed.items()):
        return message, {}
    raw = message.additional_kwargs.get("tool_calls")
    if isinstance(raw, list):
        queue = _Queue(renamed)
        copies = [queue.replace(call, "id") for call in raw]
        changes["additional_kwargs"] = {**message.additional_kwargs, "tool_calls": copies}
    if isinstance(message.content, list):
        queue = _Queue(renamed)
        changes["content"] = [
            queue.replace(block, _BLOCKS[block["type"]])
            if isinstance(block, dict) and block.get("type") in _BLOCKS
            else block
            for block in message.content
        ]
    return message.model_copy(update=changes), dict(renamed)


class _Queue:
    """Hands out the new ids of each old one in order: the n-th `call_0` here is the n-th `call_0` there."""

    def __init__(self, renamed: _Renamed) -> None:
        self.left = {old: deque(news) for old, news in renamed.items()}

    def take(self, old: str | None) -> str | None:
        waiting = self.left.get(old)
        return waiting.popleft() if waiting else old

    def replace(self, call: Any, key: str) -> Any:
        return {**call, key: self.take(call.get(key))} if isinstance(call, dict) else call


def _fits(old: str | None) -> bool:
    return bool(old and _GOOD.fullmatch(old))


def _fresh(old: str | None) -> str:
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "_", old or "call")[:24]
    return f"{kept}-{uuid.uuid4().hex[:12]}"
