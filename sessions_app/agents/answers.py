"""Which answers a graph still waits for, when a run is driven again after a crash.

LangGraph gives a task's first answer once more to whatever the task asks next, when it is sent again under the first
question's id (kept for checkpoints of older versions). So an answer that has arrived must not be sent twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.types import RESUME
from langgraph.types import Interrupt

_BRANCH = "branch:to:"


async def arrived(saver: BaseCheckpointSaver[Any], thread_id: str) -> set[str]:
    """Return the ids of the first questions of tasks that have an answer, in every graph of the thread."""
    latest: dict[str, CheckpointTuple] = {}
    thread: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    async for found in saver.alist(thread):
        latest.setdefault(found.config["configurable"].get("checkpoint_ns", ""), found)
    return {first for namespace, found in latest.items() for first in _answered(namespace, found)}


def _answered(namespace: str, found: CheckpointTuple) -> Iterator[str]:
    """Yield the id of each answered task's first question: it is the hash of the task's own namespace."""
    seen = found.checkpoint["channel_versions"]
    nodes = {name.removeprefix(_BRANCH) for name in seen if name.startswith(_BRANCH)}
    nodes |= set(found.checkpoint["versions_seen"])
    for task, channel, _ in found.pending_writes or ():
        if channel == RESUME:
            for node in nodes:
                step = f"{node}:{task}"
                yield Interrupt.from_ns(None, f"{namespace}|{step}" if namespace else step).id
