"""S13: the badge counts what the list does not show (law L5)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from approvals_app.models import Gate
from approvals_app.states import Channel
from tests.conftest import question_interrupt, tool_interrupt
from tests.scenarios.conftest import Caller
from tests.scenarios.test_expiry import run_out

pytestmark = pytest.mark.django_db


@pytest.fixture
def every_kind_of_gate(make_gate: Any, make_session: Any, alice: Any, bob: Any) -> set[int]:
    """Gates in every status, of several sessions; returns the ids of the pending ones."""
    several: Gate = make_gate(interrupts=[tool_interrupt(), question_interrupt(), tool_interrupt()], requester=alice)
    own: Gate = make_gate(requester=bob)
    staging: Gate = make_gate(environment="staging")
    stopped: Gate = make_gate()
    stopped.session.stop()
    approved: Gate = make_gate()
    approved.decide("approve", actor=bob, channel=Channel.API, digest=approved.digest)
    rejected: Gate = make_gate()
    rejected.decide("reject", actor=bob, channel=Channel.API, digest=rejected.digest)
    expired: Gate = make_gate()
    run_out(expired)
    expired.expire()
    first, *_ = several.session.gates.order_by("pk")
    first.decide("approve", actor=bob, channel=Channel.API, digest=first.digest)
    overdue: Gate = make_gate()
    run_out(overdue)
    make_session(status="in_progress")
    pending = {gate.pk for gate in Gate.objects.all() if gate.status == "pending"}
    assert pending >= {own.pk, staging.pk, overdue.pk}
    assert len(pending) == 5
    return pending


@pytest.mark.parametrize("who", ["alice", "bob", "charlie", "admin"])
def test_s13_badge_list_and_api_show_a_viewer_the_same_gates(
    request: pytest.FixtureRequest, every_kind_of_gate: set[int], client: Client, who: str
) -> None:
    viewer = request.getfixturevalue(who)
    visible = Gate.objects.visible_to(viewer).pending()
    page = visible.matching().page(limit=200)
    assert len(page.items) == page.total == visible.count()
    assert {gate.pk for gate in page.items} == (set() if who == "charlie" else every_kind_of_gate)

    client.force_login(viewer)
    queue = client.get(reverse("queue"))
    answer = Caller(viewer).get("/gates", status="pending")
    if who == "charlie":
        assert queue.status_code == 403
        assert answer.status_code == 403
        return
    html = queue.content.decode()
    (badge,) = set(re.findall(r'data-count="(\d+)"', html))
    (title,) = re.findall(r"<title>\s*\((\d+)\)", html)
    listed = set(map(int, re.findall(r'href="/approvals/(\d+)/', html)))
    body = json.loads(answer.content)
    assert int(badge) == int(title) == len(listed) == body["total"] == page.total
    assert listed == {row["id"] for row in body["items"]} == every_kind_of_gate


def test_s13_the_same_filters_select_the_same_gates_everywhere(
    every_kind_of_gate: set[int], bob: Any, client: Client
) -> None:
    client.force_login(bob)
    for filters in (
        {"environment": "staging"},
        {"tool": "local_remediation:apply_fix"},
        {"risk": "high"},
        {"q": "INC"},
    ):
        expected = {gate.pk for gate in Gate.objects.visible_to(bob).pending().matching(**filters)}
        body = Caller(bob).get("/gates", status="pending", **filters).json()
        html = client.get(reverse("queue"), filters).content.decode()
        assert {row["id"] for row in body["items"]} == expected
        assert set(map(int, re.findall(r'href="/approvals/(\d+)/', html))) == expected
        assert body["total"] == len(expected) > 0
