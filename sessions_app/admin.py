"""Incident triage in Django's admin: history to read, and two verbs (rerun, stop) that go through the models.

Nothing here can add, change or delete history, not even as a superuser: the permissions say no before the
append-only tables would.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import CharField, Model, OuterRef, QuerySet, Subquery, TextField
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from sessions_app import events, redaction
from sessions_app.agents import config
from sessions_app.exceptions import ClmError
from sessions_app.models import AgentRun, ApiToken, Run, Session, SessionEvent, ToolCall
from sessions_app.querysets import MAX_PAGE

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[Any]
    _Inline = admin.TabularInline[Any, Any]
    _Formset = BaseInlineFormSet[Any, Any, Any]
else:
    _Admin, _Inline, _Formset = admin.ModelAdmin, admin.TabularInline, BaseInlineFormSet

_Row = TypeVar("_Row", bound=Model)
#: As much of a text as a row shows.
ROW_TEXT = 400
NO_BREAK = "\N{NO-BREAK SPACE}"


# How things are shown ---------------------------------------------------------------------------------------


def span_text(span: timedelta) -> str:
    """Return a span in its largest whole unit, as the desk writes it: "40 s", "12 min", "3 h", "5 d"."""
    seconds = max(0, int(span.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment_text(moment: datetime | None) -> str:
    """Return an instant to the second, in one piece; a narrow column would break it at every space."""
    return f"{timezone.localtime(moment):%d %b %Y %H:%M:%S}".replace(" ", NO_BREAK) if moment else "–"


def moment_column(field: str, description: str) -> Callable[[Any, Any], str]:
    """Return a column that shows the instant in `field`."""

    @admin.display(description=description, ordering=field)
    def column(page: Any, row: Any) -> str:
        return moment_text(getattr(row, field))

    return column


def json_text(value: Any) -> str:
    """Return a JSON value laid out for reading, or a dash where there is none; long lines wrap."""
    if not value:
        return "–"
    text = json.dumps(redaction.shown(value), indent=2, ensure_ascii=False, cls=DjangoJSONEncoder)
    lines = [NO_BREAK * (len(line) - len(line.lstrip())) + line.lstrip() for line in text.splitlines()]
    return format_html("<code>{}</code>", format_html_join(SafeString("<br>"), "{}", ((line,) for line in lines)))


def json_line(value: Any) -> str:
    """Return a JSON value on one line, cut to what a row can hold."""
    return row_text(json.dumps(redaction.shown(value), ensure_ascii=False, cls=DjangoJSONEncoder) if value else "")


def row_text(text: str) -> str:
    """Return as much of a text as a row can hold, able to break after each comma of a JSON without spaces."""
    text = redaction.shown_text(text or "")
    text = text if len(text) <= ROW_TEXT else f"{text[: ROW_TEXT - 1]}…"
    return format_html_join(SafeString("<wbr>"), "{}", ((part,) for part in re.split("(?<=,)", text or "–")))


def without_secrets(rows: Iterable[_Row]) -> list[_Row]:
    """Return rows as the admin shows them: secrets are taken out of their texts here, and of nothing that is stored."""
    shown = list(rows)
    for row in shown:
        for column in row._meta.concrete_fields:
            text = row.__dict__.get(column.attname)
            if isinstance(text, str) and isinstance(column, (CharField, TextField)) and not column.primary_key:
                row.__dict__[column.attname] = redaction.shown_text(text)
    return shown


# What history is --------------------------------------------------------------------------------------------


class History:
    """Permissions of what has happened: whoever has `seen_with` reads it, nobody writes it."""

    seen_with = "sessions_app.view_session"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask for the permission of the page that it belongs to, so one role sees a whole incident."""
        return request.user.has_perm(self.seen_with)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show it on the admin's first page to whoever may read it."""
        return request.user.has_perm(self.seen_with)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: rows come from verbs."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: history is not changed."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: history is not deleted; this also takes `delete_selected` away."""
        return False


class HistoryList(ChangeList):
    """A list whose rows have no secrets in them."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page."""
        super().get_results(request)
        self.result_list: Any = without_secrets(self.result_list)


class HistoryAdmin(History, _Admin):
    """A list and a page of rows that only verbs write."""

    list_per_page = 50
    list_max_show_all = MAX_PAGE
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Hide secrets in the list."""
        return HistoryList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Hide secrets on the page; nothing of it is ever saved."""
        found = super().get_object(request, object_id, from_field)
        return without_secrets([found])[0] if found else None


