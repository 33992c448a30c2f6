"""The order of the queue, its filters, its groups and a person's own views."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.test import Client

from approvals_app import urgency
from approvals_app.models import Gate, SavedView
from approvals_app.models.saved_view import MOST_VIEWS
from approvals_app.states import GROUPS, MOST_URGENT_FIRST
from sessions_app.exceptions import BadRequest
from sessions_app.models import Session
from tests.conftest import question_interrupt, tool_interrupt
from tests.scenarios.conftest import Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client, bob: Any) -> Client:
    client.force_login(bob)
    return client


def listed(response: Any) -> list[int]:
    return [int(number) for number in re.findall(r'id="gate-(\d+)" class="row', response.content.decode())]


def put(gate: Gate, **fields: Any) -> Gate:
    """Let a gate have been opened with other values."""
    Gate.objects.filter(pk=gate.pk)._raw_update(**fields)
    gate.refresh_from_db()
    return gate


# Order --------------------------------------------------------------------------------------------------------------


def test_the_heaviest_stand_first_and_among_equals_what_runs_out_first(desk: Client, make_gate: Any) -> None:
    light, late, soon, heavy = (make_gate() for _ in range(4))
    put(light, weight=2)
    put(heavy, weight=12)
    put(late, weight=6)
    put(soon, weight=6, expires_at=late.expires_at - timedelta(hours=1))
    assert listed(desk.get("/approvals/")) == [heavy.pk, soon.pk, late.pk, light.pk]


@pytest.mark.parametrize(
    ("severity", "risk", "weight"),
    [
        ("critical", "high", 12),
        ("Critical ", "high", 12),
        ("low", "low", 1),
        ("", "high", 6),
        ("no such word", "medium", 4),
        ("high", "", 6),
        ("low", "forbidden", 3),
    ],
)
def test_the_weight_is_severity_times_risk(severity: str, risk: str, weight: int) -> None:
    assert urgency.weight(severity=severity, risk=risk) == weight
    assert f"Urgency {weight}:" in urgency.words(weight=weight, risk=risk)


def test_a_gate_keeps_the_weight_of_the_moment_it_opened(make_session: Any, make_gate: Any) -> None:
    session = make_session(status="in_progress")
    Session.objects.filter(pk=session.pk).update(severity="critical")
    gate = make_gate(Session.objects.get(pk=session.pk), interrupts=[tool_interrupt(), question_interrupt()])
    Session.objects.filter(pk=session.pk).update(severity="low")
    assert list(Gate.objects.order_by("pk").values_list("weight", flat=True)) == [12, 8]
    assert "critical severity when it opened (4) × a high risk call (3)" in urgency.words(
        weight=gate.weight, risk=gate.risk
    )


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_gate_is_lost_or_shown_twice_between_pages(make_gate: Any, limit: int) -> None:
    for weight, minutes in [(12, 5), (6, 5), (6, 1), (6, 1), (2, 9), (12, 5), (2, 1)]:
        gate = make_gate()
        put(gate, weight=weight, expires_at=gate.created_at.replace(microsecond=0) + timedelta(minutes=minutes))
    rows = Gate.objects.in_tab("pending")
    page, seen = rows.page(order=MOST_URGENT_FIRST, limit=limit), []
    while True:
        seen += [gate.pk for gate in page.items]
        if not page.next_cursor:
            break
        page = rows.page(order=MOST_URGENT_FIRST, limit=limit, cursor=page.next_cursor)
    assert seen == list(rows.order_by(*MOST_URGENT_FIRST).values_list("pk", flat=True))
    assert len(seen) == len(set(seen)) == page.total == 7


def test_a_cursor_of_another_order_is_refused(make_gate: Any) -> None:
    make_gate(interrupts=[tool_interrupt(), tool_interrupt()])
    cursor = Gate.objects.pending().page(limit=1).next_cursor
    with pytest.raises(BadRequest):
        Gate.objects.pending().page(order=MOST_URGENT_FIRST, limit=1, cursor=cursor)


def test_a_row_says_why_it_stands_there_and_what_happens_at_the_end_of_its_time(desk: Client, make_gate: Any) -> None:
    gate = make_gate()
    html = desk.get("/approvals/").content.decode()
    assert 'title="Urgency 6: medium or unknown severity when it opened (2) × a high risk call (3).' in html
    assert (
        f"At {gate.expires_at:%H:%M} UTC it expires: nothing is run, and the agent is told that nobody decided." in html
    )
    assert re.search(rf'data-key="93-{gate.expires_at:%Y%m%d%H%M%S%f}-{gate.pk}" data-weight="6"', html)


# Filters ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(make_gate: Any, alice: Any, bob: Any) -> tuple[Gate, Gate]:
    """One gate of alice's, and one of bob's in another graph, by another agent."""
    hers = put(make_gate(requester=alice), agent="resolution")
    his = put(make_gate(requester=bob, submitter_id="ci"), agent="cleaner")
    Session.objects.filter(pk=his.session_id).update(graph="another")
    return hers, his


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ({"requester": "alice"}, [0]),
        ({"requester": "ci"}, [1]),
        ({"requester": "nobody"}, []),
        ({"graph": "incident"}, [0]),
        ({"agent": "cleaner"}, [1]),
        ({"mine": "1"}, [1]),
        ({"mine": "1", "agent": "resolution"}, []),
        ({"graph": "none of ours"}, [0, 1]),
    ],
)
def test_page_and_api_filter_alike(
    desk: Client, bob: Any, two: tuple[Gate, Gate], query: dict[str, str], which: list[int]
) -> None:
    expected = [two[number].pk for number in which]
    assert listed(desk.get("/approvals/", query)) == expected
    if query != {"graph": "none of ours"}:
        answer = Caller(bob).get("/gates", tab="pending", **query).json()
        assert [row["id"] for row in answer["items"]] == expected
        assert answer["total"] == len(expected)


def test_what_narrows_the_list_stands_above_it_and_can_be_left_out(desk: Client, make_gate: Any) -> None:
    make_gate()
    html = desk.get("/approvals/?environment=dev&risk=high&q=<b>&tab=decided").content.decode()
    chips = re.findall(r'class="filter-chip" href="([^"]+)"[^>]*>(.+?) <', html)
    assert [(words, address.replace("&amp;", "&")) for address, words in chips] == [
        ("in dev", "/approvals/?tab=decided&risk=high&q=%3Cb%3E"),
        ("high risk", "/approvals/?tab=decided&environment=dev&q=%3Cb%3E"),
        ("“&lt;b&gt;”", "/approvals/?tab=decided&environment=dev&risk=high"),
    ]
    assert re.search(r'href="/approvals/\?tab=decided">Clear all', html)
    assert "filter-chip" not in desk.get("/approvals/").content.decode()


def test_a_tab_keeps_the_filters(desk: Client) -> None:
    html = desk.get("/approvals/?environment=dev&tab=failed").content.decode()
    assert 'id="tab-executed" href="/approvals/?tab=executed&amp;environment=dev"' in html
    assert 'id="tab-pending" href="/approvals/?environment=dev"' in html


# Groups -------------------------------------------------------------------------------------------------------------


def test_gates_of_one_session_stand_together_where_the_most_urgent_of_them_stands(desk: Client, make_gate: Any) -> None:
    alone = put(make_gate(), weight=9)
    make_gate(interrupts=[tool_interrupt(), tool_interrupt(), tool_interrupt()])
    first, second, third = Gate.objects.exclude(pk=alone.pk).order_by("pk")
    put(second, weight=12)
    put(first, weight=1)
    assert listed(desk.get("/approvals/")) == [second.pk, alone.pk, third.pk, first.pk]
    html = desk.get("/approvals/?group=session")
    assert listed(html) == [second.pk, third.pk, first.pk, alone.pk]
    assert "3 gates" in html.content.decode()
    assert 'data-count="4"' in html.content.decode()


def test_identical_calls_fold_and_only_those(desk: Client, make_gate: Any) -> None:
    same = [make_gate() for _ in range(4)]
    other = make_gate(interrupts=[tool_interrupt(service="payments", action="restart")])
    elsewhere = make_gate(environment="staging")
    questions = [make_gate(interrupts=[question_interrupt()]) for _ in range(2)]
    html = desk.get("/approvals/?group=call")
    assert listed(html) == [gate.pk for gate in [*same, other, elsewhere, *questions]]
    text = html.content.decode()
    assert "4 identical: 3 more of the same call" in text
    assert text.count('class="kin"') == 1


def test_groups_are_paged_without_losing_a_gate_and_the_total_stays(desk: Client, make_gate: Any) -> None:
    for number in range(3):
        for _ in range(2):
            make_gate(interrupts=[tool_interrupt(service=f"s{number}", action="restart")])
    seen, address = [], "/approvals/?group=call"
    with mock.patch("approvals_app.views.PAGE_SIZE", 2):
        while address:
            html = desk.get(address).content.decode()
            assert "6 in all" in html
            seen += [int(number) for number in re.findall(r'id="gate-(\d+)" class="row', html)]
            link = re.search(r'rel="next" href="([^"]+)"', html)
            address = link[1].replace("&amp;", "&") if link else ""
    assert sorted(seen) == list(Gate.objects.order_by("pk").values_list("pk", flat=True))


def test_a_group_has_only_what_fits_the_filters(desk: Client, make_gate: Any) -> None:
    session_of = make_gate(interrupts=[tool_interrupt(), tool_interrupt(), tool_interrupt()]).session
    first, second, third = session_of.gates.order_by("pk")
    put(first, weight=12, risk="medium")
    assert listed(desk.get("/approvals/?group=session&risk=high")) == [second.pk, third.pk]


def test_a_group_costs_one_query_more_however_many_there_are(
    desk: Client, make_gate: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(4):
        make_gate(interrupts=[tool_interrupt(), tool_interrupt()])
    for group in ("session", "call"):
        with django_assert_max_num_queries(10):
            desk.get(f"/approvals/?group={group}&environment=dev&q=checkout")


def test_a_group_without_room_leads_to_a_list_of_its_own_under_the_same_filters(desk: Client, make_gate: Any) -> None:
    same = [make_gate() for _ in range(4)]
    few = [make_gate(interrupts=[tool_interrupt(service="payments", action="restart")]) for _ in range(3)]
    elsewhere = put(make_gate(), risk="low")
    for room, large in ((5, False), (4, True)):
        with mock.patch.dict(GROUPS, call=GROUPS["call"]._replace(room=room)):
            page = desk.get("/approvals/?group=call&risk=high")
        html = page.content.decode()
        # The smaller one is there whole, though it stands behind the other.
        assert "<summary>3 identical: 2 more of the same call</summary>" in html
        assert ("<summary>4 identical: 3 more of the same call</summary>" not in html) is large
        assert set(listed(page)) == {gate.pk for gate in [*(same[:1] if large else same), *few]}
    (address,) = re.findall(r'class="whole" href="([^"]+)">4 identical: show all of them<', html)
    whole = desk.get(address.replace("&amp;", "&"))
    assert listed(whole) == [gate.pk for gate in same]
    assert f"call {same[0].call_digest[:8]} <" in whole.content.decode()
    assert f'name="call" value="{same[0].call_digest}"' in whole.content.decode()
    assert elsewhere.pk in listed(desk.get(f"/approvals/?call={same[0].call_digest}"))


def test_a_session_without_room_leads_to_its_page(desk: Client, make_gate: Any) -> None:
    gate = make_gate(interrupts=[tool_interrupt() for _ in range(4)])
    with mock.patch.dict(GROUPS, session=GROUPS["session"]._replace(room=2)):
        page = desk.get("/approvals/?group=session")
    assert len(listed(page)) == 1
    assert f'href="/sessions/{gate.session_id}/">3 more in the session</a>' in page.content.decode()


def test_a_narrowed_list_is_counted_so_far_and_says_so(
    desk: Client, make_gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approvals_app.views.COUNTED_TO", 2)
    for _ in range(3):
        make_gate()
    assert re.search(r"2\+ of 3: .*high risk", desk.get("/approvals/?risk=high").content.decode(), re.DOTALL)
    assert "3 of 3" not in desk.get("/approvals/").content.decode()


# Saved views --------------------------------------------------------------------------------------------------------


def test_filters_are_kept_under_a_name_and_lead_back(desk: Client, bob: Any, make_gate: Any) -> None:
    make_gate()
    body = {"name": "night shift", "query": "environment=dev&risk=high&cursor=x&none=of+ours"}
    response = desk.post("/approvals/views/", body)
    assert (response.status_code, response["Location"]) == (302, "/approvals/?environment=dev&risk=high")
    view = SavedView.objects.get(user=bob)
    html = desk.get(view.get_absolute_url()).content.decode()
    assert re.search(r'href="/approvals/\?environment=dev&amp;risk=high" aria-current="page">night shift</a>', html)


@pytest.mark.parametrize(
    ("name", "query", "said"),
    [
        ("Night Shift", "risk=high", "You have a view called Night Shift already"),
        ("", "risk=high", "Give the view a name."),
        ("x" * 41, "risk=high", "at most 40"),
        ("empty", "", "required"),
        ("nothing", "no=filter", "Nothing is filtered here"),
    ],
)
def test_a_view_that_cannot_be_kept_says_why(desk: Client, bob: Any, name: str, query: str, said: str) -> None:
    SavedView.objects.create(user=bob, name="night shift", query="risk=low")
    response = desk.post("/approvals/views/", {"name": name, "query": query})
    assert response.status_code == 422
    assert said in response.content.decode()
    assert SavedView.objects.count() == 1


def test_there_is_an_end_to_views(desk: Client, bob: Any) -> None:
    for number in range(MOST_VIEWS):
        SavedView.objects.create(user=bob, name=f"v{number}", query="risk=low")
    response = desk.post("/approvals/views/", {"name": "more", "query": "risk=high"})
    assert response.status_code == 422
    assert f"You have {MOST_VIEWS} views already" in response.content.decode()


def test_views_are_ones_own(desk: Client, alice: Any, bob: Any) -> None:
    hers = SavedView.objects.create(user=alice, name="hers", query="risk=low")
    his = SavedView.objects.create(user=bob, name="hers", query="risk=high")
    html = desk.get("/approvals/").content.decode()
    assert (html.count(">hers</a>"), "risk=low" in html) == (1, False)
    assert desk.post(f"/approvals/views/{hers.pk}/delete/").status_code == 404
    assert desk.post(f"/approvals/views/{his.pk}/delete/")["Location"] == "/approvals/"
    assert list(SavedView.objects.all()) == [hers]


def test_views_are_not_kept_or_deleted_by_a_link(desk: Client, bob: Any) -> None:
    his = SavedView.objects.create(user=bob, name="his", query="risk=high")
    assert desk.get(f"/approvals/views/{his.pk}/delete/").status_code == 405
    assert desk.get("/approvals/views/?name=x&query=risk%3Dhigh").status_code == 405
    assert SavedView.objects.count() == 1


def test_a_stranger_keeps_no_views(client: Client, charlie: Any) -> None:
    client.force_login(charlie)
    assert client.post("/approvals/views/", {"name": "x", "query": "risk=high"}).status_code == 403
    assert not SavedView.objects.exists()


# The API ------------------------------------------------------------------------------------------------------------


def test_the_api_reads_a_tab_in_the_order_of_the_page(desk: Client, bob: Any, make_gate: Any) -> None:
    light, heavy = make_gate(), put(make_gate(), weight=12)
    rows = Caller(bob).get("/gates", tab="pending", limit=1).json()
    assert [(row["id"], row["weight"]) for row in rows["items"]] == [(heavy.pk, 12)]
    rest = Caller(bob).get("/gates", tab="pending", limit=1, cursor=rows["next_cursor"]).json()
    assert [row["id"] for row in rest["items"]] == [light.pk]
    by_status = Caller(bob).get("/gates", status="pending").json()
    assert [row["id"] for row in by_status["items"]] == [light.pk, heavy.pk]


@pytest.mark.parametrize("query", [{"tab": "no such"}, {"tab": "pending", "status": "pending"}])
def test_the_api_refuses_a_tab_that_is_none_and_one_beside_a_status(bob: Any, query: dict[str, str]) -> None:
    answer = Caller(bob).get("/gates", **query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unprocessable_entity")
