"""A session's events as a person reads them: in order, each agent's turn folded around what happened in it.

A page of it has a bounded number of rows however long the session is, and it may be narrowed to one kind of thing;
then it is a plain list without turns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Case, F, Q, When
from django.db.models.functions import Left, Length
from django.utils.http import urlencode

from sessions_app.agents import registry
from sessions_app.exceptions import NotFound
from sessions_app.models import AgentRun, Session, SessionEvent, ToolCall
from sessions_app.states import TERMINAL, CallStatus, RunKind, SessionStatus

#: Events that one page of the timeline shows; earlier ones are a link away.
PAGE = 120
#: Pages that stay when a page asks again for all that it had loaded.
MOST_PAGES = 5
#: Events that follow the one that a link names.
AFTER = 40
#: Letters of a result that stand in the timeline; all of it is a link away.
EXCERPT = 1_200
#: Kinds after which no agent's turn is open, whether or not it came to a report.
_CLOSING = frozenset({"agent_finished", "run_failed", "session.rerun_requested", "session.stop_requested"})
_GATE_ENDS = frozenset({"gate_decided", "gate_expired", "gate_cancelled"})
_STATUS = "session.status_changed"
#: Events that open or close a turn.
_BOUNDARY = Q(kind__in=["agent_started", *_CLOSING]) | Q(kind=_STATUS, payload__to__in=sorted(map(str, TERMINAL)))


@dataclass(frozen=True, kw_only=True)
class Show:
    """What the timeline may be narrowed to: its name in the address, its words, and what it keeps."""

    name: str
    words: str
    keeps: Q = field(default_factory=Q)
    #: Whether the events stand one by one, not folded into turns.
    flat: bool = True


SHOWS = {
    show.name: show
    for show in (
        Show(name="", words="Story", flat=False),
        Show(
            name="agents",
            words="Agents",
            keeps=Q(kind__in=["agent_started", "agent_finished", "confidence_emitted", "route_decided"]),
        ),
        Show(name="calls", words="Tool calls", keeps=Q(kind__in=["tool_invoked", "tool_refused"])),
        Show(name="gates", words="Gates", keeps=Q(kind="gate_fired") | Q(kind__in=sorted(_GATE_ENDS))),
        # Reading and describing is of low risk; what is left acted on something, or moved the session.
        Show(
            name="changes",
            words="What changed something",
            keeps=Q(kind="tool_invoked") & ~Q(payload__risk="low")
            | Q(kind__in=[_STATUS, "gate_decided", "session.stop_requested", "session.rerun_requested"]),
        ),
        Show(name="every", words="Every event", flat=False),
    )
}


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
    #: Whether its beginning stands on an earlier page.
    resumed: bool = False
    #: The event from which on the rest of it stands on a later page.
    until: int | None = None

    @property
    def seq(self) -> int:
        """The position of its first event."""
        return self.began.pk

    @property
    def key(self) -> str:
        """What its rows are known by on a page; the part with its end has the plain number, which is pushed to."""
        return f"{self.seq}-to-{self.until}" if self.until else str(self.seq)

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
    """One node of the graph, where the session stands with it, and the way that the graph took from there."""

    name: str
    standing: str
    confidence: float | None = None
    #: How often it was entered: more than once in a loop.
    times: int = 0
    #: The tool that it is busy with.
    doing: str = ""
    #: Where its choice led and why, where it chose.
    target: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One page of the timeline: what it shows, where the one before it ends, and whether new events come here."""

    items: list[Turn | Entry]
    show: Show
    earlier: int | None = None
    #: Events before it, where that is known.
    more: int = 0
    before: int | None = None
    #: Its first event, where a page that has loaded earlier ones goes on to ask for everything since.
    since: int | None = None

    @property
    def here(self) -> str:
        """Its own query in the address."""
        return self._query(before=self.before)

    @property
    def way_back(self) -> str:
        """The query of the stretch before it."""
        return self._query(before=self.earlier)

    @property
    def newest(self) -> str:
        """The query of the latest stretch of the same kind."""
        return self._query()

    def _query(self, **parts: int | None) -> str:
        kept = {name: value for name, value in {"show": self.show.name, **parts}.items() if value}
        return f"?{urlencode(kept)}" if kept else ""

    @property
    def live(self) -> bool:
        """Whether it ends with the newest event and takes what is pushed."""
        return self.before is None and not self.show.flat


