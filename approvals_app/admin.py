"""Gates and what was said and decided about them in Django's admin, to be read; deciding happens on the desk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from approvals_app.models import AuditCheck, Comment, Decision, FactsAcknowledgement, Gate, Inquiry, Reply
from approvals_app.querysets import LONG
from sessions_app.admin import (
    EnvironmentFilter,
    HistoryAdmin,
    HistoryInline,
    SessionAdmin,
    WordFilter,
    json_line,
    json_text,
    moment_column,
    row_text,
    span_text,
)
from sessions_app.agents.risk import LEVELS
from sessions_app.models import Session


class RiskFilter(WordFilter):
    """By risk, of the levels that there are."""

    title = parameter_name = "risk"

    def words(self) -> Iterable[str]:
        """Return the levels."""
        return LEVELS


class GateEnvironmentFilter(EnvironmentFilter):
    """By the environment of the gate's session."""

    column = "session__environment"


class DecisionInline(HistoryInline):
    """Who decided it, what, why, and through which surface."""

    model = Decision
    seen_with = "approvals_app.view_gate"
    fields = ("at", "channel", "message", "next", "approver_note", "edited_line", "verdicts_line", "digest")
    at = moment_column("created_at", "at")
    joined = ("actor",)

    @admin.display(description="edited arguments")
    def edited_line(self, decision: Decision) -> str:
        """Show the arguments that the approver wrote instead."""
        return json_line(decision.edited_args)

    @admin.display(description="call by call")
    def verdicts_line(self, decision: Decision) -> str:
        """Show what was decided on each of several calls."""
        return json_line(decision.verdicts)


@admin.register(Gate)
class GateAdmin(HistoryAdmin):
    """Gates, the audit rows of interrupts."""

    seen_with = "approvals_app.view_gate"
    list_display = (
        "id",
        "status",
        "headline",
        "tool",
        "risk",
        "environment",
        "session_link",
        "expires",
        "on_desk",
    )
    list_filter = ("status", "kind", RiskFilter, GateEnvironmentFilter)
    list_select_related = ("session",)
    search_fields = ("headline", "tool", "session__id", "session__query", "tool_call_id")
    search_help_text = "Words of the headline, a tool, a session's id or words of its query."
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-pk")
    inlines = (DecisionInline,)
    readonly_fields = (
        *("session_link", "environment", "expires", "on_desk", "calls_text", "consequence_text"),
        *("evidence_text", "allowed_text", "request_text", "answer_text", "opened_at", "ended_at"),
    )
    opened_at = moment_column("created_at", "opened")
    ended_at = moment_column("decided_at", "decided")
    fieldsets = (
        (
            "What it wants",
            {
                "fields": (
                    "headline",
                    "status",
                    "session_link",
                    "environment",
                    "agent",
                    "tool",
                    "calls_text",
                    "question",
                )
            },
        ),
        (
            "Why it was asked",
            {"fields": ("reason", "risk", "rule", "rule_version", "reasoning", "consequence_text")},
        ),
        ("What became of it", {"fields": ("opened_at", "expires", "ended_at", "answer_text", "on_desk")}),
        (
            "For the record",
            {
                "classes": ("collapse",),
                "fields": (
                    *("kind", "run", "interrupt_id", "checkpoint_id", "tool_call_id", "digest"),
                    *("allowed_text", "evidence_text", "request_text"),
                ),
            },
        ),
    )

    def view_on_site(self, obj: Gate) -> str:
        """Link to the gate's page on the desk."""
        return obj.get_absolute_url()

    @admin.display(description="environment", ordering="session__environment")
    def environment(self, gate: Gate) -> str:
        """Show where its session is."""
        return gate.session.environment

    @admin.display(description="session", ordering="session_id")
    def session_link(self, gate: Gate) -> str:
        """Link to the session's page in the admin."""
        address = reverse("admin:sessions_app_session_change", args=[gate.session_id])
        return format_html('<a href="{}">{}</a>', address, gate.session_id)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, gate: Gate) -> str:
        """Say how much time is left, or that no time matters any more."""
        if gate.expired:
            return f"expired at {gate.expires_at:%Y-%m-%d %H:%M} UTC"
        if not gate.pending:
            return "–"
        return f"in {span_text(gate.expires_at - timezone.now())}"

    @admin.display(description="desk")
    def on_desk(self, gate: Gate) -> str:
        """Link to the page on which it is decided."""
        words = "decide" if gate.pending and not gate.expired else "look"
        return format_html('<a href="{}">{}</a>', gate.get_absolute_url(), words)

    @admin.display(description="calls")
    def calls_text(self, gate: Gate) -> str:
        """Lay the calls out."""
        return json_text(gate.calls)

    @admin.display(description="consequence")
    def consequence_text(self, gate: Gate) -> str:
        """Say what would follow, in the words of the desk."""
        means = gate.consequence
        if not means:
            return "–"
        if "calls" in means:
            return json_text(means)
        sentence = "".join(part["text"] for part in means.get("parts", ()))
        return f"{sentence}. Can be undone: {means.get('undoable') or 'not known'}. {means.get('breaks', '')}"

    @admin.display(description="evidence")
    def evidence_text(self, gate: Gate) -> str:
        """Lay out what it rests on."""
        return json_text(gate.evidence)

    @admin.display(description="may be answered with")
    def allowed_text(self, gate: Gate) -> str:
        """List the decision types that the graph takes."""
        return ", ".join(gate.allowed) or "–"

    @admin.display(description="request")
    def request_text(self, gate: Gate) -> str:
        """Lay the interrupt's value out."""
        return json_text(gate.request)

    @admin.display(description="answer")
    def answer_text(self, gate: Gate) -> str:
        """Lay out what the graph was told."""
        return json_text(gate.answer)


