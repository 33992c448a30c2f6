"""Where in a session's threads a rerun can begin, and how such a checkpoint becomes the start of a thread of its own.

A rerun never drives an earlier attempt's thread: what that one saved stays as it is, and both can be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

from sessions_app.agents import checkpointer, registry
from sessions_app.exceptions import NotFound

if TYPE_CHECKING:
    from sessions_app.models import Session

#: Checkpoints of one thread that are looked through, the latest first: no list is endless (S32).
MOST = 500


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """A checkpoint between two nodes of the graph: what would run next, since when, and what is known by then."""

    attempt: int
    thread_id: str
    checkpoint_id: str
    next: tuple[str, ...]
    at: datetime
    says: str

    def as_origin(self) -> dict[str, Any]:
        """Return what a run that begins here keeps of it; `becomes` is the id of the copy in the run's own thread.

        The copy needs an id of its own: LangGraph derives the ids of turns and questions from it, and under the old
        ones a gate or an agent's turn would be taken for the earlier attempt's.
        """
        return {
            "attempt": self.attempt,
            "thread_id": self.thread_id,
            "checkpoint_id": self.checkpoint_id,
            "next": list(self.next),
            "at": self.at.isoformat(),
            "becomes": str(uuid6()),
        }


def boundaries(session: Session) -> list[Boundary]:
    """Return the checkpoints from which the session can be run again, the oldest first, over all attempts."""
    threads = session.threads()
    return async_to_sync(_read)(session.graph, threads)


def find(session: Session, checkpoint_id: str) -> Boundary:
    """Return the checkpoint of this session with that id, or raise NotFound and say what to do."""
    known = {found.checkpoint_id: found for found in boundaries(session)}
    if checkpoint_id not in known:
        raise NotFound(
            f"{session.pk} has no checkpoint {checkpoint_id[:64]!r} to run again from; those that it has are in "
            f"GET /sessions/{session.pk}/checkpoints and in manage.py checkpoints {session.pk}.",
            checkpoint_id=checkpoint_id[:64],
        )
    return known[checkpoint_id]


async def _read(graph_name: str, threads: Sequence[str]) -> list[Boundary]:
    found: list[Boundary] = []
    spec = registry.get(graph_name)
    async with checkpointer.open_checkpointer() as saver:
        graph = registry.outline(graph_name, saver)
        for attempt, thread_id in enumerate(threads, 1):
            config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
            of_thread = [
                Boundary(
                    attempt=attempt,
                    thread_id=thread_id,
                    checkpoint_id=str(snapshot.config["configurable"]["checkpoint_id"]),
                    next=tuple(dict.fromkeys(snapshot.next)),
                    at=_instant(snapshot.created_at),
                    says=spec.says(snapshot.values),
                )
                async for snapshot in graph.aget_state_history(config, limit=MOST)
                if snapshot.next and snapshot.next != ("__start__",)
            ]
            # The steps that a person would draw; an agent that is the whole graph has none but its own.
            drawn = [one for one in of_thread if set(one.next) & set(spec.nodes)]
            # A copy's history has the ids that it had where it came from, and is listed there.
            listed = {one.checkpoint_id for one in found}
            found += [one for one in reversed(drawn or of_thread) if one.checkpoint_id not in listed]
    return found


def _instant(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.fromtimestamp(0, UTC)


async def copy(saver: registry.Saver, origin: dict[str, Any], thread_id: str) -> None:
    """Lay the checkpoint that `origin` names, with the history before it, into a thread of its own.

    What had been written beyond it is left out, so its next nodes begin anew: no answer and no half of a step comes
    along. A copy that a crash cut off is simply made again: the same rows get the same ids, and the one from which the
    graph goes on comes last.
    """
    chosen = str(origin["checkpoint_id"])
    history: list[CheckpointTuple] = []
    async for found in saver.alist({"configurable": {"thread_id": origin["thread_id"]}}):
        namespace = found.config["configurable"].get("checkpoint_ns", "")
        # Ids are in the order of time. A namespace with a task in it belongs to one step, and steps begin anew; one
        # without is the memory of an agent that keeps one, as it stood then.
        if found.checkpoint["id"] <= chosen and ":" not in namespace:
            history.append(found)
    history.sort(key=lambda found: found.checkpoint["id"])
    if not any(found.checkpoint["id"] == chosen for found in history):
        raise NotFound(f"The checkpoint {chosen} to run again from is not there any more.")
    for found in history:
        if found.checkpoint["id"] != chosen:
            await _put(saver, found, thread_id, dict(found.checkpoint))
            await _put_writes(saver, found, thread_id)
    for found in history:
        if found.checkpoint["id"] == chosen:
            await _put(saver, found, thread_id, {**found.checkpoint, "id": origin["becomes"]}, source="fork")


async def _put(
    saver: registry.Saver, found: CheckpointTuple, thread_id: str, checkpoint: dict[str, Any], **metadata: str
) -> None:
    before = (found.parent_config or {}).get("configurable", {}).get("checkpoint_id")
    await saver.aput(
        {"configurable": {**_place(found, thread_id), **({"checkpoint_id": before} if before else {})}},
        checkpoint,  # type: ignore[arg-type]
        {**found.metadata, **metadata},  # type: ignore[typeddict-item]
        found.checkpoint["channel_versions"],
    )


async def _put_writes(saver: registry.Saver, found: CheckpointTuple, thread_id: str) -> None:
    by_task: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in found.pending_writes or ():
        by_task.setdefault(task, []).append((channel, value))
    place = {**_place(found, thread_id), "checkpoint_id": found.checkpoint["id"]}
    for task, writes in by_task.items():
        await saver.aput_writes({"configurable": place}, writes, task)


def _place(found: CheckpointTuple, thread_id: str) -> dict[str, str]:
    return {"thread_id": thread_id, "checkpoint_ns": found.config["configurable"].get("checkpoint_ns", "")}