def group(
    events: Iterable[SessionEvent], calls: dict[str, ToolCall], *, opened: SessionEvent | None = None
) -> list[Turn | Entry]:
    """Return the events in order, those of an agent's turn inside it; `opened` began the turn that they start in."""
    items: list[Turn | Entry] = []
    turn: Turn | None = None
    if opened:
        items.append(turn := Turn(began=opened, resumed=True))
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
    return [item for item in items if isinstance(item, Entry) or item.entries or not item.resumed]


def closes(event: SessionEvent) -> bool:
    """Whether no agent's turn is open after this event."""
    return event.kind in _CLOSING or (event.kind == _STATUS and event.payload["to"] in TERMINAL)


def opened_before(session: Session, seq: int) -> SessionEvent | None:
    """Return the event that began the turn which is open when event `seq` happens, or nothing."""
    last = session.events.filter(_BOUNDARY, seq__lt=seq).order_by("-seq").first()
    return last if last and last.kind == "agent_started" else None


def page_of(
    session: Session,
    *,
    show: Show = SHOWS[""],
    before: int | None = None,
    since: int | None = None,
    at: int | None = None,
) -> Stretch:
    """Return one page of the timeline, at most MOST_PAGES of rows.

    It is the latest; or the one that ends `before` an event; or everything `since` one, as far as that fits; or the
    one that has the event `at`.
    """
    events = session.events.filter(show.keeps).order_by("-seq")
    if at is not None:
        after = list(events.filter(seq__gt=at).order_by("seq").values_list("seq", flat=True)[: AFTER + 1])
        before = after[AFTER] if len(after) > AFTER else None
        since = None
    if before is not None:
        events = events.filter(seq__lt=before)
    most = PAGE
    if since is not None:
        most = min(MOST_PAGES * PAGE, max(PAGE, events.filter(seq__gte=since)[: MOST_PAGES * PAGE].count()))
    found = list(events[: most + 1])
    more = len(found) > most
    found = found[:most]
    found.reverse()
    calls = calls_of(session, found)
    first = found[0] if found else None
    if show.flat:
        items: list[Turn | Entry] = [
            Entry(event=event, call=calls.get(str(event.payload.get("tool_call_id", "")))) for event in found
        ]
    else:
        items = group(found, calls, opened=opened_before(session, first.pk) if more and first else None)
    if turns := [item for item in items if isinstance(item, Turn)]:
        turns[-1].latest = True
        if before is not None and turns[-1].open:
            turns[-1].until = before
    return Stretch(
        items=items,
        show=show,
        earlier=first.pk if more and first else None,
        more=first.position - 1 if more and first and not show.flat else 0,
        before=before,
        since=first.pk if first and (before or since) else None,
    )


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
    # What opened a turn earlier comes first, so that the grouping is the page's own.
    items = group(wanted, calls, opened=opened_before(session, wanted[0].pk))
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
    return {call_id: row for (_, call_id), row in ledger_rows(session, ids).items()}


def ledger_rows(session: Session, ids: Collection[str]) -> dict[tuple[str, str], ToolCall]:
    """Return these calls' rows by thread and id, each with the beginning of its result.

    `excerpt` is that beginning, `letters` how long all of it is: a page must not read megabytes to show lines.
    """
    if not ids:
        return {}
    said = Case(When(result="", then=F("error")), default=F("result"))
    rows = session.tool_calls.filter(tool_call_id__in=ids).defer("result", "error").order_by("pk")
    rows = rows.annotate(excerpt=Left(said, EXCERPT), letters=Length(said))
    return {(row.thread_id, row.tool_call_id): row for row in rows}


