"""API tokens in the admin: who has one and for what, and taking it away."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.utils import timezone

from sessions_app.models import ApiToken

LIST = "/admin/sessions_app/apitoken/"


@pytest.fixture
def token(bob):
    """bob's token, as he was shown it."""
    return ApiToken.issue(bob, scopes=["gates:decide"], name="pager")


def test_the_list_says_whose_it_is_what_it_may_and_whether_it_lives(superuser, bob, token):
    ApiToken.issue(bob, scopes=[], name="old", expires_at=timezone.now() - timedelta(days=1))
    response = superuser.get(LIST)
    page = response.content.decode()
    for text in ("pager of bob", "gates:decide", "nothing"):
        assert text in page
    model_admin: Any = admin.site._registry[ApiToken]
    assert {row.name: model_admin.live(row) for row in response.context["cl"].result_list} == {
        "pager": True,
        "old": False,
    }


def test_neither_the_token_nor_its_digest_is_ever_shown(superuser, token):
    row = ApiToken.objects.get()
    for address in (LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/delete/"):
        page = superuser.get(address).content.decode()
        assert token not in page
        assert row.digest not in page
        assert row.digest[:12] not in page


def test_a_token_is_made_by_the_command_only_and_never_changed(superuser, token):
    row = ApiToken.objects.get()
    assert superuser.get(f"{LIST}add/").status_code == 403
    assert superuser.post(f"{LIST}{row.pk}/change/", {"scopes": "[]"}).status_code == 403


def test_deleting_one_revokes_it(superuser, token):
    row = ApiToken.objects.get()
    superuser.post(f"{LIST}{row.pk}/delete/", {"post": "yes"})
    assert ApiToken.find(token) is None


def test_several_are_revoked_at_once(superuser, bob, token):
    ApiToken.issue(bob, name="second")
    chosen = list(ApiToken.objects.values_list("pk", flat=True))
    superuser.post(LIST, {"action": "delete_selected", "_selected_action": chosen, "post": "yes", "index": 0})
    assert not ApiToken.objects.exists()


def test_an_operator_sees_nobodys_tokens(oncall, token):
    assert oncall.get(LIST).status_code == 403


@pytest.mark.parametrize("count", [5, 50])
def test_the_list_costs_the_same_whatever_its_length(superuser, bob, django_assert_num_queries, count):
    for number in range(count):
        ApiToken.issue(bob, name=str(number))
    # Who it is: two. The count; the rows with their users.
    with django_assert_num_queries(4):
        assert superuser.get(LIST).status_code == 200
