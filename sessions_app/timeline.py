"""A session's events as a person reads them: in order, each agent's turn folded around what happened in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sessions_app.agents import registry
from sessions_app.exceptions import NotFound
from sessions_app.models import Session, SessionEvent, ToolCall
from sessions_app.states import TERMINAL, RunKind, SessionStatus

#: Events that one page of the timeline shows; earlier ones are a link away.
PAGE = 300
#: Kinds after which no agent's turn is open, whether or not it came to a report.
_CLOSING = frozenset({"agent_finished", "run_failed", "session.rerun_requested", "session.stop_requested"})
_GATE_ENDS = frozenset({"gate_decided", "gate_expired", "gate_cancelled"})
_STATUS = "session.status_changed"
#: Kinds that may open or close a turn.
BOUNDARIES = ["agent_started", _STATUS, *_CLOSING]


@dataclass(kw_only=True)
class Entry:
    """One event, with the ledger's row of the call that it is about."""

    event: SessionEvent
    call: ToolCall | None = None
    turn: int | None = None

    @property
    def seq(self) -> int:
        """The event's position."""
        return self.event.pk

    @property
    def quiet(self) -> bool:
        """Whether another event says the same, so that only the full log shows this one."""
        return self.event.kind in {"session.agent_running", "confidence_emitted"}


@dataclass(kw_only=True)
class Turn:
    """One agent's turn: from where it began, over everything that happened meanwhile, to its report."""

    began: SessionEvent
    entries: list[Entry] = field(default_factory=list)
    report: SessionEvent | None = None
    open: bool = True
    fresh: bool = True
    latest: bool = False

    @property
    def seq(self) -> int:
        """The position of its first event."""
        return self.began.pk

    @property
    def agent(self) -> str:
        """Who has it."""
        return str(self.began.payload["agent"])

    @property
    def calls(self) -> int:
        """How many tools ran in it."""
        return sum(entry.event.kind == "tool_invoked" for entry in self.entries)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One node of the graph and where the session stands with it."""

    name: str
    standing: str
    confidence: float | None = None


def group(events: Iterable[SessionEvent], calls: dict[str, ToolCall]) -> list[Turn | Entry]:
    """Return the events in order, those of an agent's turn inside it."""
    items: list[Turn | Entry] = []
    turn: Turn | None = None
    for event in events:
        entry = Entry(event=event, call=calls.get(str(event.payload.get("tool_call_id", ""))))
        if event.kind == "agent_started":
            if turn:
                turn.open = False
            turn = Turn(began=event)
            items.append(turn)
            continue
        if turn is None:
            items.append(entry)
            continue
        if event.kind == "agent_finished":
            turn.report = event
        if closes(event) and event.kind != "agent_finished":
            turn.open, turn = False, None
            items.append(entry)
            continue
        entry.turn = turn.seq
        turn.entries.append(entry)
        if event.kind == "agent_finished":
            turn.open, turn = False, None
    return items


def closes(event: SessionEvent) -> bool:
    """Whether no agent's turn is open after this event."""
    return event.kind in _CLOSING or (event.kind == _STATUS and event.payload["to"] in TERMINAL)


def page_of(session: Session, *, before: int | None = None) -> tuple[list[Turn | Entry], int | None]:
    """Return one page of the timeline, the latest or the one that ends `before`, and where the one before it ends."""
    events = session.events.order_by("-seq")
    if before is not None:
        events = events.filter(seq__lt=before)
    found = list(events[: PAGE + 1])
    earlier = found[PAGE - 1].pk if len(found) > PAGE else None
    found = found[:PAGE]
    found.reverse()
    items = group(found, calls_of(session, found))
    if turns := [item for item in items if isinstance(item, Turn)]:
        turns[-1].latest = True
    return items, earlier


