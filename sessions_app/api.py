"""The REST contract, the part about sessions: submit, read, stop, rerun, follow; and the catalogue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from channels.db import database_sync_to_async
from django.db.models import Max, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Header, Query, Router
from ninja.responses import Status
from pydantic import AfterValidator

from sessions_app import streams
from sessions_app.agents import checkpoints, config, models, registry, risk
from sessions_app.agents.tools import CATALOGUE
from sessions_app.attempts import attempts_of, describe_attempt
from sessions_app.exceptions import BadRequest, Invalid, NotFound
from sessions_app.identity import Access, StreamAccess, of
from sessions_app.models import ApiToken, Session
from sessions_app.querysets import MAX_PAGE, Page
from sessions_app.schemas import (
    AgentAnswer,
    CheckpointAnswer,
    DuplicateRetraction,
    Lesson,
    Retry,
    RetryAnswer,
    RetryPreview,
    SessionAnswer,
    SessionPage,
    Submission,
    Submitted,
    ToolAnswer,
    UiHints,
    WholeSession,
    describe_agent_run,
    describe_event,
    describe_session,
    describe_sessions,
    describe_tool_call,
    instant,
)
from sessions_app.states import SessionStatus
from sessions_app.streams import MAX_SEQ, READ

READ_STREAM = StreamAccess(READ.scope, READ.permission, open_on_loopback=READ.open_on_loopback)
START = Access(ApiToken.Scope.WRITE, "sessions_app.add_session", open_on_loopback=True)
STOP = Access(ApiToken.Scope.WRITE, "sessions_app.stop_session")

#: The most events, agents' turns or tool calls that come with a whole session.
MAX_WHOLE = 500
#: The longest Idempotency-Key.
MAX_KEY = 200
#: What the OpenAPI document says of a stream.
STREAM = {"responses": {200: {"description": "OK", "content": {"text/event-stream": {"schema": {"type": "string"}}}}}}

router = Router(auth=READ)


def _in_utc(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=UTC)


Limit = Annotated[int, Query(50, ge=1, le=MAX_PAGE, description="Rows on a page.")]
Since = Annotated[int, Query(0, ge=0, le=MAX_SEQ, description="Only events after this seq.")]
LastEventId = Annotated[
    str, Header("", alias="Last-Event-ID", description="What EventSource sends when it comes back; wins over since.")
]


# Sessions -------------------------------------------------------------------------------------------------------


@router.post("/sessions", auth=START, response={201: Submitted}, tags=["sessions"])
def submit_session(
    request: HttpRequest,
    body: Submission,
    idempotency_key: Annotated[str, Header("", alias="Idempotency-Key", max_length=MAX_KEY)],
) -> Any:
    """Start a session; it runs in the background, at once or when there is room."""
    submitter = body.submitter
    session = Session.submit(
        query=body.query,
        environment=body.environment,
        requester=of(request).user,
        submitter_id=submitter.id if submitter else "",
        submitter_team=(submitter.team or "") if submitter else "",
        graph=body.graph or "incident",
        state_overrides=body.state_overrides,
        idempotency_key=idempotency_key,
    )
    return Status(201, {"session_id": session.pk})


@router.get("/sessions", response=SessionPage, tags=["sessions"])
def list_sessions(
    request: HttpRequest,
    limit: Limit,
    status: Annotated[str, Query("", description="One status, or several with commas.")],
    environment: str = "",
    q: Annotated[str, Query(max_length=200, description="Words in the id, the query or the summary.")] = "",
    graph: str = "",
    since: Annotated[
        Annotated[datetime, AfterValidator(_in_utc)] | None, Query(description="Submitted then or later.")
    ] = None,
    cursor: str = "",
) -> Any:
    """List sessions, newest first, page by page."""
    rows = Session.objects.matching(
        status=known_statuses(status, set(SessionStatus.values)),
        environment=environment,
        q=q,
        graph=graph,
        since=since,
    )
    page = page_of(rows, cursor=cursor, limit=limit)
    return {"items": describe_sessions(page.items), "next_cursor": page.next_cursor, "total": page.total}


@router.get("/sessions/recent", response=list[SessionAnswer], tags=["sessions"])
def recent_sessions(request: HttpRequest, limit: Limit) -> Any:
    """Return the latest sessions, newest first, duplicates included."""
    return describe_sessions(list(Session.objects.newest_first()[:limit]))


@router.get("/sessions/recent/events", auth=READ_STREAM, tags=["streams"], openapi_extra=STREAM)
async def stream_all_events(request: HttpRequest, since: Since, last_event_id: LastEventId) -> StreamingHttpResponse:
    """Follow the events of every session, from a cursor on, as server-sent events."""
    return streams.server_sent(None, _cursor(since, last_event_id))


@router.get("/sessions/{session_id}", response=SessionAnswer, tags=["sessions"])
def get_session(request: HttpRequest, session_id: str) -> Any:
    """Return one session."""
    return describe_session(find_session(session_id))


@router.delete("/sessions/{session_id}", auth=STOP, response={204: None}, tags=["sessions"])
def stop_session(request: HttpRequest, session_id: str) -> Any:
    """Stop a session: its run is cancelled, and its open gates with it.

    Of one that has ended, the rerun that waits to be claimed; where none does, that is a conflict.
    """
    find_session(session_id).stop(actor=of(request).person)
    return Status(204, None)


@router.get("/sessions/{session_id}/full", response=WholeSession, tags=["sessions"])
def get_whole_session(
    request: HttpRequest,
    session_id: str,
    since: Since,
    limit: Annotated[int, Query(MAX_WHOLE, ge=1, le=MAX_WHOLE, description="Events at most.")],
) -> Any:
    """Return one session with its agents' finished turns, its tool calls and a page of its events."""
    session = find_session(session_id)
    turns = _latest(session.agent_runs.exclude(ended_at=None))
    calls = _latest(session.tool_calls.all())
    events = list(session.events.since(since)[: limit + 1])
    return {
        "session": describe_session(session),
        "agents_run": [describe_agent_run(turn) for turn in turns[-MAX_WHOLE:]],
        "tool_calls": [describe_tool_call(call) for call in calls[-MAX_WHOLE:]],
        "attempts": [describe_attempt(attempt) for attempt in attempts_of(session)],
        "events": [describe_event(event) for event in events[:limit]],
        "agent_definitions": _agents() if session.graph == "incident" else [],
        "vm_seq": session.events.aggregate(last=Max("seq"))["last"] or 0,
        "more": {
            "agents_run": len(turns) > MAX_WHOLE,
            "tool_calls": len(calls) > MAX_WHOLE,
            "events": len(events) > limit,
        },
    }


