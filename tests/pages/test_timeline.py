"""The session page where it is long, narrowed, linked to, or decided otherwise than proposed."""

from __future__ import annotations

import json
import re
from typing import Any
from unittest import mock

import pytest
from django.db.models import QuerySet

from approvals_app.arguments import differences
from approvals_app.states import Channel
from sessions_app import timeline
from sessions_app.agents.context import Judgement
from sessions_app.models import AgentRun, Session, SessionEvent, ToolCall
from tests.conftest import driven, tool_interrupt
from tests.pages.test_sessions import worked

pytestmark = pytest.mark.django_db


def say(session: Session, count: int) -> list[int]:
    """Write so many events of no consequence and return their numbers."""
    return [SessionEvent.append(session.pk, "lesson_extracted", {"lesson": f"n{n}."}).pk for n in range(count)]


def shown(response: Any) -> list[str]:
    return re.findall(r'<li id="e-([\d\w-]+)"', response.content.decode())


@pytest.mark.parametrize(
    ("show", "kinds"),
    [
        ("agents", {"agent_started", "agent_finished", "confidence_emitted"}),
        ("calls", {"tool_invoked"}),
        ("gates", {"gate_fired"}),
        ("changes", {"session.status_changed"}),
    ],
)
def test_each_filter_keeps_its_kinds_and_stands_in_the_address(as_alice, make_session, make_gate, show, kinds):
    session = make_session(status="in_progress")
    worked(session)
    make_gate(session)
    text = as_alice.get(f"/sessions/{session.pk}/", {"show": show}).content.decode()
    seqs = [int(seq) for seq in re.findall(r'<li id="e-(\d+)"', text)]
    assert set(session.events.filter(seq__in=seqs).values_list("kind", flat=True)) == kinds
    assert len(seqs) == session.events.filter(kind__in=kinds).count()
    assert re.search(rf'href="[^"]+\?show={show}" aria-current="true"', text)


def test_only_what_changed_something_leaves_out_reading_and_keeps_acting(as_alice, make_session):
    session = make_session(status="in_progress")
    worked(session)
    for risk in ("low", "medium", "high"):
        payload = {
            "tool": "a:b",
            "agent": "x",
            "args": {},
            "result_kind": "text",
            "latency_ms": 1,
            "status": "executed",
        }
        SessionEvent.append(session.pk, "tool_invoked", {**payload, "risk": risk})
    response = as_alice.get(f"/sessions/{session.pk}/", {"show": "changes"})
    kept = session.events.filter(seq__in=shown(response), kind="tool_invoked")
    assert [event.payload["risk"] for event in kept] == ["medium", "high"]


def test_a_filter_that_is_none_of_ours_filters_nothing(as_alice, make_session):
    session = make_session()
    assert shown(as_alice.get(f"/sessions/{session.pk}/", {"show": "bogus"})) == shown(
        as_alice.get(f"/sessions/{session.pk}/")
    )


def test_earlier_events_come_as_a_fragment_of_their_own_and_with_their_filter(as_alice, make_session):
    session = make_session(status="in_progress")
    seqs = say(session, 12)
    with mock.patch("sessions_app.timeline.PAGE", 5):
        headers = {"HX-Request": "true", "HX-Target": "li#earlier"}
        text = as_alice.get(f"/sessions/{session.pk}/", {"before": seqs[7]}, headers=headers).content.decode()
        assert text.lstrip().startswith('<li id="earlier"')
        assert [int(seq) for seq in re.findall(r'<li id="e-(\d+)"', text)] == seqs[2:7]
        assert f'name="since" value="{seqs[2]}"' in text
        # A page that loaded earlier events asks for all of them again, however often.
        again = as_alice.get(f"/sessions/{session.pk}/", {"since": seqs[2]}, headers={"HX-Request": "true"})
        assert shown(again) == [str(seq) for seq in seqs[2:]]
        assert f'name="since" value="{seqs[2]}"' in again.content.decode()
        narrowed = as_alice.get(f"/sessions/{session.pk}/", {"before": seqs[7], "show": "changes"})
    assert len(shown(narrowed)) == 1
    assert "show=changes" in narrowed.content.decode()


