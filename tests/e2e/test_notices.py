"""A new gate says so on the desktop: only to who asked for it, only while nobody looks, once, and without secrets."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk, Person

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: Keeps every notice that is shown, and lets a test hide the tab: no headless browser does so by itself.
RECORDER = """
  window.notices = [];
  window.Notification = class extends window.Notification {
    constructor(title, options) { super(title, options); window.notices.push(this); }
  };
  window.tabHidden = false;
  Object.defineProperty(document, "hidden", { get: () => window.tabHidden });
  Object.defineProperty(document, "visibilityState", { get: () => (window.tabHidden ? "hidden" : "visible") });
  window.focus = () => { window.cameToFront = true; };
"""


def hide(page: Page, hidden: bool = True) -> None:
    page.evaluate(
        "hidden => { window.tabHidden = hidden; document.dispatchEvent(new Event('visibilitychange')); }", hidden
    )


def notices(page: Page) -> list[dict[str, Any]]:
    """Return what this tab has shown."""
    found: list[dict[str, Any]] = page.evaluate("notices.map(({ title, body, tag }) => ({ title, body, tag }))")
    return found


def test_a_new_gate_says_so_once_while_the_desk_is_hidden_and_leads_there(desk: Desk, person: Person):
    bob = person("bob")
    bob.context.grant_permissions(["notifications"], origin=desk.address)
    bob.context.add_init_script(RECORDER)
    bob.goto(f"{desk.address}/preferences/")
    assert bob.evaluate("Notification.permission") == "granted"
    bob.get_by_label("A new gate says so on my desktop").check()
    bob.get_by_role("button", name="Keep").click()
    expect(bob.locator("main > .notice")).to_contain_text("Kept.")
    bob.goto(f"{desk.address}/approvals/")
    # A second tab that shows something else, and one of a person who never asked for any.
    other = bob.context.new_page()
    other.goto(f"{desk.address}/sessions/")
    admin = person("admin")
    admin.context.grant_permissions(["notifications"], origin=desk.address)
    admin.context.add_init_script(RECORDER)
    admin.goto(f"{desk.address}/approvals/")
    for page in (bob, other, admin):
        expect(page.locator("#live")).to_contain_text("live")

    # Whoever looks at the desk sees the row, and needs no notice.
    expect(bob.locator("#rows > .row")).to_have_count(1)
    desk.park_secret()
    expect(bob.locator("#rows > .row")).to_have_count(2)
    expect(other.locator("#badge")).to_have_text(re.compile("^2"))
    assert notices(bob) == notices(other) == []

    for page in (bob, other, admin):
        hide(page)
    desk.park_secret()
    expect(bob.locator("#rows > .row")).to_have_count(3)
    expect(admin.locator("#rows > .row")).to_have_count(3)
    bob.wait_for_function("notices.length > 0")
    other.wait_for_function("notices.length > 0")
    (notice,) = notices(bob)
    gate = bob.locator("#rows > .row").last.get_attribute("id")
    assert notice["tag"] == f"clm-{gate}"
    assert "vault:rotate" in notice["title"]
    assert notice["body"].startswith("HIGH") or "high" in notice["body"].lower()
    # Both tabs say it under one name, which the browser shows once.
    assert notices(other) == [notice]
    assert notices(admin) == []
    assert not re.search("hunter2|sk-live|4242", str(notice))

    # What happens to the gate later is no news of a new one.
    admin.evaluate("fetch(document.querySelector('#rows > .row:last-child .cell-main').href)")
    with bob.expect_response(lambda answer: answer.url.endswith("/approvals/")):
        bob.evaluate("document.body.dispatchEvent(new CustomEvent('desk:queue'))")
    assert notices(bob) == [notice]

    # A press on it brings the tab to the front and opens the gate.
    with bob.expect_navigation():
        assert bob.evaluate("notices[0].dispatchEvent(new Event('click')) && window.cameToFront")
    number = (gate or "").removeprefix("gate-")
    expect(bob).to_have_url(f"{desk.address}/approvals/{number}/")
