"""A session's chart for templates that are not the session's own page, such as a gate's card."""

from __future__ import annotations

from datetime import datetime

from django import template

from sessions_app import charts
from sessions_app.models import Session

register = template.Library()


@register.simple_tag
def chart_of(session: Session, until: datetime | None = None) -> charts.Chart | None:
    """Return the chart of what was read in the session, for `sessions/_chart.html`; one query, no marks of gates."""
    chart: charts.Chart | None = charts.shown(session, until=until, events=False)["chart"]
    return chart