def test_what_a_page_asks_for_again_is_bounded(make_session):
    session = make_session(status="in_progress")
    seqs = say(session, 30)
    with mock.patch("sessions_app.timeline.PAGE", 3):
        stretch = timeline.page_of(session, since=seqs[0])
    assert [item.seq for item in stretch.items] == seqs[-15:]
    assert stretch.earlier == seqs[-15]


def test_a_link_to_an_old_event_opens_the_page_that_has_it(as_alice, make_session):
    session = make_session(status="in_progress")
    seqs = say(session, 30)
    with mock.patch("sessions_app.timeline.PAGE", 8), mock.patch("sessions_app.timeline.AFTER", 4):
        text = as_alice.get(f"/sessions/{session.pk}/", {"at": seqs[10]}).content.decode()
        newest = as_alice.get(f"/sessions/{session.pk}/", {"at": seqs[28]}).content.decode()
    assert f'href="/sessions/{session.pk}/?at={seqs[10]}#e-{seqs[10]}"' in text
    assert re.findall(r'<li id="e-(\d+)"', text) == [str(seq) for seq in seqs[7:15]]
    assert 'class="timeline latest' in newest


def test_a_turn_that_spans_pages_keeps_its_events_and_what_is_pushed_finds_its_place(make_session):
    session = make_session(status="in_progress")
    run = session.runs.get()
    AgentRun.start(session_id=session.pk, run_id=run.pk, agent="triage", key="long")
    began = session.events.get(kind="agent_started").pk
    seqs = say(session, 9)
    with mock.patch("sessions_app.timeline.PAGE", 4):
        (newest,) = timeline.page_of(session).items
        (middle,) = timeline.page_of(session, before=seqs[5]).items
    assert isinstance(newest, timeline.Turn)
    assert isinstance(middle, timeline.Turn)
    assert (newest.key, newest.resumed, [entry.seq for entry in newest.entries]) == (str(began), True, seqs[5:])
    assert (middle.key, middle.until) == (f"{began}-to-{seqs[5]}", seqs[5])
    (pushed,) = timeline.around(session, [seqs[-1]])
    assert isinstance(pushed, timeline.Turn)
    assert (pushed.key, pushed.fresh) == (str(began), False)


def test_a_session_with_very_many_events_costs_what_a_short_one_costs(
    as_alice, make_session, django_assert_max_num_queries
):
    session = make_session(status="in_progress")
    worked(session, report=False)
    first = session.events.latest("seq")
    fields: dict[str, Any] = {"session": session, "hash": "-", "kind": "lesson_extracted", "payload": {"lesson": "x"}}
    rows: Any = [SessionEvent(position=first.position + number, **fields) for number in range(1, 2001)]
    # Past the log's own refusal: nothing is to hear of these.
    QuerySet(SessionEvent).bulk_create(rows)
    with django_assert_max_num_queries(20):
        response = as_alice.get(f"/sessions/{session.pk}/")
    assert len(shown(response)) == timeline.PAGE + 1
    assert f"Earlier events ({first.position + 2000 - timeline.PAGE})" in response.content.decode()


