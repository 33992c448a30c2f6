"""The desk without a pointer, a list that stands still, and several gates at once."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.e2e.conftest import Desk, Person, approve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def focus_is_seen(page: Page) -> bool:
    """Whether what has the focus can be seen, and is not the page as a whole."""
    return bool(
        page.evaluate(
            """() => {
              const held = document.activeElement ?? document.body;
              const box = held?.getBoundingClientRect();
              return held !== document.body && box.height > 0
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


def test_the_work_goes_on_when_the_news_of_a_decision_is_faster_than_its_answer(desk: Desk, person: Person):
    bob = person("bob")
    desk.park_nine()
    bob.goto(f"{desk.address}/approvals/?q=unwell")
    bob.locator("#rows > .row").first.get_by_role("link").click()
    late: list[tuple[Route, APIResponse]] = []
    for left in (6, 5, 4):
        expect(bob.locator("#live")).to_contain_text("live")
        bob.route("**/decide/", lambda route: late.append((route, route.fetch())), times=1)
        press(bob, "r")
        bob.locator("#words").press_sequentially("not tonight")
        press(bob, "Escape", "r", "Enter")
        expect(bob.locator(".outcome-said")).to_contain_text("bob")
        # What was sent is not shown as what got lost.
        expect(bob.locator("#kept")).to_be_hidden()
        while not late:
            bob.wait_for_timeout(50)
        route, answer = late.pop()
        route.fulfill(response=answer)
        expect(bob.locator("main > .notice")).to_contain_text(f"{left} left.")


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
    press(bob, "j", "?", "x", "/", "c")
    expect(bob.get_by_role("dialog")).to_be_hidden()
    assert bob.evaluate("document.activeElement === document.body")
    expect(bob.locator("kbd.hint >> visible=true")).to_have_count(0)
    bob.get_by_role("link", name="Keys").click()
    expect(bob.get_by_role("dialog")).to_contain_text("Single keys are off for you")
    press(bob, "Escape")

    bob.locator("#rows > .row").get_by_role("link").click()
    expect(bob.locator("#live")).to_contain_text("live")
    press(bob, "c", "j")
    expect(bob.locator("#claim")).to_contain_text("Nobody is on it.")
    button = bob.get_by_role("button", name="Approve and run")
    button.dblclick()
    again = bob.get_by_role("button", name="Press again to run")
    expect(again).to_be_focused()
    press(bob, "Escape")
    expect(button).to_be_focused()
    expect(bob.locator(".outcome")).to_have_count(0)
    approve(bob)
    expect(bob.locator(".outcome-said")).to_contain_text("bob approved this")


def test_one_claims_and_walks_through_the_list_by_key_and_decides_nothing(desk: Desk, person: Person):
    bob, admin = person("bob"), person("admin")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    desk.park_nine()
    expect(bob.locator("#rows > .row")).to_have_count(10)
    expect(admin.locator("#rows > .row")).to_have_count(10)
    first = bob.locator("#rows > .row").first
    mark = first.locator(".claim-mark")
    press(bob, "j")
    expect(first.get_by_role("link")).to_be_focused()

    # In the list: C says so to everybody, and once more gives it back; the focus stays where it was.
    press(bob, "c")
    expect(bob.locator("#said")).to_have_text("You are on it, as the others see.")
    expect(mark).to_have_text("bob is on it")
    expect(admin.locator("#rows > .row").first.locator(".claim-mark")).to_have_text("bob is on it")
    press(admin, "j", "c")
    expect(admin.locator("#alerts")).to_contain_text("bob is on it already. You can decide it all the same.")
    press(bob, "c")
    expect(mark).to_have_text("")
    expect(first.get_by_role("link")).to_be_focused()

    # On the card the same, and its button shows the key.
    press(bob, "Enter")
    button = bob.locator("#claim-button")
    expect(button).to_be_visible()
    expect(bob.locator("#live")).to_contain_text("live")
    assert "c" in button.evaluate("button => getComputedStyle(button, '::after').content")
    press(bob, "c")
    expect(bob.locator("#claim")).to_contain_text("You are on it")
    expect(bob.locator("#said")).to_contain_text("You are on it")
    press(bob, "c")
    expect(bob.locator("#claim")).to_contain_text("Nobody is on it.")

    # For the chat: what is wanted, the exact call, and where it is decided.
    bob.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=desk.address)
    bob.get_by_role("button", name="Copy for a chat").click()
    expect(bob.locator("#copy")).to_have_text("Copied")
    copied = bob.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0].startswith(bob.locator("#gate h1").inner_text())
    assert "local_remediation:apply_fix" in copied
    assert any(line.startswith("  service: ") for line in copied)
    assert copied[-1] == bob.url

    # J and K go through the list without deciding; what is typed is not thrown away by a key.
    heading = bob.locator("#gate h1")
    seen = [heading.inner_text()]
    for _ in range(2):
        press(bob, "j")
        expect(heading).not_to_have_text(seen[-1])
        expect(heading).to_be_focused()
        expect(bob.locator("#live")).to_contain_text("live")
        seen.append(heading.inner_text())
    press(bob, "k")
    expect(heading).to_have_text(seen[1])
    expect(heading).to_be_focused()
    bob.locator("#words").fill("half a sentence")
    press(bob, "Escape", "j")
    expect(bob.locator("#said")).to_contain_text("Something is written here.")
    expect(bob.locator("#words")).to_have_value("half a sentence")
    bob.locator("#words").fill("")
    press(bob, "Escape", "k")
    expect(heading).to_have_text(seen[0])
    press(bob, "k")
    expect(bob.locator("main > .notice")).to_have_text("That is the first gate of the list.")
    assert len(set(seen)) == 3
    # Who walked here works through the queue: after a decision the next one opens.
    approve(bob)
    expect(bob.locator("main > .notice")).to_contain_text("9 left.")
    bob.goto(f"{desk.address}/approvals/?status=decided")
    expect(bob.locator("#rows > .row")).to_have_count(1)