@admin.register(Decision)
class DecisionAdmin(HistoryAdmin):
    """Decisions, over all gates."""

    seen_with = "approvals_app.view_gate"
    list_display = ("at", "type", "actor", "channel", "gate", "session_link", "message")
    list_filter = ("type", "channel")
    list_select_related = ("actor", "gate")
    search_fields = ("gate__headline", "gate__tool", "gate__session__id", "actor__username", "message")
    search_help_text = "Words of the gate's headline or the reason, a tool, a session's id, a person."
    date_hierarchy = "created_at"
    ordering = ("-pk",)
    fields = (
        *("at", "type", "actor", "channel", "gate", "session_link"),
        *("message", "next", "edited_text", "verdicts_text", "approver_note", "digest"),
    )
    readonly_fields = ("at", "session_link", "edited_text", "verdicts_text")
    at = moment_column("created_at", "at")

    @admin.display(description="session", ordering="gate__session_id")
    def session_link(self, decision: Decision) -> str:
        """Link to the session's page in the admin."""
        address = reverse("admin:sessions_app_session_change", args=[decision.gate.session_id])
        return format_html('<a href="{}">{}</a>', address, decision.gate.session_id)

    @admin.display(description="edited arguments")
    def edited_text(self, decision: Decision) -> str:
        """Lay out the arguments that the approver wrote instead."""
        return json_text(decision.edited_args)

    @admin.display(description="call by call")
    def verdicts_text(self, decision: Decision) -> str:
        """Lay out what was decided on each of several calls."""
        return json_text(decision.verdicts)