def around(session: Session, seqs: Sequence[int]) -> list[Turn | Entry]:
    """Return the turns and entries that these events stand in, each turn with these events only."""
    wanted = list(session.events.filter(seq__in=seqs))
    if not wanted:
        return []
    # A gate's own entry says what became of it, so it is told again when the gate ends.
    ended = {event.payload["gate_id"] for event in wanted if event.kind in _GATE_ENDS}
    if ended:
        opened = session.events.filter(kind="gate_fired").exclude(seq__in=seqs)
        wanted += [event for event in opened if event.payload["gate_id"] in ended]
    wanted.sort(key=lambda event: event.pk)
    calls = calls_of(session, wanted)
    before = session.events.filter(seq__lt=wanted[0].pk, kind__in=BOUNDARIES).order_by("-seq")[:100]
    # What may have opened a turn earlier comes first, so that the grouping is the page's own.
    earlier = list(reversed(before))
    items = group([*earlier, *wanted], calls)
    fresh = {event.pk for event in wanted}
    kept: list[Turn | Entry] = []
    for item in items:
        if isinstance(item, Entry):
            if item.seq in fresh:
                kept.append(item)
            continue
        item.fresh = item.seq in fresh
        item.entries = [entry for entry in item.entries if entry.seq in fresh]
        if item.entries or item.fresh:
            kept.append(item)
    return kept


def calls_of(session: Session, events: Iterable[SessionEvent]) -> dict[str, ToolCall]:
    """Return the ledger's rows that these events name, by tool call id."""
    ids = {str(event.payload["tool_call_id"]) for event in events if event.payload.get("tool_call_id")}
    rows = session.tool_calls.filter(tool_call_id__in=ids) if ids else ()
    return {row.tool_call_id: row for row in rows}


def strip(session: Session) -> list[Step]:
    """Return the graph's nodes in order, each with where the session's latest attempt stands with it.

    An agent's turn and a decided route are the traces that nodes leave. One without a trace is done when a later
    one has left some, and is the one at work when it follows the last trace of a session that has not ended.
    """
    try:
        nodes = registry.get(session.graph).nodes
    except NotFound:
        return []
    latest = session.runs.exclude(kind=RunKind.RESUME).order_by("-pk").first()
    if latest is None:
        return [Step(name=node, standing="ahead") for node in nodes]
    turns = {row.agent: row for row in session.agent_runs.filter(run_id__gte=latest.pk).order_by("pk")}
    routes = session.events.filter(kind="route_decided", ts__gte=latest.created_at)
    decided = {payload["source"] for payload in routes.values_list("payload", flat=True)}
    done = {node for node in nodes if node in decided or (node in turns and turns[node].ended_at)}
    # A rerun from a checkpoint leaves no traces of the nodes before it: they are behind it all the same.
    begins = [nodes.index(node) - 1 for node in (latest.origin or {}).get("next", ()) if node in nodes]
    traces = [index for index, node in enumerate(nodes) if node in done or node in turns]
    last = max([*traces, *begins], default=-1)
    at_work = last if last in traces and nodes[last] not in done else last + 1
    return [
        Step(
            name=node,
            standing=_standing(session, index, at_work, done=node in done, begun=node in turns),
            confidence=turns[node].confidence if node in turns else None,
        )
        for index, node in enumerate(nodes)
    ]


def _standing(session: Session, index: int, at_work: int, *, done: bool, begun: bool) -> str:
    """Return done, running, waiting, failed, stopped, skipped or ahead."""
    if done or (index < at_work and not begun):
        return "done"
    if begun or index == at_work:
        match session.status:
            case SessionStatus.AWAITING_INPUT:
                return "waiting"
            case SessionStatus.ERROR:
                return "failed"
            case SessionStatus.STOPPED:
                return "stopped"
            case SessionStatus.IN_PROGRESS:
                return "running"
    return "skipped" if session.ended else "ahead"


def shown(session: Session) -> dict[str, Any]:
    """Return what the head of a session's page shows, for the page and for the push alike."""
    return {"session": session, "steps": strip(session)}
