"""S23: the 1000th session of a day cannot be loaded."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sessions_app.models import Session, SessionNumber

pytestmark = pytest.mark.django_db


@pytest.fixture
def around_a_thousand(make_session: Any) -> list[Session]:
    """The sessions 998 to 1002 of today."""
    SessionNumber.objects.create(day=timezone.localdate(), last=997)
    return [make_session() for _ in range(5)]


def test_s23_ids_grow_past_three_digits_and_load(around_a_thousand: list[Session]) -> None:
    assert [session.pk.rpartition("-")[2] for session in around_a_thousand] == ["998", "999", "1000", "1001", "1002"]
    for session in around_a_thousand:
        assert Session.objects.get(pk=session.pk).runs.get().thread_id == session.pk


def test_s23_ids_past_three_digits_sort_by_when_they_came(around_a_thousand: list[Session]) -> None:
    page = Session.objects.matching().page(limit=2)
    seen = list(page.items)
    while page.next_cursor:
        page = Session.objects.matching().page(limit=2, cursor=page.next_cursor)
        seen += page.items
    assert seen == around_a_thousand[::-1]


def test_s23_sessions_of_the_same_instant_are_listed_once_each(around_a_thousand: list[Session]) -> None:
    """A clock may stand still between two submissions: no page repeats one and none is left out."""
    Session.objects.update(created_at=around_a_thousand[0].created_at)
    page = Session.objects.matching().page(limit=2)
    seen = list(page.items)
    while page.next_cursor:
        page = Session.objects.matching().page(limit=2, cursor=page.next_cursor)
        seen += page.items
    assert sorted(one.pk for one in seen) == sorted(one.pk for one in around_a_thousand)


def test_s23_the_thousandth_session_has_its_page_and_its_api(
    around_a_thousand: list[Session], alice: Any, client: Client
) -> None:
    client.force_login(alice)
    thousandth = around_a_thousand[2]
    assert client.get(reverse("session", args=[thousandth.pk])).status_code == 200
    answer = client.get(f"/api/v1/sessions/{thousandth.pk}")
    assert (answer.status_code, answer.json()["id"]) == (200, thousandth.pk)
