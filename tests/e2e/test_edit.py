"""A call is edited in a browser: the form opens in place, says what is wrong, and shows what changes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Desk, Person, approve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_call_is_edited_shown_and_approved_without_leaving_the_page(desk: Desk, person: Person) -> None:
    bob = person("bob")
    bob.locator("#rows > .row .cell-main").first.click()
    expect(bob.locator("h1")).to_contain_text("wants to")
    # A page whose scripts are still on their way would follow the link instead.
    bob.wait_for_load_state("load")
    bob.evaluate("window.neverReloaded = true")

    bob.get_by_role("link", name="Edit the call…").click()
    fields = bob.locator("#edit")
    expect(fields).to_have_attribute("open", "")
    expect(fields.locator("input, select, textarea").first).to_be_focused()

    size = fields.locator("[name='edit-0/size']")
    size.fill("many")
    size.press("Enter")
    expect(size).to_have_attribute("aria-invalid", "true")
    expect(size).to_be_focused()
    expect(fields).to_contain_text("A whole number is needed")

    size.fill("12")
    approve(bob)
    expect(bob.locator("#decide .wrong")).to_contain_text("You changed the call")

    bob.get_by_role("button", name="See what changes").click()
    expect(bob.locator("#changes")).to_contain_text("Not decided yet.")
    expect(bob.locator("#changes ins")).to_have_text("12")
    expect(size).to_have_value("12")

    # The session's news are fetched under the open form, and take none of this away.
    with bob.expect_response(re.compile(r"/approvals/\d+/$")):
        bob.evaluate("document.body.dispatchEvent(new CustomEvent('desk:session'))")
    expect(bob.locator("#gate.htmx-request")).to_have_count(0)
    expect(bob.locator("#changes ins")).to_have_text("12")
    expect(size).to_have_value("12")

    approve(bob)
    expect(bob.locator(".outcome-said")).to_contain_text("bob edited and approved this")
    expect(bob.locator(".verdicts ins")).to_have_text("12")
    expect(bob.locator("#edit")).to_have_count(0)
    assert bob.evaluate("window.neverReloaded")
    assert re.search(r"/approvals/[0-9]+/$", bob.url)
