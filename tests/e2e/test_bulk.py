"""Several gates at once: picked in the list, listed and asked for on a page, and decided one by one."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk, Person, approve
from tests.e2e.test_live_pages import open_gate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def rows_of(page: Page, *services: str) -> dict[str, str]:
    """Return the ids of the gates that ask for something to be done to these services."""
    rows = {service: page.locator("#rows > .row", has_text=f"{service}") for service in services}
    ids = {}
    for service, row in rows.items():
        expect(row).to_have_count(1)
        ids[service] = (row.get_attribute("id") or "").removeprefix("gate-")
    return ids


def test_what_is_picked_is_listed_asked_for_and_decided_one_by_one(desk: Desk, person: Person):
    bob = person("bob")
    desk.park_nine()
    desk.park_secret()
    expect(bob.locator("#rows > .row")).to_have_count(11)
    ids = rows_of(bob, "cart", "mail", "search", "media", "login")
    bar = bob.locator("#bulk")
    expect(bar).to_be_hidden()

    # Only gates of one tool go together, and what is high risk is approved alone.
    bob.locator(f"#pick-{ids['cart']}").check()
    expect(bar).to_contain_text("1 of local_remediation:apply_fix")
    bob.locator("#rows input[data-tool='vault:rotate']").click()
    expect(bar).to_contain_text("Only gates of one tool go together")
    with bob.expect_response("**/approvals/"):
        bob.evaluate("document.body.dispatchEvent(new CustomEvent('desk:queue'))")
    expect(bob.locator("#queue.htmx-request")).to_have_count(0)
    expect(bar).to_contain_text("Only gates of one tool go together")
    expect(bob.locator("#rows input[data-tool='vault:rotate']")).not_to_be_checked()
    bob.locator(f"#pick-{ids['login']}").check()
    expect(bar).to_contain_text("One is high risk: those are approved one at a time.")
    expect(bar.get_by_role("button", name="Approve all")).to_be_disabled()
    expect(bar.get_by_role("button", name="Reject all")).to_be_enabled()
    bob.locator(f"#pick-{ids['login']}").uncheck()
    for service in ("mail", "search", "media"):
        bob.locator(f"#pick-{ids[service]}").check()
    expect(bar).to_contain_text("4 of local_remediation:apply_fix")
    bar.get_by_role("button", name="Approve all").click()

    # Nothing is decided yet: the page lists each by its id, and one is left out after all.
    expect(bob.locator("h1")).to_contain_text("Approve 4 gates")
    for service in ("cart", "mail", "search", "media"):
        expect(bob.locator(f"#facts-{ids[service]}")).to_contain_text(f"gate {ids[service]}")
    bob.locator(f"#take-{ids['media']}").uncheck()
    bob.locator("#bulk-words").fill("the nightly restart")

    # Somebody else is quicker at one of them: it stays as they left it, and the others are decided all the same.
    admin = person("admin")
    open_gate(admin, desk, "search")
    approve(admin)
    expect(admin.locator("main > .notice")).to_contain_text("Approved: restart search")
    bob.get_by_role("button", name="Approve and run what is ticked").click()
    expect(bob.locator("h1")).to_have_text("Approved 2 of 3 gates.")
    expect(bob.locator("h1")).to_be_focused()
    results = bob.locator(".bulk-row")
    expect(results).to_have_count(3)
    expect(results.filter(has_text=f"gate {ids['search']}")).to_contain_text("admin approved this")

    # Each has a decision of its own, with the words that were said to all.
    for service in ("cart", "mail"):
        bob.goto(f"{desk.address}/approvals/{ids[service]}/")
        expect(bob.locator(".outcome-said")).to_contain_text("bob approved this")
        expect(bob.locator(".outcome")).to_contain_text("the nightly restart")
    bob.goto(f"{desk.address}/approvals/")
    expect(bob.locator(f"#gate-{ids['media']}")).to_be_visible()
    expect(bob.locator("#rows > .row")).to_have_count(8)

    # By key: X picks, R leads to the same page, which wants a reason before anything is rejected.
    for service in ("login", "media"):
        bob.locator(f"#gate-{ids[service]} .cell-main").focus()
        bob.keyboard.press("x")
    expect(bar).to_contain_text("2 of local_remediation:apply_fix")
    bob.keyboard.press("r")
    expect(bob.locator("h1")).to_contain_text("Reject 2 gates")
    bob.get_by_role("button", name="Reject what is ticked").click()
    expect(bob.locator("#bulk-wrong")).to_be_visible()
    bob.locator("#bulk-words").fill("not tonight")
    bob.get_by_role("button", name="Reject what is ticked").click()
    expect(bob.locator("h1")).to_have_text("Rejected 2 of 2 gates.")
    bob.goto(f"{desk.address}/approvals/?tab=rejected")
    expect(bob.locator("#rows > .row")).to_have_count(2)
    assert {re.sub(r"\D", "", row.get_attribute("id") or "") for row in bob.locator("#rows > .row").all()} == {
        ids["login"],
        ids["media"],
    }
