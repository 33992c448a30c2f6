"""A session's page in the admin: the incident in reading order, everything of its history, nothing to change."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.admin import SessionAdmin
from sessions_app.models import Session, SessionEvent
from sessions_app.querysets import MAX_PAGE


def page_of(session: Session) -> str:
    return f"/admin/sessions_app/session/{session.pk}/change/"


def inlines(response: Any) -> dict[str, Any]:
    return {formset.opts.model.__name__: formset for formset in response.context["inline_admin_formsets"]}


def test_the_page_reads_as_an_incident(oncall, make_gate, worked_on, alice):
    gate = make_gate(requester=alice, query="checkout answers slowly")
    worked_on(gate.session)
    response = oncall.get(page_of(gate.session))
    names = [name for name, _ in response.context["adminform"].fieldsets]
    assert names == ["What was asked", "What was found", "How it ended", "For the record"]
    page = response.content.decode()
    for text in ("awaiting_input", "checkout answers slowly", "alice", "finding 0", "local_observability:get_logs"):
        assert text in page
    assert "gate_fired" in page
    assert gate.headline in page


def test_gates_stand_first_then_runs_turns_calls_and_events(oncall, make_gate, worked_on):
    gate = make_gate()
    worked_on(gate.session)
    shown = inlines(oncall.get(page_of(gate.session)))
    assert list(shown) == ["Gate", "Run", "AgentRun", "ToolCall", "SessionEvent"]
    assert {name: len(formset.formset.get_queryset()) for name, formset in shown.items()} == {
        "Gate": 1,
        "Run": 1,
        "AgentRun": 1,
        "ToolCall": 1,
        "SessionEvent": gate.session.events.count(),
    }


def test_the_sessions_admin_by_itself_knows_no_gate():
    assert [inline.model.__name__ for inline in SessionAdmin.inlines] == [
        "Run",
        "AgentRun",
        "ToolCall",
        "SessionEvent",
    ]


def test_nothing_on_the_page_can_be_changed_even_by_a_superuser(superuser, make_gate, worked_on):
    gate = make_gate()
    worked_on(gate.session)
    response = superuser.get(page_of(gate.session))
    for formset in inlines(response).values():
        assert not formset.has_add_permission
        assert not formset.has_change_permission
        assert not formset.has_delete_permission
    page = response.content.decode()
    for name in ("_save", "_continue", "_addanother"):
        assert f'name="{name}"' not in page
    assert "deletelink" not in page
    assert "<textarea" not in page


def test_the_page_links_to_the_session_on_the_desk(oncall, make_session):
    session = make_session()
    assert f'href="{session.get_absolute_url()}"' in oncall.get(page_of(session)).content.decode()


def test_a_long_log_is_shown_by_its_latest_events_with_a_link_to_all(oncall, make_session):
    session = make_session()
    for number in range(MAX_PAGE + 5):
        SessionEvent.append(session.pk, "lesson_extracted", {"lesson": f"lesson {number}"})
    session.refresh_from_db()
    response = oncall.get(page_of(session))
    shown = [event.seq for event in inlines(response)["SessionEvent"].formset.get_queryset()]
    assert shown == list(session.events.order_by("seq").values_list("seq", flat=True))[-MAX_PAGE:]
    address = f"/admin/sessions_app/sessionevent/?session__id__exact={session.pk}"
    assert f'<a href="{address}">{session.version} events</a>' in response.content.decode()
    every = oncall.get(address)
    assert every.context["cl"].result_count == session.events.count()


@pytest.mark.parametrize("count", [5, 50])
def test_the_page_costs_the_same_whatever_happened(
    oncall, make_gate, worked_on, alice, django_assert_num_queries, count
):
    gate = make_gate(requester=alice)
    worked_on(gate.session, times=count)
    for number in range(count):
        SessionEvent.append(gate.session_id, "lesson_extracted", {"lesson": str(number)}, actor=alice)
    oncall.get(page_of(gate.session))  # content types are read once per process
    # Who it is: two. What they may: one. The session with its requester's id, and the requester.
    # Then one for each inline: gates, runs, turns, tool calls, events with their actors.
    with django_assert_num_queries(10):
        oncall.get(page_of(gate.session))


def test_a_role_sees_the_whole_incident_and_somebody_without_one_nothing(reader, client, make_gate, charlie):
    gate = make_gate()
    assert list(inlines(reader.get(page_of(gate.session)))) == ["Gate", "Run", "AgentRun", "ToolCall", "SessionEvent"]
    charlie.groups.clear()
    assert client.get(page_of(gate.session)).status_code == 403
    assert client.get("/admin/sessions_app/session/").status_code == 403


def test_what_an_agent_wrote_is_shown_as_text_and_never_as_markup(oncall, make_session):
    session = make_session(query="<script>alert(1)</script>")
    findings: list[Any] = ["<b>pool</b> full", "7 wait"]
    session.annotate_incident(findings=findings, summary="<i>slow</i>")
    page = oncall.get(page_of(session)).content.decode()
    assert "&lt;b&gt;pool&lt;/b&gt; full<br>7 wait" in page
    for markup in ("<script>alert", "<b>pool", "<i>slow"):
        assert markup not in page
    session.annotate_incident(findings=[{"reading": "<b>"}])
    assert "&quot;reading&quot;: &quot;&lt;b&gt;&quot;" in oncall.get(page_of(session)).content.decode()


def test_nothing_on_the_page_needs_what_the_security_policy_forbids(oncall, make_gate, worked_on):
    gate = make_gate()
    worked_on(gate.session)
    page = oncall.get(page_of(gate.session)).content.decode()
    assert " style=" not in page
    assert "<style" not in page
    assert " onclick=" not in page