class LatestRows(_Formset):
    """The latest rows of an inline, oldest first: a session can have more events than a page holds (S32)."""

    def get_queryset(self) -> Any:
        """Return at most MAX_PAGE rows, read once."""
        if not hasattr(self, "_latest"):
            newest = super().get_queryset().order_by("-pk")[:MAX_PAGE]
            self._latest = without_secrets(reversed(newest))
        return self._latest


class HistoryInline(History, _Inline):
    """Rows of history on the page of what they belong to; related rows come in the same query.

    Django writes each row's own name above it, so no column repeats that.
    """

    formset = LatestRows
    extra = 0
    can_delete = False
    joined: Sequence[str] = ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Make every column text: the form has no widget to build and no choice to query."""
        return self.fields or ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Bring what a row names with it."""
        return super().get_queryset(request).select_related(*self.joined)


# Filters ----------------------------------------------------------------------------------------------------


class WordFilter(admin.SimpleListFilter):
    """By a column whose words are known, so that no filter reads the whole table to list them."""

    column = ""

    def words(self) -> Iterable[str]:
        """Return what can be chosen."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer each word as it stands in the database."""
        return [(word, word) for word in self.words()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows with the chosen word."""
        column = self.column or str(self.parameter_name)
        return queryset.filter(**{column: self.value()}) if self.value() else queryset


class EnvironmentFilter(WordFilter):
    """By environment, of those that are configured."""

    title = parameter_name = "environment"

    def words(self) -> Iterable[str]:
        """Return the configured environments."""
        return config.current().environments.names


class GraphFilter(WordFilter):
    """By graph, of those that are registered."""

    title = parameter_name = "graph"

    def words(self) -> Iterable[str]:
        """Return the registered graphs; LangGraph is imported here, not by every command that loads the admin."""
        from sessions_app.agents import registry

        return registry.names()


class KindFilter(WordFilter):
    """By event kind."""

    title = parameter_name = "kind"

    def words(self) -> Iterable[str]:
        """Return the registered kinds."""
        return events.KINDS


class AgeFilter(admin.SimpleListFilter):
    """By how long ago a session was submitted."""

    title = "age"
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer what somebody on call asks for."""
        return [
            ("today", "today"),
            ("24h", "the last 24 hours"),
            ("7d", "the last 7 days"),
            ("older", "older"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the sessions of that age; an unknown word keeps all."""
        now = timezone.now()
        week = now - timedelta(days=7)
        midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
        since = {"today": midnight, "24h": now - timedelta(hours=24), "7d": week}.get(self.value() or "")
        if since:
            return queryset.filter(created_at__gte=since)
        return queryset.filter(created_at__lt=week) if self.value() == "older" else queryset


# The session ------------------------------------------------------------------------------------------------


class EventInline(HistoryInline):
    """What happened, in order."""

    model = SessionEvent
    verbose_name_plural = f"Events (the latest {MAX_PAGE})"
    fields = ("at", "what", "payload_line", "actor")
    joined = ("actor",)
    at = moment_column("ts", "at")

    @admin.display(description="what")
    def what(self, event: SessionEvent) -> str:
        """Say what the kind means."""
        return event.text

    @admin.display(description="payload")
    def payload_line(self, event: SessionEvent) -> str:
        """Show the payload on one line."""
        return json_line(event.payload)


class RunInline(HistoryInline):
    """Each drive of the graph."""

    model = Run
    verbose_name_plural = f"Runs (the latest {MAX_PAGE})"
    fields = (
        *("thread_id", "status", "asked_by", "asked_at", "since", "outcome"),
        *("attempt", "worker", "began_at", "stopped_at", "error"),
    )
    joined = ("asked_by",)
    asked_at = moment_column("created_at", "asked for")
    began_at = moment_column("started_at", "claimed")
    stopped_at = moment_column("ended_at", "ended")

    @admin.display(description="from")
    def since(self, run: Run) -> str:
        """Say where it went on: at a checkpoint of an earlier attempt, or where every other run does."""
        if not run.origin:
            return "–"
        return f"attempt {run.origin['attempt']}, before {', '.join(run.origin['next'])}"


class AgentRunInline(HistoryInline):
    """Each agent's turn: what it found, how sure it is, what it cost."""

    model = AgentRun
    verbose_name = "agent turn"
    verbose_name_plural = f"Agent turns (the latest {MAX_PAGE})"
    fields = ("began_at", "stopped_at", "summary", "confidence", "signal", "tokens")
    began_at = moment_column("started_at", "began")
    stopped_at = moment_column("ended_at", "reported")

    @admin.display(description="tokens in / out")
    def tokens(self, turn: AgentRun) -> str:
        """Show what the turn cost."""
        return f"{turn.input_tokens:,} / {turn.output_tokens:,}"


class ToolCallInline(HistoryInline):
    """Each call of the ledger: how it was judged, who approved it, how it ended."""

    model = ToolCall
    verbose_name_plural = f"Tool calls (the latest {MAX_PAGE})"
    fields = ("at", "agent", "args_line", "risk", "reason", "status", "approver", "answer_line")
    at = moment_column("ts", "at")

    @admin.display(description="arguments")
    def args_line(self, call: ToolCall) -> str:
        """Show the arguments on one line."""
        return json_line(call.args)

    @admin.display(description="result")
    def answer_line(self, call: ToolCall) -> str:
        """Show the beginning of what the tool returned, or of what went wrong."""
        return row_text(call.error or call.result)


@admin.register(Session)
class SessionAdmin(HistoryAdmin):
    """Sessions, as somebody on call looks for them."""

    list_display = ("id", "stored_status", "environment", "requested_by", "age", "label", "latest_agent")
    list_filter = ("status", EnvironmentFilter, GraphFilter, AgeFilter)
    list_select_related = ("requester",)
    search_fields = ("id", "query", "summary", "requester__username", "submitter_id")
    search_help_text = "An id, or words of the query, the summary or the requester's name."
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-pk")
    actions = ("rerun_sessions", "stop_sessions")
    inlines: ClassVar[tuple[type[HistoryInline], ...]] = (RunInline, AgentRunInline, ToolCallInline, EventInline)
    readonly_fields = (
        *("stored_status", "requested_by", "age", "latest_agent", "tokens", "every_event"),
        *("findings_text", "tags_text", "overrides_text", "extra_text", "asked_at", "stopped_at", "changed_at"),
    )
    asked_at = moment_column("created_at", "submitted")
    stopped_at = moment_column("ended_at", "ended")
    changed_at = moment_column("updated_at", "last event")
    fieldsets = (
        (
            "What was asked",
            {
                "fields": (
                    "stored_status",
                    "query",
                    "environment",
                    "requested_by",
                    "submitter_team",
                    "age",
                    "asked_at",
                )
            },
        ),
        (
            "What was found",
            {"fields": ("summary", "severity", "category", "findings_text", "tags_text", "latest_agent")},
        ),
        ("How it ended", {"fields": ("resolution", "stopped_at", "parent", "dedup_rationale")}),
        (
            "For the record",
            {
                "classes": ("collapse",),
                "fields": ("graph", "tokens", "every_event", "changed_at", "overrides_text", "extra_text"),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        """Bring the latest agent's name with each row."""
        turns = AgentRun.objects.filter(session=OuterRef("pk")).order_by("-pk")
        sessions: QuerySet[Session] = super().get_queryset(request)
        return sessions.annotate(agent_now=Subquery(turns.values("agent")[:1]))

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """Say who may stop and rerun: the permission that the desk asks for, too."""
        return request.user.has_perm("sessions_app.stop_session")

    def view_on_site(self, obj: Session) -> str:
        """Link to the session's page on the desk."""
        return obj.get_absolute_url()

    # Columns ----------------------------------------------------------------------------------------------

    @admin.display(description="status", ordering="status")
    def stored_status(self, session: Session) -> str:
        """Show the stored word, which the API, the log and the commands use as well (S1)."""
        return session.status

    @admin.display(description="requester", ordering="requester__username")
    def requested_by(self, session: Session) -> str:
        """Name who asked: the person, or else whom the client named."""
        return session.requester.get_username() if session.requester else session.submitter_id or "–"

    @admin.display(description="age", ordering="created_at")
    def age(self, session: Session) -> str:
        """Say how long ago it was submitted."""
        return span_text(timezone.now() - session.created_at)

    @admin.display(description="label")
    def label(self, session: Session) -> str:
        """Show what was found, or else what was asked."""
        return session.label

    @admin.display(description="agent")
    def latest_agent(self, session: Session) -> str:
        """Name the agent that had the session last."""
        return getattr(session, "agent_now", None) or "–"

    @admin.display(description="tokens in / out")
    def tokens(self, session: Session) -> str:
        """Show what the session cost."""
        return f"{session.input_tokens:,} / {session.output_tokens:,}"

    @admin.display(description="events")
    def every_event(self, session: Session) -> str:
        """Link to all its events; the page itself shows the latest."""
        address = reverse("admin:sessions_app_sessionevent_changelist", query={"session__id__exact": session.pk})
        return format_html('<a href="{}">{} events</a>', address, session.version)

    @admin.display(description="findings")
    def findings_text(self, session: Session) -> str:
        """List the findings, each on its line."""
        if all(isinstance(finding, str) for finding in session.findings):
            return format_html_join(SafeString("<br>"), "{}", ((finding,) for finding in session.findings)) or "–"
        return json_text(session.findings)

    @admin.display(description="tags")
    def tags_text(self, session: Session) -> str:
        """List the tags."""
        return ", ".join(map(str, session.tags)) or "–"

    @admin.display(description="state overrides")
    def overrides_text(self, session: Session) -> str:
        """Lay out what the submission put into the graph."""
        return json_text(session.state_overrides)

    @admin.display(description="extra fields")
    def extra_text(self, session: Session) -> str:
        """Lay out what the agents noted beside the incident."""
        return json_text(session.extra_fields)

    # Actions ----------------------------------------------------------------------------------------------

    @admin.action(description="Rerun the selected sessions", permissions=["stop"])
    def rerun_sessions(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        """Ask for a rerun of each; one that waits for a decision is refused, its question is kept (S12)."""

        def rerun(session: Session) -> str:
            return f"{session.pk}: rerun queued as run {session.rerun(actor=_person(request)).pk}."

        self._each(request, queryset, rerun)

    @admin.action(description="Stop the selected sessions", permissions=["stop"])
    def stop_sessions(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        """Stop each, with its run and its open gates; one that has ended is refused."""

        def stop(session: Session) -> str:
            session.stop(actor=_person(request), note="Stopped from the admin.")
            return f"{session.pk}: stopped; its open gates were cancelled."

        self._each(request, queryset, stop)

    def _each(self, request: HttpRequest, queryset: QuerySet[Session], verb: Callable[[Session], str]) -> None:
        """Do the verb to each session by itself and say what came of each."""
        chosen = list(queryset.order_by("created_at", "pk")[: MAX_PAGE + 1])
        if len(chosen) > MAX_PAGE:
            text = f"Nothing was done: choose at most {MAX_PAGE} sessions at a time."
            self.message_user(request, text, messages.ERROR)
            return
        for session in chosen:
            try:
                self.message_user(request, verb(session), messages.SUCCESS)
            except ClmError as refused:
                self.message_user(request, refused.text, messages.WARNING)


def _person(request: HttpRequest) -> Any:
    return request.user


@admin.register(SessionEvent)
class SessionEventAdmin(HistoryAdmin):
    """The whole log, over all sessions."""

    list_display = ("seq", "at", "session", "kind", "what", "payload_line", "actor")
    list_select_related = ("session", "actor")
    list_filter = (KindFilter,)
    search_fields = ("session__id", "kind")
    search_help_text = "A session's id, or an event kind."
    ordering = ("-seq",)
    fields = ("seq", "at", "session", "kind", "what", "payload_text", "actor")
    readonly_fields = ("at", "what", "payload_text")
    at = moment_column("ts", "at")

    @admin.display(description="what")
    def what(self, event: SessionEvent) -> str:
        """Say what the kind means."""
        return event.text

    @admin.display(description="payload")
    def payload_line(self, event: SessionEvent) -> str:
        """Show the payload on one line."""
        return json_line(event.payload)

    @admin.display(description="payload")
    def payload_text(self, event: SessionEvent) -> str:
        """Lay the payload out."""
        return json_text(event.payload)


# Tokens -----------------------------------------------------------------------------------------------------


@admin.register(ApiToken)
class ApiTokenAdmin(_Admin):
    """Who has a token and for what. Deleting one revokes it at once; `manage.py issue_token` makes one."""

    list_display = ("__str__", "user", "may", "created_at", "expires_at", "live")
    list_select_related = ("user",)
    list_per_page = 50
    list_max_show_all = MAX_PAGE
    show_full_result_count = False
    search_fields = ("name", "user__username")
    ordering = ("-created_at",)
    fields = ("user", "name", "may", "created_at", "expires_at", "live")
    readonly_fields = ("may", "live")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: a token is shown once, where it is made, and this page could only keep its hash."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: a token that should be able to do something else is revoked and issued again."""
        return False

    @admin.display(description="may")
    def may(self, token: ApiToken) -> str:
        """List its scopes."""
        return ", ".join(token.scopes) or "nothing"

    @admin.display(description="live", boolean=True)
    def live(self, token: ApiToken) -> bool:
        """Say whether it opens anything now."""
        return token.user.is_active and not _is_past(token.expires_at)


def _is_past(moment: datetime | None) -> bool:
    return moment is not None and moment <= timezone.now()