class SaidAdmin(HistoryAdmin):
    """What people and the agent said about a gate: who, when, and the beginning of it."""

    seen_with = "approvals_app.view_gate"
    #: The way to the gate.
    about = "gate"
    joined: ClassVar[tuple[str, ...]] = ("gate",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Bring the gate without the long texts that no list shows."""
        long = [f"{self.about}__{name}" for name in LONG]
        return super().get_queryset(request).select_related(*self.joined).defer(*long)

    @admin.display(description="gate")
    def gate_link(self, row: Any) -> str:
        """Link to the gate's page in the admin."""
        gate = self._gate(row)
        return format_html('<a href="{}">{}</a>', reverse("admin:approvals_app_gate_change", args=[gate.pk]), gate)

    @admin.display(description="session")
    def session_link(self, row: Any) -> str:
        """Link to the session's page in the admin."""
        session_id = self._gate(row).session_id
        address = reverse("admin:sessions_app_session_change", args=[session_id])
        return format_html('<a href="{}">{}</a>', address, session_id)

    @admin.display(description="text")
    def beginning(self, row: Any) -> str:
        """Show as much of the text as a row holds."""
        return row_text(row.text)

    def _gate(self, row: Any) -> Gate:
        for name in self.about.split("__"):
            row = getattr(row, name)
        return cast(Gate, row)


@admin.register(Inquiry)
class InquiryAdmin(SaidAdmin):
    """What people asked the agent at gates."""

    list_display = ("at", "asker", "channel", "beginning", "gate_link", "session_link")
    list_filter = ("channel",)
    joined = ("asker", "gate")
    search_fields = ("text", "asker__username", "gate__session__id")
    search_help_text = "Words of the question, a person, a session's id."
    ordering = ("-pk",)
    fields = ("at", "asker", "channel", "gate_link", "session_link", "text")
    readonly_fields = ("at", "gate_link", "session_link")
    at = moment_column("asked_at", "asked")


@admin.register(Reply)
class ReplyAdmin(SaidAdmin):
    """What the agent answered, or why it did not."""

    about = "inquiry__gate"
    list_display = ("at", "inquiry", "beginning", "model", "gate_link", "session_link")
    joined = ("inquiry__gate", "inquiry__asker")
    search_fields = ("text", "error", "model", "inquiry__gate__session__id")
    search_help_text = "Words of the answer or of the error, a model, a session's id."
    ordering = ("-pk",)
    fields = ("at", "inquiry", "gate_link", "session_link", "text", "error", "model", "checkpoint_id")
    readonly_fields = ("at", "gate_link", "session_link")
    at = moment_column("answered_at", "answered")

    @admin.display(description="text")
    def beginning(self, row: Reply) -> str:
        """Show as much of the answer as a row holds, or of the reason for none."""
        return row_text(row.text or row.error)


@admin.register(Comment)
class CommentAdmin(SaidAdmin):
    """What people said to each other about gates."""

    list_display = ("at", "author", "channel", "beginning", "gate_link", "session_link")
    list_filter = ("channel",)
    joined = ("author", "gate")
    search_fields = ("text", "author__username", "gate__session__id")
    search_help_text = "Words of the comment, a person, a session's id."
    ordering = ("-pk",)
    fields = ("at", "author", "channel", "gate_link", "session_link", "text")
    readonly_fields = ("at", "gate_link", "session_link")
    at = moment_column("created_at", "at")


@admin.register(FactsAcknowledgement)
class FactsAcknowledgementAdmin(SaidAdmin):
    """Who has seen that the facts under a gate changed."""

    list_display = ("at", "actor", "channel", "changes_line", "gate_link", "session_link")
    list_filter = ("channel",)
    joined = ("actor", "gate")
    search_fields = ("actor__username", "gate__session__id")
    search_help_text = "A person, or a session's id."
    ordering = ("-pk",)
    fields = ("at", "actor", "channel", "gate_link", "session_link", "changes_text", "facts_text", "digest")
    readonly_fields = ("at", "gate_link", "session_link", "changes_text", "facts_text")
    at = moment_column("created_at", "at")

    @admin.display(description="changes")
    def changes_line(self, row: FactsAcknowledgement) -> str:
        """Show the changes on one line."""
        return json_line(row.changes)

    @admin.display(description="changes")
    def changes_text(self, row: FactsAcknowledgement) -> str:
        """Lay the changes out."""
        return json_text(row.changes)

    @admin.display(description="facts")
    def facts_text(self, row: FactsAcknowledgement) -> str:
        """Lay out the facts that they were shown."""
        return json_text(row.facts)


@admin.register(AuditCheck)
class AuditCheckAdmin(HistoryAdmin):
    """When the whole history was checked, and what was found."""

    seen_with = "approvals_app.view_gate"
    list_display = ("checked", "sessions", "faults")
    ordering = ("-pk",)
    fields = ("checked", "sessions", "faults")
    readonly_fields = ("checked",)
    checked = moment_column("at", "checked")


class GateInline(HistoryInline):
    """A session's gates, on the session's own page."""

    model = Gate
    seen_with = "approvals_app.view_gate"
    verbose_name_plural = "Gates"
    show_change_link = True
    fields = ("status", "tool", "risk", "reason", "opened_at", "ended_at", "until")
    opened_at = moment_column("created_at", "opened")
    ended_at = moment_column("decided_at", "decided")
    until = moment_column("expires_at", "expires")


class SessionWithGatesAdmin(SessionAdmin):
    """The session's page with its gates first: sessions_app knows none, so they are added from here."""

    inlines = (GateInline, *SessionAdmin.inlines)


admin.site.unregister(Session)
admin.site.register(Session, SessionWithGatesAdmin)
