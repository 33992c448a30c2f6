"""The insight page, the lists behind its numbers, and the same as a file."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from typing import Any

from django import forms
from django.db.models import Prefetch
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from approvals_app import insight
from approvals_app.models import Decision
from approvals_app.states import GateStatus
from sessions_app.decorators import PersonRequest, page
from sessions_app.exceptions import Invalid
from sessions_app.querysets import keyset_page

PAGE_SIZE = 50
#: Days that the page shows when it is not asked for others, and those that are one click away.
DAYS = 30
SPANS = (7, 30, 90)
#: Rows that one file may have.
MOST_ROWS = 50_000


class InsightForm(forms.Form):
    """A period, and for the lists what it is narrowed to; all of it stands in the address."""

    since = forms.DateField(required=False, error_messages={"invalid": "Write the first day as YYYY-MM-DD."})
    until = forms.DateField(required=False, error_messages={"invalid": "Write the last day as YYYY-MM-DD."})
    tool = forms.CharField(max_length=120, required=False)
    approver = forms.CharField(max_length=150, required=False)
    status = forms.ChoiceField(choices=[("", "any"), *GateStatus.choices], required=False)
    quick = forms.BooleanField(required=False)
    unknown = forms.BooleanField(required=False)

    def clean(self) -> dict[str, Any]:
        """Put in the days that were not given, and refuse a period that has none or too many."""
        values: dict[str, Any] = super().clean() or {}
        if self.errors:
            return values
        values["until"] = until = values.get("until") or timezone.now().date()
        values["since"] = since = values.get("since") or until - timedelta(days=DAYS - 1)
        if since > until:
            self.add_error("since", "The first day is after the last one.")
        elif (until - since).days >= insight.MOST_DAYS:
            self.add_error("since", f"At most {insight.MOST_DAYS} days at once.")
        return values

    @property
    def asked(self) -> insight.Asked:
        """What was asked; raises Invalid with what is wrong."""
        if not self.is_valid():
            wrong = {name: str(errors[0]) for name, errors in self.errors.items()}
            raise Invalid(" ".join(wrong.values()), fields=wrong)
        return insight.Asked(**self.cleaned_data)


@require_safe
@page("approvals_app.view_gate")
def insights(request: PersonRequest) -> HttpResponse:
    """Show how deciding goes."""
    form = InsightForm({name: request.GET.get(name, "") for name in ("since", "until")})
    wrong = ""
    try:
        asked = form.asked
    except Invalid as refused:
        wrong, asked = refused.text, InsightForm({}).asked
    context = {
        "insight": insight.look(asked),
        "asked": asked,
        "wrong": wrong,
        "spans": [_span(days, asked) for days in SPANS],
        "quick_seconds": int(insight.QUICK.total_seconds()),
    }
    return render(request, "approvals/insight.html", context, status=422 if wrong else 200)


@require_safe
@page("approvals_app.view_gate")
def insight_gates(request: PersonRequest) -> HttpResponse:
    """List the gates behind one number, the latest first."""
    asked = InsightForm(request.GET).asked
    decisions = Prefetch(
        "decisions", queryset=Decision.objects.select_related("actor").order_by("gate", "pk"), to_attr="taken"
    )
    rows = asked.gates().select_related("session").prefetch_related(decisions)
    found = keyset_page(rows, order=("-decided_at", "-pk"), cursor=request.GET.get("cursor") or None, limit=PAGE_SIZE)
    context = {"asked": asked, "gates": found.items, "total": found.total, "next_cursor": found.next_cursor}
    return render(request, "approvals/insight_gates.html", context)


@require_safe
@page("approvals_app.view_gate")
def insight_csv(request: PersonRequest) -> HttpResponse:
    """Give the gates behind one number as a CSV file, the oldest first."""
    asked = InsightForm(request.GET).asked
    rows = asked.gates()
    if rows.count() > MOST_ROWS:
        raise Invalid(f"That is more than {MOST_ROWS:,} gates: choose fewer days.")
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="clm-gates-{asked.since}-to-{asked.until}.csv"'
    file = csv.writer(response)
    file.writerow(insight.COLUMNS)
    file.writerows(insight.table(rows))
    return response


def _span(days: int, asked: insight.Asked) -> dict[str, Any]:
    today: date = timezone.now().date()
    span = insight.Asked(since=today - timedelta(days=days - 1), until=today)
    return {"days": days, "query": span.query, "here": (span.since, span.until) == (asked.since, asked.until)}