def test_a_long_result_is_cut_and_all_of_it_is_a_link_away(as_alice, make_session):
    session = make_session(status="in_progress")
    run = session.runs.get()
    AgentRun.start(session_id=session.pk, run_id=run.pk, agent="triage", key="t")
    with driven(run):
        row, _ = ToolCall.enter(
            session_id=session.pk, run_id=run.pk, attempt=run.attempt,
            agent="triage", tool_call_id="c", tool="a:b", args={}, reasoning="",
            idempotent=True, judge=lambda: Judgement(level="low", reason="low_risk", rule="r", rule_version="1"),
        )  # fmt: skip
    row.settle(result="start " + "x" * 5000 + " end", result_kind="text", latency_ms=1)
    text = as_alice.get(f"/sessions/{session.pk}/").content.decode()
    assert "All of it (5,010 letters)" in text
    assert "x end" not in text
    address = f"/sessions/{session.pk}/calls/{row.pk}/"
    assert f'href="{address}"' in text
    assert "x end" in as_alice.get(address).content.decode()
    assert as_alice.get(address, headers={"HX-Request": "true"}).content.lstrip().startswith(b"<pre")
    assert as_alice.get(f"/sessions/{make_session().pk}/calls/{row.pk}/").status_code == 404


def test_a_result_in_json_is_laid_out_and_escaped_once(as_alice, make_session):
    session = make_session(status="in_progress")
    read(session, '{"a":"<b>"}', key="1")
    for path in ("", f"calls/{session.tool_calls.get().pk}/"):
        text = as_alice.get(f"/sessions/{session.pk}/{path}").content.decode()
        assert "{\n  &quot;a&quot;: &quot;&lt;b&gt;&quot;\n}" in text


def test_a_gate_shows_what_the_approver_changed_and_what_became_of_it(as_alice, bob, make_session, make_gate):
    session = make_session(status="in_progress")
    args: dict[str, Any] = {"service": "checkout", "action": "resize_pool", "size": 40}
    interrupt = tool_interrupt(**args)
    run = session.runs.get()
    with driven(run):
        ToolCall.enter(
            session_id=session.pk, run_id=run.pk, attempt=run.attempt,
            agent="resolution", tool_call_id=interrupt["value"]["tool_call_id"],
            tool="local_remediation:apply_fix", args=args, reasoning="", idempotent=False,
            judge=lambda: Judgement(level="high", reason="high_risk", rule="r", rule_version="1"),
        )  # fmt: skip
    run.refresh_from_db()
    gate = make_gate(session, interrupts=[interrupt])
    before = as_alice.get(f"/sessions/{session.pk}/").content.decode()
    assert "What the approver changed" not in before
    edited = {**args, "size": 32}
    gate.decide("edit", actor=bob, channel=Channel.PAGE, digest=gate.digest, edited_args=edited)
    text = as_alice.get(f"/sessions/{session.pk}/").content.decode()
    assert "<del>40</del>" in text
    assert "<ins>32</ins>" in text
    assert "<del>&quot;resize_pool&quot;</del>" not in text
    assert 'class="gate-outcome"' in text


def test_the_difference_names_what_was_added_left_out_and_altered():
    found = differences({"a": 1, "b": None, "c": [1]}, {"a": True, "c": [1], "d": "x"})
    assert [(one.name, one.before, one.after) for one in found] == [
        ("a", "1", "true"),
        ("b", "null", None),
        ("d", None, '"x"'),
    ]


def test_the_strip_shows_the_way_taken_what_it_left_out_and_loops(make_session):
    session = make_session(status="in_progress")
    worked(session)
    worked(session, agent="deep_investigator", key="two")
    worked(session, agent="deep_investigator", key="three")
    route = {"source": "confidence", "target": "__end__", "why": "a person escalated"}
    SessionEvent.append(session.pk, "route_decided", route)
    steps = timeline.strip(session)
    assert [step.standing for step in steps] == ["done", "done", "done", "done", "skipped"]
    assert [step.times for step in steps] == [0, 1, 2, 0, 0]
    assert (steps[3].target, steps[3].why) == ("__end__", "a person escalated")
    SessionEvent.append(session.pk, "route_decided", {**route, "target": "triage", "why": "look again"})
    assert [step.standing for step in timeline.strip(session)][1] == "running"


