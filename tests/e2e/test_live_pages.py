"""What must not get lost on an open page, and what works without scripts and without the socket."""

from __future__ import annotations

import re
import signal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, WebSocketRoute, expect

from tests.e2e.conftest import Desk, Person, approve, sign_in

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def start_session(page: Page, desk: Desk, query: str) -> str:
    """Start a session by the form and return its id."""
    page.goto(f"{desk.address}/sessions/new/")
    page.get_by_label("What should they look into?").fill(query)
    page.get_by_label("Where is it?").select_option("dev")
    page.get_by_role("button", name="Start the session").click()
    return urlsplit(page.url).path.rstrip("/").rpartition("/")[2]


def open_gate(page: Page, desk: Desk, session: str) -> None:
    """Open the gate of a session from the queue."""
    page.goto(f"{desk.address}/approvals/")
    page.locator("#rows > .row", has_text=session).get_by_role("link").click()
    expect(page.locator("#live")).to_contain_text("live")


def test_typed_text_focus_and_filters_survive_what_others_do(desk: Desk, person: Person):
    bob, admin, alice = person("bob"), person("admin"), person("alice")
    second = start_session(alice, desk, "checkout is slow again")
    expect(bob.locator("#rows > .row")).to_have_count(2)
    first = bob.locator("#rows > .row").first.locator(".cell-id").inner_text()
    filtered = bob.context.new_page()
    filtered.goto(f"{desk.address}/approvals/?q={second}")
    expect(filtered.locator("#live")).to_contain_text("live")
    expect(filtered.locator("#rows > .row")).to_have_count(1)

    # The keyboard is in the first row; somebody else decides that gate, and the row stays there, struck through.
    bob.keyboard.press("j")
    expect(bob.locator("#rows > .row").first.get_by_role("link")).to_be_focused()
    open_gate(admin, desk, first)
    admin.get_by_label("In your words; needed to reject").fill("not yet")
    admin.get_by_role("button", name="Reject").click()
    expect(admin.locator("main > .notice")).to_contain_text("Rejected: ")
    expect(bob.locator("#rows > .went")).to_contain_text("by admin")
    expect(bob.locator("#rows > .row", has_text=second)).to_be_visible()
    expect(bob.locator("#rows > .row").first.get_by_role("link")).to_be_focused()
    expect(filtered.locator("#rows > .row")).to_have_count(1)

    # bob is in the middle of a sentence when somebody else decides.
    writing = bob.context.new_page()
    open_gate(writing, desk, second)
    writing.get_by_label("In your words; needed to reject").fill("half a sentence that I nee")
    open_gate(admin, desk, second)
    approve(admin)
    expect(writing.locator(".outcome-said")).to_contain_text("admin approved this")
    expect(writing.locator("#kept")).to_be_visible()
    expect(writing.locator("#kept-text")).to_have_text("half a sentence that I nee")
    expect(filtered.locator("#rows > .row")).to_have_count(0)
    expect(filtered.locator(".empty")).to_be_visible()


def test_an_empty_rejection_asks_for_a_reason_and_leaves_the_cursor_there(desk: Desk, person: Person):
    bob, admin = person("bob"), person("admin")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    bob.locator("#rows > .row").get_by_role("link").click()
    expect(bob.locator("h1")).to_contain_text("wants to")
    expect(bob.locator("#live")).to_contain_text("live")
    # A card that is on its way already, and comes after the answer, takes away nothing of what the answer says.
    late: list[tuple[Route, APIResponse]] = []
    bob.route("**/approvals/*/", lambda route: late.append((route, route.fetch())), times=1)
    number = urlsplit(bob.url).path.split("/")[-2]
    admin.goto(bob.url)
    bob.evaluate(f"document.body.dispatchEvent(new CustomEvent('desk:gate-{number}'))")
    while not late:
        bob.wait_for_timeout(50)
    bob.get_by_role("button", name="Reject").click()
    expect(bob.locator("#words-wrong")).to_contain_text("Say why")
    route, answer = late[0]
    route.fulfill(response=answer)
    expect(bob.locator("#gate.htmx-request")).to_have_count(0)
    expect(bob.locator("#words-wrong")).to_contain_text("Say why")
    # Nor does one that is fetched afterwards, which shows what is new beside it.
    bob.get_by_role("button", name="Reject").focus()
    admin.get_by_label("Say something to the others").fill("Look at the pool first.")
    admin.get_by_role("button", name="Comment").click()
    expect(bob.locator("#comments")).to_contain_text("Look at the pool first.")
    expect(bob.locator("#words-wrong")).to_contain_text("Say why")
    expect(bob.get_by_role("button", name="Reject")).to_be_focused()
    bob.locator("#words").focus()
    bob.keyboard.type("it heals by itself")
    bob.get_by_role("button", name="Reject").click()
    expect(bob.locator(".outcome")).to_contain_text("it heals by itself")


