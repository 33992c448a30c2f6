from __future__ import annotations

import re
from unittest import mock

import pytest

from approvals_app.states import Channel
from sessions_app import timeline
from sessions_app.agents.context import Judgement, Report, Usage
from sessions_app.events import KINDS
from sessions_app.models import AgentRun, Session, SessionEvent, ToolCall
from sessions_app.states import SessionStatus
from tests.conftest import driven
from tests.pages.conftest import HTMX

pytestmark = pytest.mark.django_db


def worked(session: Session, *, agent: str = "triage", key: str = "one", calls: int = 1, report: bool = True) -> None:
    """Write one agent's turn as its graph would."""
    run = session.runs.latest("pk")
    AgentRun.start(session_id=session.pk, run_id=run.pk, agent=agent, key=key)
    for number in range(calls):
        with driven(run):
            row, _ = ToolCall.enter(
                session_id=session.pk,
                run_id=run.pk,
                attempt=run.attempt,
                agent=agent,
                tool_call_id=f"{key}-{number}",
                tool="local_observability:get_logs",
                args={"service": "checkout"},
                reasoning="look",
                idempotent=True,
                judge=lambda: Judgement(level="low", reason="low_risk", rule="read_only", rule_version="1"),
            )
        row.settle(result='{"lines": ["pool 20/20 busy"]}', result_kind="json", latency_ms=12)
    if report:
        found = Report(summary="The pool is full.", confidence=0.82, rationale="All readings agree.", signal="continue")
        usage = Usage(input_tokens=10, output_tokens=2)
        AgentRun.finish(session_id=session.pk, agent=agent, key=key, report=found, usage=usage)


def test_the_list_shows_sessions_the_newest_first(as_alice, make_session):
    first, second = make_session(query="the first"), make_session(query="the second")
    text = as_alice.get("/sessions/").content.decode()
    assert text.index(second.pk) < text.index(first.pk)


@pytest.mark.parametrize(
    ("query", "found"),
    [("status=new", True), ("status=resolved", False), ("environment=dev", True), ("environment=local", False),
     ("q=slowly", True), ("q=quickly", False), ("status=bogus", True)],
)  # fmt: skip
def test_the_lists_filters_stand_in_the_address(as_alice, make_session, query, found):
    session = make_session()
    assert (session.pk.encode() in as_alice.get(f"/sessions/?{query}").content) is found


def test_the_list_is_paged_by_keyset(as_alice, make_session):
    made = [make_session() for _ in range(3)]
    with mock.patch("sessions_app.views.PAGE_SIZE", 2):
        first = as_alice.get("/sessions/").content.decode()
        link = re.findall(r'rel="next" href="([^"]+)"', first)[0]
        second = as_alice.get(link.replace("&amp;", "&")).content.decode()
    assert made[0].pk not in first
    assert made[0].pk in second
    assert made[2].pk not in second


def test_the_list_takes_a_bounded_number_of_queries(as_alice, make_session, alice, django_assert_max_num_queries):
    for _ in range(6):
        make_session(requester=alice)
    # Browser session, person, permissions; number of rows, rows with requesters, badge, strip, preferences.
    with django_assert_max_num_queries(9):
        as_alice.get("/sessions/")


def test_an_empty_list_says_what_a_session_is(as_alice):
    assert b"A session is one piece of agent work" in as_alice.get("/sessions/").content


def test_the_page_tells_what_happened_in_order_each_turn_folded_around_it(as_alice, make_session):
    session = make_session(status="in_progress")
    worked(session, calls=2)
    worked(session, agent="resolution", key="two", report=False)
    text = as_alice.get(f"/sessions/{session.pk}/").content.decode()
    seqs = [int(seq) for seq in re.findall(r'id="e-(\d+)"', text)]
    assert seqs == sorted(session.events.values_list("seq", flat=True))
    assert "82 % sure" in text
    assert "pool 20/20 busy" in text
    items = timeline.page_of(session).items
    turns = [item for item in items if isinstance(item, timeline.Turn)]
    assert [(turn.agent, turn.open, turn.report is not None, turn.calls) for turn in turns] == [
        ("triage", False, True, 2),
        ("resolution", True, False, 1),
    ]


def test_the_strip_says_where_the_graph_stands(make_session):
    session = make_session()
    assert [step.standing for step in timeline.strip(session)] == ["ahead"] * 5
    session.runs.get().claim("test:0:0")
    session.refresh_from_db()
    assert [step.standing for step in timeline.strip(session)] == ["running", *["ahead"] * 4]
    worked(session)
    assert [step.standing for step in timeline.strip(session)] == ["done", "done", "running", "ahead", "ahead"]
    worked(session, agent="deep_investigator", key="two", report=False)
    session.status = SessionStatus.AWAITING_INPUT
    assert [step.standing for step in timeline.strip(session)] == ["done", "done", "waiting", "ahead", "ahead"]
    session.status = SessionStatus.ERROR
    assert [step.standing for step in timeline.strip(session)] == ["done", "done", "failed", "skipped", "skipped"]


def test_a_gate_stands_in_the_timeline_with_what_became_of_it(as_alice, bob, make_gate):
    gate = make_gate()
    before = as_alice.get(f"/sessions/{gate.session_id}/").content.decode()
    assert "Waits for a decision" in before
    assert 'class="callout"' in before
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message="not that one")
    after = as_alice.get(f"/sessions/{gate.session_id}/").content.decode()
    assert "Waits for a decision" not in after
    assert 'class="callout"' not in after
    assert "not that one" in after
    assert "by <strong>bob</strong>" in after


