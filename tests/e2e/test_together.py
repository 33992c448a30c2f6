"""Two people at one gate, each with a browser of their own: who is there, who is on it, what changed meanwhile."""

from __future__ import annotations

import json

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk, Person, approve
from tests.e2e.test_live_pages import open_gate, start_session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def change_service(desk: Desk, verb: str, **body: object) -> None:
    """Do something to the demo's service behind CLM's back, as somebody at its console would."""
    given = json.loads((desk.directory / "demo" / "service.json").read_text())
    headers = {"Authorization": f"Bearer {given['token']}"}
    httpx.post(f"{given['url']}/admin/{verb}", json=body, headers=headers, trust_env=False).raise_for_status()


def first_gate(page: Page, desk: Desk) -> str:
    """Open the first gate of the queue and return its session."""
    page.goto(f"{desk.address}/approvals/")
    row = page.locator("#rows > .row").first
    session = row.locator(".cell-id").inner_text()
    open_gate(page, desk, session)
    return session


def test_two_people_see_each_other_and_nobody_loses_a_word(desk: Desk, person: Person):
    bob, admin = person("bob"), person("admin")
    session = first_gate(bob, desk)
    queue = bob.context.new_page()
    queue.goto(f"{desk.address}/approvals/")
    expect(queue.locator("#live")).to_contain_text("live")
    open_gate(admin, desk, session)

    # Presence: each sees the other and not oneself, and what the other writes.
    expect(bob.locator("#presence")).to_contain_text("admin is reading")
    expect(admin.locator("#presence")).to_contain_text("bob is reading")
    expect(bob.locator("#presence [data-person=bob]:visible")).to_have_count(0)
    admin.get_by_label("In your words; needed to reject").fill("half a sentence that I nee")
    expect(bob.locator("#presence")).to_contain_text("admin is writing a rejection")

    # A claim is in the row and on the other card at once, and the form keeps what is being written.
    bob.get_by_role("button", name="Tell the others I am on it").click()
    expect(bob.locator("#claim")).to_contain_text("You are on it")
    expect(admin.locator("#claim")).to_contain_text("bob is on it")
    expect(queue.locator(".claim-mark")).to_contain_text("bob")
    expect(admin.locator("#words")).to_have_value("half a sentence that I nee")

    # A comment arrives on the other card; its own field is empty again.
    bob.locator("#comment-text").fill("The pool is resized by hand at eight.")
    bob.get_by_role("button", name="Comment").click()
    expect(admin.locator("#comment-list")).to_contain_text("The pool is resized by hand at eight.")
    expect(bob.locator("#comment-list")).to_contain_text("The pool is resized by hand at eight.")
    expect(bob.locator("#comment-text")).to_have_value("")
    expect(admin.locator("#words")).to_have_value("half a sentence that I nee")

    # Decided elsewhere, in place: who, what, when, and every word is kept.
    approve(bob)
    expect(bob.locator(".outcome-said")).to_contain_text("bob approved this")
    expect(admin.locator(".outcome-said")).to_contain_text("bob approved this")
    expect(admin.locator(".outcome-said time")).to_be_visible()
    expect(admin.locator("#kept-text")).to_have_text("half a sentence that I nee")


def test_facts_that_change_stop_the_approval_until_somebody_has_seen_them(desk: Desk, person: Person):
    bob, admin = person("bob"), person("admin")
    session = first_gate(bob, desk)
    open_gate(admin, desk, session)
    expect(bob.locator("#facts")).to_contain_text("pool size")
    expect(bob.get_by_role("button", name="Approve and run")).to_be_enabled()

    change_service(desk, "resize_pool", size=19)
    for page in (bob, admin):
        expect(page.locator("#drift")).to_contain_text("pool size was 20 and is 19")
        expect(page.get_by_role("button", name="Approve and run")).to_be_disabled()
        expect(page.get_by_role("button", name="Reject")).to_be_enabled()
    admin.get_by_role("button", name="I have seen the new facts").click()
    for page in (bob, admin):
        expect(page.locator("#drift")).to_have_count(0)
        expect(page.locator("#facts")).to_contain_text("admin has seen")
        expect(page.get_by_role("button", name="Approve and run")).to_be_enabled()
    approve(bob)
    expect(bob.locator(".outcome-said")).to_contain_text("bob approved this")
    bob.goto(f"{desk.address}/sessions/{session}/")
    expect(bob.locator("#timeline")).to_contain_text("changed: pool size was 20 and is 19")
    expect(bob.locator("#timeline")).to_contain_text("The session is resolved")


def test_a_closed_card_is_told_to_the_other_at_once(desk: Desk, person: Person):
    bob, admin = person("bob"), person("admin")
    session = first_gate(bob, desk)
    open_gate(admin, desk, session)
    expect(bob.locator("#presence")).to_contain_text("admin is reading")
    admin.goto(f"{desk.address}/approvals/")
    expect(bob.locator("#presence")).not_to_contain_text("admin")
    assert start_session(person("alice"), desk, "checkout is slow again") != session