@router.get("/sessions/{session_id}/retry/preview", response=RetryPreview, tags=["sessions"])
def preview_retry(request: HttpRequest, session_id: str) -> Any:
    """Say whether a rerun would be taken now."""
    session = find_session(session_id)
    refusal = session.why_no_rerun()
    ended = f"{session.pk} ended {session.get_status_display()}: a rerun starts it from the beginning."
    return {"retry": not refusal, "reason": refusal or ended}


@router.post("/sessions/{session_id}/retry", auth=STOP, response={202: RetryAnswer}, tags=["sessions"])
def retry_session(request: HttpRequest, session_id: str, body: Retry | None = None) -> Any:
    """Rerun a session that has ended, from the start or from a checkpoint; refused while it runs or waits."""
    session = find_session(session_id)
    since = checkpoints.find(session, body.from_checkpoint) if body and body.from_checkpoint else None
    run = session.rerun(actor=of(request).person, since=since)
    return Status(202, {"run_id": run.pk})


@router.get("/sessions/{session_id}/checkpoints", response=list[CheckpointAnswer], tags=["sessions"])
def list_checkpoints(request: HttpRequest, session_id: str) -> Any:
    """List the checkpoints from which the session can be run again, the oldest first, over all its attempts."""
    return [
        {
            "checkpoint_id": found.checkpoint_id,
            "attempt": found.attempt,
            "thread_id": found.thread_id,
            "next": list(found.next),
            "ts": instant(found.at),
            "says": found.says,
        }
        for found in checkpoints.boundaries(find_session(session_id))
    ]


@router.get("/sessions/{session_id}/lessons", response=list[Lesson], tags=["sessions"])
def list_lessons(request: HttpRequest, session_id: str) -> Any:
    """Return the lessons that were noted in a session, oldest first."""
    found = find_session(session_id).events.filter(kind="lesson_extracted")[:MAX_PAGE]
    return [{"seq": event.seq, "lesson": event.payload["lesson"], "ts": instant(event.ts)} for event in found]


@router.post("/sessions/{session_id}/un-duplicate", auth=STOP, response=SessionAnswer, tags=["sessions"])
def retract_duplicate(request: HttpRequest, session_id: str, body: DuplicateRetraction | None = None) -> Any:
    """Take back that a session is a duplicate: it is new again, with its run queued."""
    session = find_session(session_id)
    said = [body.note, f"(for {body.retracted_by})" if body.retracted_by else ""] if body else []
    session.retract_duplicate(actor=of(request).person, note=" ".join(part for part in said if part))
    return describe_session(find_session(session_id))