def strip(session: Session) -> list[Step]:
    """Return the graph's nodes in order, each with where the session's latest attempt stands with it.

    An agent's turn and a decided route are the traces that nodes leave. One without a trace is done when a later
    one has left some, and is the one at work when it follows the latest trace of a session that has not ended. What
    a decided route leaps over is skipped.
    """
    try:
        nodes = registry.get(session.graph).nodes
    except NotFound:
        return []
    latest = session.runs.exclude(kind=RunKind.RESUME).order_by("-pk").first()
    if latest is None:
        return [Step(name=node, standing="ahead") for node in nodes]
    turns: dict[str, list[AgentRun]] = {}
    for row in session.agent_runs.filter(run_id__gte=latest.pk).defer("summary", "evidence").order_by("pk"):
        turns.setdefault(row.agent, []).append(row)
    routes = {
        event.payload["source"]: event
        for event in session.events.filter(kind="route_decided", ts__gte=latest.created_at).order_by("seq")
    }
    position, at_work = _position(nodes, {name: rows[-1] for name, rows in turns.items()}, routes)
    # A rerun from a checkpoint leaves no traces of the nodes before it: they are behind it all the same.
    at_work = max([at_work, *(nodes.index(node) for node in (latest.origin or {}).get("next", ()) if node in nodes)])
    busy = None
    if not session.ended:
        open_calls = session.tool_calls.filter(status__in=[CallStatus.EXECUTING, CallStatus.PENDING_APPROVAL])
        busy = open_calls.only("agent", "tool").order_by("-pk").first()
    steps = []
    for index, node in enumerate(nodes):
        own, route = turns.get(node, []), routes.get(node)
        begun = bool(own) and own[-1].ended_at is None
        done = bool(own and own[-1].ended_at) or route is not None
        skipped = not own and route is None and any(low < index < high for low, high in position)
        steps.append(
            Step(
                name=node,
                standing="skipped" if skipped else _standing(session, index, at_work, done=done, begun=begun),
                confidence=own[-1].confidence if own else None,
                times=len(own),
                doing=busy.tool.rpartition(":")[2] if busy and busy.agent == node else "",
                target=str(route.payload["target"]) if route else "",
                why=str(route.payload["why"]) if route else "",
            )
        )
    return steps


def _position(
    nodes: Sequence[str], turns: dict[str, AgentRun], routes: dict[str, SessionEvent]
) -> tuple[list[tuple[int, int]], int]:
    """Return what each decided route leaps over, and the index of the node that the latest trace leads to."""

    def index_of(name: str) -> int:
        return nodes.index(name) if name in nodes else len(nodes)

    leaps = [(index_of(source), index_of(event.payload["target"])) for source, event in routes.items()]
    begun = [index_of(name) for name, turn in turns.items() if turn.ended_at is None]
    if begun:
        return leaps, max(begun)
    traces: list[tuple[datetime, int]] = [
        *((turn.ended_at, index_of(name) + 1) for name, turn in turns.items() if turn.ended_at),
        *((event.ts, index_of(event.payload["target"])) for event in routes.values()),
    ]
    return leaps, max(traces)[1] if traces else 0


def _standing(session: Session, index: int, at_work: int, *, done: bool, begun: bool) -> str:
    """Return done, running, waiting, failed, stopped, skipped or ahead."""
    if begun or (index == at_work and not session.ended):
        match session.status:
            case SessionStatus.AWAITING_INPUT:
                return "waiting"
            case SessionStatus.ERROR:
                return "failed"
            case SessionStatus.STOPPED:
                return "stopped"
            case SessionStatus.IN_PROGRESS:
                return "running"
    if done or index < at_work:
        return "done"
    if index == at_work and session.status in {SessionStatus.ERROR, SessionStatus.STOPPED}:
        return "failed" if session.status == SessionStatus.ERROR else "stopped"
    return "skipped" if session.ended else "ahead"


def shown(session: Session) -> dict[str, Any]:
    """Return what the head of a session's page shows, for the page and for the push alike."""
    return {"session": session, "steps": strip(session)}