def test_everything_works_with_scripts_off(desk: Desk, browser: Browser):
    bob = browser.new_context(java_script_enabled=False).new_page()
    alice = browser.new_context(java_script_enabled=False).new_page()
    sign_in(bob, desk, "bob")
    sign_in(alice, desk, "alice")
    session = start_session(alice, desk, "checkout is slow")
    row = bob.locator("#rows > .row", has_text=session)
    for _ in range(240):
        bob.goto(f"{desk.address}/approvals/")
        if row.count():
            break
        bob.wait_for_timeout(250)
    expect(bob.locator("#live")).to_contain_text("reload for news")
    bob.locator("#f-risk").select_option("high")
    bob.get_by_role("button", name="Filter").click()
    row.get_by_role("link").click()
    bob.get_by_role("button", name="Reject").click()
    expect(bob.locator("#words-wrong")).to_contain_text("Say why")
    bob.get_by_role("button", name="Approve and run").click()
    # Nothing on this page could arm the button, so the server asks.
    expect(bob.locator("#decide")).to_contain_text("Nothing is decided yet.")
    bob.get_by_role("button", name="Yes, run it").click()
    expect(bob.locator(".outcome-said")).to_contain_text("bob approved this")
    for _ in range(240):
        alice.reload()
        if "resolved" in alice.locator("#session-head .facts").inner_text():
            break
        alice.wait_for_timeout(250)
    expect(alice.locator("#timeline")).to_contain_text("The session is resolved")
    alice.get_by_text("alice").first.click()
    alice.get_by_role("button", name="Sign out").click()
    expect(alice.get_by_role("heading", name="Sign in")).to_be_visible()
    bob.context.close()
    alice.context.close()


def test_a_half_open_socket_is_noticed_said_and_caught_up(desk: Desk, browser: Browser):
    """S18: nothing arrives any more, and nothing says so."""
    context = browser.new_context()
    bob = context.new_page()
    dead = False
    connections: list[WebSocketRoute] = []

    def between(page_side: WebSocketRoute) -> None:
        connections.append(page_side)
        mine = len(connections)
        server_side = page_side.connect_to_server()
        server_side.on_message(lambda text: None if dead and mine == 1 else page_side.send(text))

    bob.route_web_socket(re.compile(r"/ws/queue/"), between)
    sign_in(bob, desk, "bob")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    expect(bob.locator("#live")).to_contain_text("live")
    dead = True
    admin = browser.new_context().new_page()
    sign_in(admin, desk, "admin")
    admin.locator("#rows > .row").get_by_role("link").click()
    approve(admin)
    expect(admin.locator(".outcome-said")).to_contain_text("admin approved this")
    # The list is old and the footer counts how old; then the page connects again by itself and catches up.
    expect(bob.locator("#rows > .row")).to_have_count(1)
    expect(bob.locator("#live")).to_contain_text(re.compile(r"list is ([6-9]|1\d) s old"))
    expect(bob.locator("#rows > .row")).to_have_count(0)
    expect(bob.locator("#badge")).to_be_hidden()
    expect(bob).to_have_title("Approvals · CLM")
    expect(bob.locator("#live")).to_contain_text("live")
    assert len(connections) >= 2
    context.close()
    admin.context.close()


def test_a_frozen_server_is_called_lost_and_a_decision_made_meanwhile_arrives_when_it_thaws(desk: Desk, person: Person):
    """S18 with the server's side stopped: no frame, no close, no answer; the buttons stay usable all along."""
    bob = person("bob")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    open_gate(bob, desk, bob.locator("#rows > .row .cell-id").inner_text())
    assert desk.process
    desk.process.send_signal(signal.SIGSTOP)
    try:
        lost = re.compile(r"connection lost, this list is (1[2-9]|2\d) s old; trying again")
        expect(bob.locator("#live")).to_have_text(lost)
        expect(bob.locator("#said")).to_contain_text("Connection lost")
        approve(bob)
    finally:
        desk.process.send_signal(signal.SIGCONT)
    expect(bob.locator(".outcome-said")).to_contain_text("bob approved this")
    expect(bob.locator("#live")).to_contain_text("live")


def test_a_server_that_restarts_is_waited_for_and_the_page_catches_up(desk: Desk, person: Person):
    """S7 as a page sees it: the same gate, the same place, after a restart."""
    bob = person("bob")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    desk.stop()
    expect(bob.locator("#live")).to_contain_text("connection lost")
    expect(bob.locator("#rows > .row")).to_have_count(1)
    desk.start()
    expect(bob.locator("#live")).to_contain_text("live")
    bob.locator("#rows > .row").get_by_role("link").click()
    approve(bob)
    expect(bob.locator(".outcome-said")).to_contain_text("bob approved this")


def test_a_page_whose_scripts_arrive_late_goes_live_all_the_same(desk: Desk, browser: Browser):
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, desk, "bob")
    # The network brings the extension last, long after htmx itself has started.

    def late(route: Route) -> None:
        page.wait_for_timeout(700)
        route.continue_()

    page.route(re.compile(r"hx-ws-4"), late)
    page.goto(f"{desk.address}/approvals/")
    expect(page.locator("#live")).to_contain_text("live")
    context.close()