@router.get("/sessions/{session_id}/events", auth=READ_STREAM, tags=["streams"], openapi_extra=STREAM)
async def stream_events(
    request: HttpRequest, session_id: str, since: Since, last_event_id: LastEventId
) -> StreamingHttpResponse:
    """Follow the events of one session, from a cursor on, as server-sent events."""
    cursor = _cursor(since, last_event_id)
    await database_sync_to_async(streams.refuse_unknown, thread_sensitive=False)(session_id)
    return streams.server_sent(session_id, cursor)


# Catalogue ------------------------------------------------------------------------------------------------------


@router.get("/agents", response=list[AgentAnswer], tags=["catalogue"])
def list_agents(request: HttpRequest) -> Any:
    """Return the agents of the incident graph, in the order in which they work."""
    return _agents()


@router.get("/tools", response=list[ToolAnswer], tags=["catalogue"])
def list_tools(request: HttpRequest) -> Any:
    """Return the tools; `risk` is what the rules say of a call without arguments, before they are known."""
    rules = config.current().risk.rules
    agents = _agents()
    return [
        {
            "name": spec.name,
            "original_name": spec.original_name,
            "description": spec.description,
            "category": spec.category,
            "server": spec.server,
            "transport": "in_process",
            "risk": risk.judge(spec.name, {}, "", rules).level,
            "bound_agents": [agent["name"] for agent in agents if spec.name in agent["tools"]],
        }
        for spec in CATALOGUE.values()
    ]


@router.get("/environments", response=list[str], tags=["catalogue"])
def list_environments(request: HttpRequest) -> Any:
    """Return the environments that a session can be about."""
    return list(config.current().environments.names)


@router.get("/config/ui-hints", response=UiHints, tags=["catalogue"])
def get_ui_hints(request: HttpRequest) -> Any:
    """Return the names and texts that a client's own pages may use."""
    current = config.current()
    return {
        "brand_name": current.ui.brand_name,
        "brand_logo_url": current.ui.brand_logo_url,
        "approval_rationale_templates": list(current.ui.approval_rationale_templates),
        "hitl_question_templates": list(current.ui.hitl_question_templates),
        "environments": list(current.environments.names),
    }


@router.get("/apps/{app}/ui-views", response=list[dict[str, Any]], tags=["catalogue"])
def list_ui_views(request: HttpRequest, app: str) -> Any:
    """Return an app's own views: none, because CLM's pages are its own."""
    return []


# What the parts share -------------------------------------------------------------------------------------------


def find_session(session_id: str) -> Session:
    """Return the session, or raise NotFound."""
    found = None if "\x00" in session_id else Session.objects.filter(pk=session_id).first()
    if found is None:
        raise NotFound(f"There is no session {session_id[:40]!r}.")
    return found


def known_statuses(text: str, known: set[str]) -> str:
    """Return a filter's statuses, or raise Invalid for one that does not exist, which would find nothing."""
    if unknown := [part for part in text.split(",") if part and part.strip() not in known]:
        raise Invalid(
            f"status: {unknown[0].strip()!r} is none of {', '.join(sorted(known))}.",
            fields={"status": f"One or more of {', '.join(sorted(known))}."},
        )
    return text


def page_of(rows: Any, *, cursor: str, limit: int, **kwargs: Any) -> Page[Any]:
    """Return a page of `rows`, or raise BadRequest for a cursor that was made up."""
    try:
        page: Page[Any] = rows.page(cursor=cursor or None, limit=limit, **kwargs)
    except (TypeError, ValueError):
        raise BadRequest("That cursor is not one of ours: take next_cursor from the page before.") from None
    return page


def _cursor(since: int, last_event_id: str) -> int:
    return streams.read_cursor(last_event_id, name="Last-Event-ID") if last_event_id else since


def _latest(rows: QuerySet[Any]) -> list[Any]:
    """Return the last rows in their order, one more than is sent where there are more."""
    return list(reversed(rows.order_by("-pk")[: MAX_WHOLE + 1]))


def _agents() -> list[dict[str, Any]]:
    from sessions_app.agents.incident.graph import AGENTS

    nodes = registry.get("incident").nodes
    following = dict(zip(nodes, (*nodes[1:], "end"), strict=True))
    return [
        {
            "name": spec.name,
            "description": spec.description,
            "model": models.settings_of(spec.name).model,
            "tools": list(spec.tools),
            "routes": [{"next": following[spec.name]}],
        }
        for spec in AGENTS.values()
    ]