def test_every_kind_of_event_has_words(as_alice, make_session):
    session = make_session()
    values = {"fields": {"severity": "high"}, "args": {"service": "checkout"}, "confidence": 0.5, "to": "resolved",
              "usage": {}, "latency_ms": 5, "gate_id": 1}  # fmt: skip
    for kind in KINDS.values():
        SessionEvent.append(session.pk, kind.name, {name: values.get(name, name) for name in kind.required})
    response = as_alice.get(f"/sessions/{session.pk}/")
    assert response.status_code == 200
    assert len(set(re.findall(rb'id="e-(\d+)"', response.content))) == len(KINDS) + 1


def test_the_page_takes_a_bounded_number_of_queries(as_alice, make_gate, bob, django_assert_max_num_queries):
    gate = make_gate()
    session = gate.session
    for number in range(4):
        worked(session, key=f"turn-{number}", calls=3)
    # Browser session, person, permissions; the session with its requester; its latest attempt, turns, routes and
    # open call for the strip; events; the ledger's rows; readings for the chart; whether it may run again; gates with
    # their decisions and calls; the badge; preferences.
    with django_assert_max_num_queries(19):
        as_alice.get(f"/sessions/{session.pk}/")


def test_a_long_timeline_shows_the_latest_and_leads_to_the_earlier(as_alice, make_session):
    session = make_session(status="in_progress")
    for number in range(12):
        SessionEvent.append(session.pk, "lesson_extracted", {"lesson": f"lesson {number}"})
    with mock.patch("sessions_app.timeline.PAGE", 5):
        text = as_alice.get(f"/sessions/{session.pk}/").content.decode()
        assert "lesson 11" in text
        assert "lesson 6" not in text
        link = re.findall(r'href="([^"]+before=\d+)"', text)[0]
        earlier = as_alice.get(link).content.decode()
    assert "lesson 6" in earlier
    assert "lesson 7" not in earlier
    assert 'class="timeline latest"' not in earlier


@pytest.mark.parametrize("before", ["x", "-1", "9" * 40, "²"])
def test_a_position_that_is_no_number_is_refused(as_alice, make_session, before):
    assert as_alice.get(f"/sessions/{make_session().pk}/", {"before": before}).status_code == 400


def test_htmx_gets_the_sessions_own_fragment(as_alice, make_session):
    response = as_alice.get(f"/sessions/{make_session().pk}/", headers=HTMX)
    assert response.content.lstrip().startswith(b'<article id="session"')


def test_starting_a_session_without_scripts_leads_to_its_page(as_alice, alice):
    response = as_alice.post("/sessions/new/", {"query": "why so slow", "environment": "dev", "graph": "incident"})
    session = Session.objects.get()
    assert response["Location"] == f"/sessions/{session.pk}/"
    assert session.requester == alice


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"query": ""}, "Say what the agent should look into."),
        ({"query": "   "}, "Say what the agent should look into."),
        ({"query": "x" * 20_000}, "At most 16,000 characters"),
        ({"environment": "mars"}, "There is no such environment."),
        ({"environment": ""}, "Choose where the incident is."),
        ({"graph": "nonsense"}, "Select a valid choice"),
    ],
)
def test_what_does_not_fit_comes_back_with_the_form_and_writes_nothing(as_alice, fields, said):
    response = as_alice.post(
        "/sessions/new/", {"query": "kept text", "environment": "dev", "graph": "incident", **fields}
    )
    assert response.status_code == 422
    assert said.encode() in response.content
    if "query" not in fields:
        assert b"kept text</textarea>" in response.content
    assert not Session.objects.exists()


def test_stopping_asks_twice_and_cancels_what_waits(as_alice, make_gate):
    gate = make_gate()
    page = as_alice.get(f"/sessions/{gate.session_id}/").content.decode()
    assert "Stop…" in page
    assert f"Stop {gate.session_id}" in page
    response = as_alice.post(f"/sessions/{gate.session_id}/stop/", {"note": "asked twice"}, follow=True)
    assert b"is stopped; nothing more runs" in response.content
    gate.refresh_from_db()
    assert gate.status == "cancelled"
    assert gate.session.resolution == "asked twice"


def test_stopping_an_ended_session_says_that_it_has_ended(as_alice, make_session):
    session = make_session()
    session.stop()
    response = as_alice.post(f"/sessions/{session.pk}/stop/")
    assert response.status_code == 409
    assert b"has ended already" in response.content


def test_a_rerun_is_offered_for_an_ended_session_only(as_alice, make_session):
    session = make_session()
    assert b"Run again from the start" not in as_alice.get(f"/sessions/{session.pk}/").content
    assert as_alice.post(f"/sessions/{session.pk}/rerun/").status_code == 409
    session.stop()
    assert b"Run again from the start" in as_alice.get(f"/sessions/{session.pk}/").content
    assert as_alice.post(f"/sessions/{session.pk}/rerun/").status_code == 302
    assert session.runs.filter(kind="rerun").count() == 1


@pytest.mark.parametrize("verb", ["stop", "rerun"])
def test_reading_the_address_of_a_verb_does_nothing(as_alice, make_session, verb):
    session = make_session()
    assert as_alice.get(f"/sessions/{session.pk}/{verb}/").status_code == 405
    session.refresh_from_db()
    assert session.status == "new"


def test_an_approver_reads_but_neither_starts_nor_stops(client, bob, make_session):
    client.force_login(bob)
    session = make_session()
    page = client.get(f"/sessions/{session.pk}/")
    assert page.status_code == 200
    assert b"Stop" not in page.content
    assert client.get("/sessions/new/").status_code == 403
    assert client.post(f"/sessions/{session.pk}/stop/").status_code == 403
