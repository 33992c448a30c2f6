from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from clm_site.signin import make_link

pytestmark = pytest.mark.django_db
PAGES = ["/approvals/", "/approvals/1/", "/sessions/", "/sessions/new/", "/sessions/INC-20260101-001/"]


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_asked_to_sign_in_and_brought_back(client, path):
    response = client.get(path)
    assert response.status_code == 302
    assert response["Location"] == f"/sign-in/?next={path}"


def test_a_fragment_for_a_signed_out_page_moves_the_whole_page(client):
    response = client.get(
        "/approvals/", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/approvals/7/"}
    )
    assert response.status_code == 401
    assert response["HX-Redirect"] == "/sign-in/?next=%2Fapprovals%2F7%2F"
    assert not response.content


@pytest.mark.parametrize("path", ["/approvals/", "/sessions/"])
def test_somebody_without_a_role_is_told_so(client, charlie, path):
    client.force_login(charlie)
    response = client.get(path)
    assert response.status_code == 403
    assert b"You have no role here yet" in response.content
    assert b'id="sock"' not in response.content
    assert b"data-count" not in response.content


def test_signing_in_by_password_leads_to_the_queue(client, bob):
    response = client.post("/sign-in/", {"username": "bob", "password": "bob"})
    assert response["Location"] == "/approvals/"
    response = Client().post("/sign-in/", {"username": "bob", "password": "wrong"})
    assert b"Please enter a correct" in response.content


def test_signing_in_leads_back_to_where_one_came_from_and_nowhere_else(client, bob):
    fields = {"username": "bob", "password": "bob"}
    assert Client().post("/sign-in/", {**fields, "next": "/sessions/"})["Location"] == "/sessions/"
    assert Client().post("/sign-in/", {**fields, "next": "https://example.com/"})["Location"] == "/approvals/"


def test_signing_out_is_a_post(client, bob):
    client.force_login(bob)
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/")["Location"] == "/sign-in/"
    assert client.get("/approvals/").status_code == 302


def test_reading_a_sign_in_link_signs_nobody_in(client, bob):
    """S14 for sign-in links."""
    link = make_link(bob)
    assert b"Sign in as bob" in client.get(link).content
    assert client.head(link).status_code == 200
    assert "_auth_user_id" not in client.session
    assert "no-store" in client.get(link)["Cache-Control"]


def test_a_sign_in_link_works_once_and_then_explains_itself(client, bob):
    link = make_link(bob)
    assert client.post(link)["Location"] == "/approvals/"
    assert client.get("/approvals/").status_code == 200
    for again in (client.get(link), Client().post(link)):
        assert again.status_code == 410
        assert b"This link is used up" in again.content


@pytest.mark.parametrize("token", ["AAAA/abc-def", "!!!/x", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5/a-b"])
def test_a_link_that_never_was_one_says_the_same(client, token):
    assert client.get(f"/sign-in/{token}/").status_code == 410


def test_a_link_of_a_locked_out_person_signs_nobody_in(client, bob):
    link = make_link(bob)
    bob.is_active = False
    bob.save()
    assert client.post(link).status_code == 410


def test_a_sign_in_link_is_no_password_reset(bob):
    from django.contrib.auth.tokens import default_token_generator

    assert not default_token_generator.check_token(bob, make_link(bob).rstrip("/").rpartition("/")[2])


def test_every_page_has_the_strict_policy_and_nothing_inline(client, admin, make_gate):
    client.force_login(admin)
    gate = make_gate()
    paths = ["/approvals/", gate.get_absolute_url(), "/sessions/", gate.session.get_absolute_url(), "/sessions/new/",
             "/nowhere/"]  # fmt: skip
    for path in paths:
        response = client.get(path)
        policy = response["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        text = response.content.decode()
        assert "<style" not in text, path
        assert not re.search(r"\sstyle=", text), path
        assert not re.search(r"\son[a-z]+=|hx-on|js:|javascript:", text), path
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), path
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text), path


def test_a_page_that_is_not_there_says_so(client):
    response = client.get("/nowhere/")
    assert response.status_code == 404
    assert b"There is nothing here" in response.content


def test_the_error_page_needs_neither_person_nor_database(rf):
    from clm_site import views

    response = views.server_error(rf.get("/"))
    assert response.status_code == 500
    assert b"Something broke in CLM" in response.content


def test_a_strangers_page_asks_the_database_nothing(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.get(reverse("sign_in"))


def test_the_footer_says_which_model_is_in_use(client, bob):
    client.force_login(bob)
    assert b"Offline investigator: rules, no language model" in client.get("/approvals/").content


def test_a_page_that_is_too_old_says_that_nothing_was_done(bob):
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)
    response = client.post("/approvals/1/decide/", {"decision": "approve"})
    assert response.status_code == 403
    assert b"This page was too old" in response.content
    assert b"<style" not in response.content


# Colours ---------------------------------------------------------------------------------------------------------

INKS, SHEETS = ("ink", "soft", "accent", "amber", "red", "green"), ("ground", "sheet", "sunk")
PAIRS = [
    *((ink, sheet) for ink in INKS for sheet in SHEETS),
    *(("accent-ink", "accent"), ("black-ink", "black"), ("sheet", "ink"), ("red", "red-sheet"), ("ink", "red-sheet")),
    *((ink, "amber-sheet") for ink in ("amber", "ink", "red")),
]


def tokens(theme: str) -> dict[str, str]:
    text = (Path(settings.BASE_DIR) / "static/css/clm.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", text, re.DOTALL)[:2]
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light))
    return found if theme == "light" else {**found, **dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", dark))}


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "sheet"), PAIRS)
def test_every_pair_of_colours_is_readable(theme, ink, sheet):
    found = tokens(theme)
    lighter, darker = sorted((luminance(found[ink]), luminance(found[sheet])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
