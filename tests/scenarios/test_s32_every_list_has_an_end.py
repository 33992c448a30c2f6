"""S32: one request for 10,000 rows freezes the server."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals_app.models import Gate
from sessions_app.exceptions import BadRequest
from sessions_app.models import Session
from sessions_app.querysets import MAX_PAGE
from tests.scenarios.conftest import Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def many(alice: Any) -> int:
    """More sessions than a page may have."""
    now = timezone.now()
    Session.objects.bulk_create(
        Session(id=f"INC-20200101-{number:03d}", query="q", environment="dev", created_at=now)
        for number in range(MAX_PAGE + 50)
    )
    return MAX_PAGE + 50


@pytest.mark.parametrize("limit", [10_000, MAX_PAGE + 1, MAX_PAGE])
def test_s32_no_page_of_a_list_is_longer_than_the_maximum(many: int, limit: int) -> None:
    page = Session.objects.matching().page(limit=limit)
    assert (len(page.items), page.total) == (MAX_PAGE, many)
    rest = Session.objects.matching().page(limit=limit, cursor=page.next_cursor)
    assert (len(rest.items), rest.next_cursor) == (50, None)
    assert not {one.pk for one in page.items} & {one.pk for one in rest.items}


@pytest.mark.parametrize("path", ["/sessions", "/sessions/recent", "/gates"])
def test_s32_the_api_refuses_or_shortens_a_page_beyond_the_maximum(many: int, bob: Any, path: str) -> None:
    answer = Caller(bob).get(path, limit=10_000)
    if answer.status_code == 422:
        assert answer.json()["error"]["code"] == "unprocessable_entity"
        return
    body = answer.json()
    assert answer.status_code == 200
    assert len(body if isinstance(body, list) else body["items"]) <= MAX_PAGE


def test_s32_the_pages_show_one_page(many: int, bob: Any, client: Client) -> None:
    client.force_login(bob)
    html = client.get(reverse("sessions"), {"limit": 10_000}).content.decode()
    assert 0 < html.count('href="/sessions/INC-2020') <= 2 * MAX_PAGE


def _cursor(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        _cursor(None),
        _cursor([1, 2]),
        _cursor(["yesterday", 1]),
        _cursor(["2026-01-01T00:00:00+00:00", {"a": 1}]),
        _cursor(["2026-01-01T00:00:00+00:00", [1]]),
        _cursor(["2026-01-01T00:00:00+00:00", "not a number"]),
        _cursor(["2026-01-01T00:00:00+00:00", None]),
        _cursor(["2026-01-01T00:00:00", 1]),
    ],
)
def test_s32_a_cursor_that_is_none_of_ours_is_a_bad_request(db: None, bob: Any, cursor: str) -> None:
    with pytest.raises(BadRequest):
        Gate.objects.pending().page(cursor=cursor)
    answer = Caller(bob).get("/gates", cursor=cursor)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
