"""Rerun and stop from the list: each session by itself, and every refusal says why."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from approvals_app.models import Gate
from sessions_app.models import Run, Session
from sessions_app.querysets import MAX_PAGE

LIST = "/admin/sessions_app/session/"


def act(client: Client, action: str, *sessions: Session, **more: Any) -> tuple[Any, list[tuple[str, str]]]:
    data = {"action": action, "_selected_action": [session.pk for session in sessions], "index": 0, **more}
    response = client.post(LIST, data, follow=True)
    return response, [(told.level_tag, str(told)) for told in response.context["messages"]]


def status_of(session: Session) -> str:
    return Session.objects.values_list("status", flat=True).get(pk=session.pk)


def test_rerun_queues_a_run_and_names_it(oncall, ended, alice):
    session = ended("error")
    _, told = act(oncall, "rerun_sessions", session)
    run = session.runs.latest("pk")
    assert (run.kind, run.status) == ("rerun", "pending")
    assert told == [("success", f"{session.pk}: rerun queued as run {run.pk}.")]
    assert session.events.get(kind="session.rerun_requested").actor == alice


def test_stop_ends_the_session_with_its_run_and_its_gates(oncall, make_gate, alice):
    gate = make_gate()
    _, told = act(oncall, "stop_sessions", gate.session)
    assert told == [("success", f"{gate.session_id}: stopped; its open gates were cancelled.")]
    assert status_of(gate.session) == "stopped"
    assert Gate.objects.get(pk=gate.pk).status == "cancelled"
    assert gate.session.events.get(kind="session.stop_requested").actor == alice


def test_s12_a_rerun_of_an_awaiting_session_is_refused_and_its_question_kept(oncall, make_gate):
    gate = make_gate()
    _, told = act(oncall, "rerun_sessions", gate.session)
    assert told == [
        (
            "warning",
            f"{gate.session_id} waits for a decision: decide it, or stop the session, before a rerun.",
        )
    ]
    assert status_of(gate.session) == "awaiting_input"
    assert Gate.objects.get(pk=gate.pk).pending
    assert gate.session.runs.count() == 1


def test_one_that_is_refused_says_why_and_does_not_stop_the_others(oncall, ended, make_session, make_gate):
    first, awaiting, working, last = ended("error"), make_gate().session, make_session(), ended("needs_review")
    _, told = act(oncall, "rerun_sessions", first, awaiting, working, last)
    assert [level for level, _ in told] == ["success", "warning", "warning", "success"]
    assert working.pk in told[2][1]
    assert Run.objects.filter(kind="rerun").count() == 2


def test_a_session_that_has_ended_cannot_be_stopped(oncall, ended):
    session = ended("resolved")
    _, told = act(oncall, "stop_sessions", session)
    assert told == [("warning", f"{session.pk} has ended already: it is resolved.")]
    assert status_of(session) == "resolved"


def test_more_than_a_page_at_once_is_refused_whole(oncall, make_session, monkeypatch):
    from sessions_app import admin

    monkeypatch.setattr(admin, "MAX_PAGE", 2)
    sessions = [make_session() for _ in range(3)]
    _, told = act(oncall, "stop_sessions", *sessions)
    assert told == [("error", "Nothing was done: choose at most 2 sessions at a time.")]
    assert {status_of(session) for session in sessions} == {"new"}
    assert MAX_PAGE == 200


@pytest.mark.parametrize("action", ["rerun_sessions", "stop_sessions"])
def test_whoever_may_only_look_is_offered_no_action_and_can_do_none(reader, make_session, action):
    session = make_session()
    page = reader.get(LIST)
    assert page.status_code == 200
    assert action not in page.content.decode()
    response = reader.post(LIST, {"action": action, "_selected_action": [session.pk], "index": 0})
    assert not [told for told in get_messages(response.wsgi_request) if told.level_tag == "success"]
    assert status_of(session) == "new"
    assert session.runs.get().status == "pending"


def test_the_actions_are_rerun_and_stop_and_deleting_is_not_among_them(superuser, make_session):
    make_session()
    offered = dict(superuser.get(LIST).context["action_form"].fields["action"].choices)
    assert {name for name in offered if name} == {"rerun_sessions", "stop_sessions"}


def test_a_forged_delete_deletes_nothing(superuser, make_session):
    session = make_session()
    superuser.post(LIST, {"action": "delete_selected", "_selected_action": [session.pk], "post": "yes", "index": 0})
    assert Session.objects.filter(pk=session.pk).exists()