#: Take the row away that has the focus, as a push does, and fetch the list again.
WITHOUT_ROW = """() => {
  document.activeElement.closest(".row").remove();
  document.body.dispatchEvent(new CustomEvent("desk:queue"));
}"""


def test_the_focus_is_never_lost_to_a_swap_and_no_key_breaks_on_what_has_gone(desk: Desk, person: Person):
    bob, admin = person("bob"), person("admin")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    desk.park_nine()
    rows = bob.locator("#rows > .row")
    expect(rows).to_have_count(10)
    press(bob, "j", "j")
    expect(rows.nth(1).get_by_role("link")).to_be_focused()

    # The focused row goes while the list is fetched again, and comes back; the focus is in the list all the same.
    with bob.expect_response(lambda answer: answer.url.endswith("/approvals/")):
        bob.evaluate(WITHOUT_ROW)
    expect(bob.locator("#rows > .row:focus-within")).to_have_count(1)
    press(bob, "Escape", "k", "o", "Escape", "x", "Escape", "c", "c", "j")
    expect(bob.locator("#rows > .row:focus-within")).to_have_count(1)

    # An empty list has the focus on the page's content, and every key finds nothing to break on.
    bob.locator("#f-q").fill("nothing has these words")
    bob.locator("#f-q").press("Enter")
    expect(rows).to_have_count(0)
    bob.evaluate("document.activeElement.blur()")
    press(bob, *"jkoxar.ecy", "Escape", "Enter", "Escape")
    bob.goto(f"{desk.address}/approvals/")
    expect(bob.locator("#live")).to_contain_text("live")

    # Armed by bob, decided by admin: the button goes with the focus on it, and reading begins at the heading.
    rows.first.get_by_role("link").click()
    expect(bob.locator("#gate h1")).to_be_visible()
    expect(bob.locator("#live")).to_contain_text("live")
    press(bob, "a")
    expect(bob.get_by_role("button", name="Press Enter to run")).to_be_focused()
    admin.goto(bob.url)
    approve(admin)
    expect(bob.locator(".outcome-said")).to_contain_text("admin approved this")
    expect(bob.locator("#gate h1")).to_be_focused()
    press(bob, *"arecyx?", "Escape", "y")
    expect(bob.locator(".outcome-said")).to_contain_text("admin approved this")
