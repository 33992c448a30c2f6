"""`/metrics`: a few series in Prometheus' text format, counted from the database when they are asked for.

Written by hand: a client library would count in each process what belongs to all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from approvals_app.models import Comparison, Decision, Gate
from approvals_app.states import DecisionType
from sessions_app import engine
from sessions_app.models import Run, Session
from sessions_app.states import RunStatus, SessionStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Series:
    """One metric: its samples by the value of its one label, or a single one under the empty label value."""

    name: str
    kind: str
    text: str
    samples: Iterable[tuple[str, float]]
    label: str = ""

    def lines(self) -> Iterator[str]:
        """Yield the lines that Prometheus reads; the label values are our own words and need no escapes."""
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} {self.kind}"
        for value, number in self.samples:
            labels = f'{{{self.label}="{value}"}}' if self.label else ""
            yield f"{self.name}{labels} {number:g}" if number < 1e6 else f"{self.name}{labels} {number:.0f}"


@csrf_exempt
@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape. Counts only: no id, no name, no text of anybody's."""
    lines = [line for series in (*_record(), *_sweep(), *_process()) for line in series.lines()]
    response = HttpResponse("\n".join([*lines, ""]), content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


def _record() -> Iterator[Series]:
    sessions = dict(Session.objects.order_by().values_list("status").annotate(number=Count("*")))
    runs = dict(Run.objects.order_by().values_list("status").annotate(number=Count("*")))
    decisions = dict(Decision.objects.order_by().values_list("type").annotate(number=Count("*")))
    pending = Gate.objects.pending().aggregate(number=Count("pk"), oldest=Min("created_at"))
    oldest = (timezone.now() - pending["oldest"]).total_seconds() if pending["oldest"] else 0.0
    yield Series("clm_sessions", "gauge", "Sessions by status.", _each(SessionStatus.values, sessions), "status")
    yield Series("clm_runs", "gauge", "Runs by status.", _each(RunStatus.values, runs), "status")
    yield Series("clm_gates_pending", "gauge", "Gates that nobody has decided.", [("", pending["number"])])
    yield Series("clm_gate_oldest_pending_seconds", "gauge", "Age of the oldest of them; 0 without.", [("", oldest)])
    yield Series("clm_decisions_total", "counter", "Decisions by type.", _each(DecisionType.values, decisions), "type")


def _sweep() -> Iterator[Series]:
    latest = Comparison.latest()
    if latest is None:
        return
    numbers = (
        ("clm_sweep_age_seconds", "Seconds since the sweep last compared.", latest.age.total_seconds()),
        ("clm_disagreements", "Disagreements that the sweep found last.", latest.disagreements),
        ("clm_repair_cards", "Disagreements that wait for a person.", latest.cards),
    )
    for name, text, number in numbers:
        yield Series(name, "gauge", text, [("", number)])


def _process() -> Iterator[Series]:
    running = engine.running()
    drives = float(running is not None and running.drives)
    yield Series(
        "clm_engine_up",
        "gauge",
        "Whether this process drives runs.",
        [("", drives)],
    )
    if running is not None:
        beat = time.monotonic() - running.beat
        text = "Seconds since this process's engine came round."
        yield Series("clm_engine_beat_age_seconds", "gauge", text, [("", beat)])
        yield Series("clm_engine_driving", "gauge", "Runs that this process drives now.", [("", running.driving)])


def _each(values: Iterable[str], counted: dict[str, int]) -> list[tuple[str, float]]:
    return [(value, counted.get(value, 0)) for value in values]