def test_the_live_node_names_the_tool_that_it_is_at(make_session):
    session = make_session(status="in_progress")
    run = session.runs.get()
    AgentRun.start(session_id=session.pk, run_id=run.pk, agent="triage", key="t")
    ToolCall.enter(
        session_id=session.pk, run_id=run.pk, attempt=run.attempt,
        agent="triage", tool_call_id="c", tool="server:slow", args={},
        reasoning="", idempotent=True,
        judge=lambda: Judgement(level="low", reason="low_risk", rule="r", rule_version="1"),
    )  # fmt: skip
    assert [step.doing for step in timeline.strip(session)] == ["", "slow", "", "", ""]


# Readings and charts -------------------------------------------------------------------------------------------


def read(
    session: Session, result: Any, *, tool: str = "local_observability:get_metrics", key: str, **args: Any
) -> None:
    """Put a settled call with this result into the ledger."""
    run = session.runs.latest("pk")
    with driven(run):
        row, _ = ToolCall.enter(
            session_id=session.pk, run_id=run.pk, attempt=run.attempt,
            agent="a", tool_call_id=key, tool=tool, args=args, reasoning="",
            idempotent=True, judge=lambda: Judgement(level="low", reason="low_risk", rule="r", rule_version="1"),
        )  # fmt: skip
    row.settle(result=result if isinstance(result, str) else json.dumps(result), result_kind="json", latency_ms=1)


def metrics(errors: float, used: int = 20) -> dict[str, Any]:
    return {
        "service": "checkout",
        "error_ratio": errors,
        "latency_ms": {"p95": 600},
        "pool": {"size": 20, "in_use": used},
    }


def test_readings_before_and_after_the_fix_are_drawn_with_a_table_beside_them(as_alice, make_session):
    session = make_session(status="in_progress")
    read(session, {"environment": "dev", "services": [metrics(0.4), {"service": "search", "error_ratio": 0}]}, key="1")
    fix = {"service": "checkout", "before": metrics(0.5), "after": metrics(0.25)}
    read(session, fix, tool="local_remediation:apply_fix", key="2", service="checkout", action="restart")
    read(session, metrics(0, used=3), key="3", service="checkout")
    text = as_alice.get(f"/sessions/{session.pk}/").content.decode()
    assert text.count('<svg class="panel-chart"') == 3
    assert "40 % → 0 %" in text
    assert "20 of 20 → 3 of 20" in text
    assert "restart ran" in text
    assert re.search(r'aria-labelledby="(\S+) (\S+)">\s*<title id="\1">Failed requests of checkout</title>', text)
    assert "from 40 % to 0 % in 4 readings" in text
    assert "The same as a table" in text


@pytest.mark.parametrize(
    "result",
    ["not json", "[1, 2]", '{"service": "checkout", "error_ratio": NaN}', '{"service": "checkout", "error_ratio": "9"}',
     '{"services": 3}', '{"service": "checkout", "latency_ms": [1]}', '{"error": "no such service"}', "[" * 2000,
     '{"service": "checkout", "error_ratio": 1' + "0" * 400 + "}"],
)  # fmt: skip
def test_a_result_that_is_no_reading_is_not_drawn_and_breaks_nothing(as_alice, make_session, result):
    session = make_session(status="in_progress")
    read(session, metrics(0.4), key="1")
    read(session, result, key="2")
    response = as_alice.get(f"/sessions/{session.pk}/")
    assert response.status_code == 200
    assert b'<svg class="panel-chart"' not in response.content


def test_a_chart_for_a_gate_leaves_out_what_came_after_it_opened(make_session):
    from sessions_app.templatetags.charts import chart_of

    session = make_session(status="in_progress")
    read(session, metrics(0.4), key="1")
    read(session, metrics(0.3), key="2")
    opened = session.tool_calls.latest("pk").finished_at
    read(session, metrics(0.1), key="3")
    early, whole = chart_of(session, until=opened), chart_of(session)
    assert early
    assert whole
    assert [len(chart.panels[0].points) for chart in (early, whole)] == [2, 3]
