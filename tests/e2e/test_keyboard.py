"""The desk without a pointer, a list that stands still, and several gates at once."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk, Person, approve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

expect.set_options(timeout=20_000)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def focus_is_seen(page: Page) -> bool:
    """Whether what has the focus can be seen, and is not the page as a whole."""
    return bool(
        page.evaluate(
            """() => {
              const box = document.activeElement.getBoundingClientRect();
              return document.activeElement !== document.body && box.height > 0
                && box.top >= 48 && box.bottom <= innerHeight - 32;
            }"""
        )
    )


def test_an_approver_who_has_never_seen_clm_decides_ten_mixed_gates_with_the_keyboard_alone(desk: Desk, person: Person):
    bob = person("bob")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    desk.park_nine()
    expect(bob.locator("#rows > .row")).to_have_count(10)

    # What the keys are is one key away, and the focus comes back from there.
    press(bob, "j", "?")
    expect(bob.get_by_role("dialog", name="Keys")).to_be_visible()
    expect(bob.get_by_role("dialog")).to_contain_text("arm the approval")
    press(bob, "a", "Escape")
    expect(bob.get_by_role("dialog")).to_be_hidden()
    expect(bob.locator("#rows > .row").first.get_by_role("link")).to_be_focused()
    press(bob, *"jjjjjjjjj")
    expect(bob.locator("#rows > .row").last.get_by_role("link")).to_be_focused()
    assert focus_is_seen(bob)
    press(bob, *"kkkkkkkkk", "Enter")

    heading = bob.locator("#gate h1")
    seen = []
    for left in range(9, -1, -1):
        expect(heading).to_be_visible()
        expect(bob.locator("#live")).to_contain_text("live")
        sentence = heading.inner_text()
        seen.append(sentence)
        # The tenth press of one key decides as little as the first.
        press(bob, "a", "a")
        expect(bob.locator(".outcome")).to_have_count(0)
        if "asks:" in sentence:
            expect(bob.locator("#words")).to_be_focused()
            bob.locator("#words").press_sequentially(" the second; jkxy?")
            press(bob, "Control+Enter")
            expect(bob.get_by_role("button", name="Press Enter to send")).to_be_focused()
        elif len(seen) % 3 == 0:
            press(bob, "Escape", "r")
            expect(bob.locator("#words")).to_be_focused()
            bob.locator("#words").press_sequentially("not tonight")
            press(bob, "Escape", "r")
            expect(bob.get_by_role("button", name="Press Enter to reject: not tonight")).to_be_focused()
        else:
            armed = bob.get_by_role("button", name="Press Enter to run: ")
            expect(armed).to_be_focused()
            assert focus_is_seen(bob)
        # By now the sentence is the one that was read: what is decided is what was shown.
        assert heading.inner_text() == sentence
        press(bob, "y" if len(seen) % 2 else "Enter")
        if left:
            expect(bob.locator("main > .notice")).to_contain_text(f"{left} left.")
            expect(bob.locator("#said")).to_contain_text(f"{left} left.")
            expect(heading).to_be_focused()
    expect(bob.locator(".outcome-said")).to_contain_text("bob")
    expect(heading).to_be_focused()
    assert len(set(seen)) == 10

    press(bob, "Escape")
    expect(bob).to_have_url(f"{desk.address}/approvals/")
    expect(bob.locator(".empty")).to_be_visible()
    bob.goto(f"{desk.address}/approvals/?status=decided")
    expect(bob.locator("#rows > .row", has_text="by bob")).to_have_count(10)


def test_a_list_that_is_read_stands_still_and_one_that_is_not_follows(desk: Desk, person: Person):
    bob, admin = person("bob"), person("admin")
    bob.set_viewport_size({"width": 1440, "height": 900})
    rows = bob.locator("#rows > .row")
    expect(rows).to_have_count(1)
    expect(bob.locator("#live")).to_contain_text("live")
    press(bob, "j")
    # Beside the list the gate is shown, and the focus stays where it was.
    expect(bob.locator("#peek")).to_contain_text("Can be undone")
    expect(rows.first.get_by_role("link")).to_be_focused()
    where = rows.first.bounding_box()
    desk.park_nine()
    news = bob.get_by_role("button", name="9 new")
    expect(news).to_be_visible()
    expect(rows).to_have_count(1)
    expect(bob).to_have_title(re.compile(r"^\(10\) "))

    # Somebody else decides the gate under the cursor: it is struck through, and nothing moves.
    admin.goto(f"{desk.address}{rows.first.get_by_role('link').get_attribute('href')}")
    approve(admin)
    expect(admin.locator(".outcome-said")).to_contain_text("admin approved this")
    expect(bob.locator("#rows > .went")).to_contain_text("approved")
    expect(bob.locator("#rows > .went")).to_contain_text("by admin")
    expect(bob.locator("#peek")).to_contain_text("admin approved this")
    expect(rows.first.get_by_role("link")).to_be_focused()
    assert rows.first.bounding_box() == where

    press(bob, ".")
    expect(rows).to_have_count(9)
    expect(bob.locator("#rows > .went")).to_have_count(0)
    expect(news).to_be_hidden()
    expect(bob.locator("#peek")).to_contain_text("wants to roll payments")
    press(bob, "o")
    expect(bob.locator("#peek")).to_be_hidden()

    # Several at once: the same tool, and no high risk among those that are approved.
    press(bob, *"jjjkkkkk")
    for _ in range(9):
        if "HIGH" not in rows.locator(":scope:focus-within").inner_text().upper():
            press(bob, "x")
        press(bob, "j")
    expect(bob.locator(".bulk-count")).to_have_text(re.compile(r"^4 of local_remediation:apply_fix"))
    press(bob, "a")
    expect(bob.get_by_role("heading", name="Approve 4 gates")).to_be_visible()
    bob.get_by_role("button", name="Approve and run what is ticked").press("Enter")
    expect(bob.get_by_role("heading", name="Approved 4 of 4 gates.")).to_be_focused()


def test_keys_that_are_off_do_nothing_and_what_is_dangerous_takes_two_presses(desk: Desk, person: Person):
    bob = person("bob")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    bob.goto(f"{desk.address}/preferences/")
    bob.get_by_label("Single keys move").uncheck()
    bob.get_by_role("button", name="Keep").click()
    expect(bob.locator("main > .notice")).to_contain_text("Kept.")
    bob.goto(f"{desk.address}/approvals/")
    expect(bob.locator("#live")).to_contain_text("live")
    press(bob, "j", "?", "x", "/")
    expect(bob.get_by_role("dialog")).to_be_hidden()
    assert bob.evaluate("document.activeElement === document.body")
    expect(bob.locator("kbd.hint >> visible=true")).to_have_count(0)
    bob.get_by_role("link", name="Keys").click()
    expect(bob.get_by_role("dialog")).to_contain_text("Single keys are off for you")
    press(bob, "Escape")

    bob.locator("#rows > .row").get_by_role("link").click()
    expect(bob.locator("#live")).to_contain_text("live")
    button = bob.get_by_role("button", name="Approve and run")
    button.dblclick()
    again = bob.get_by_role("button", name="Press again to run")
    expect(again).to_be_focused()
    press(bob, "Escape")
    expect(button).to_be_focused()
    expect(bob.locator(".outcome")).to_have_count(0)
    approve(bob)
    expect(bob.locator(".outcome-said")).to_contain_text("bob approved this")
