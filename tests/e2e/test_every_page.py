"""Every page as a browser meets it: axe, the content security policy, the console, what is sent, and no scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.conftest import Desk, sign_in, watch
from tests.e2e.screenshots import STEPS, TABS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

#: What a first visit may cost, in bytes over the wire: the page, its styles and scripts.
MOST_BYTES = 100_000
SERIOUS = {"serious", "critical"}
#: The rules of axe that depend on colours.
COLOURS = ("color-contrast", "link-in-text-block")
#: What is done on a page before it is looked at.
THEN = {
    "queue, a look": STEPS["queue-peek"],
    "queue, picked": STEPS["queue-picked"],
    "queue, the keys": STEPS["queue-keys"],
    "gate, armed": STEPS["gate-armed"],
    "gate, edited": STEPS["gate-changes"],
    "gate, drifted": STEPS["gate-drifted"],
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, dict[str, str]]]:
    """A served desk with gates of every kind, and where each page of it is."""
    desk = Desk(tmp_path_factory.mktemp("desk") / "var")
    try:
        desk.start()
        yield desk, dict(line.split("=", 1) for line in desk.run("tests.e2e.screenshots", "--fill").split())
    finally:
        desk.stop()


def pages_of(found: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return every page by name, for each of those who can open it; "" is nobody."""
    return {
        "bob": {
            "queue": "/approvals/",
            "queue, nothing fits": "/approvals/?risk=forbidden",
            "queue, decided": "/approvals/?status=decided",
            "queue, grouped": "/approvals/?group=session",
            "queue, a look": "/approvals/",
            "queue, picked": "/approvals/",
            "queue, the keys": "/approvals/",
            **{f"queue, {tab}": f"/approvals/?tab={tab}" for tab in TABS},
            "gate": f"/approvals/{found['gate']}/",
            "gate, armed": f"/approvals/{found['armed']}/",
            "gate, edited": f"/approvals/{found['gate']}/?edit=1#edit",
            "gate, drifted": f"/approvals/{found['drifted']}/",
            "gate, talked about": f"/approvals/{found['talk']}/",
            "several": f"/approvals/bulk/?type=approve&{found['picked']}",
            "several, rejected": f"/approvals/bulk/?type=reject&{found['picked']}",
            "repairs": "/approvals/repairs/",
            "preferences": "/preferences/",
            "gate, hostile": f"/approvals/{found['hostile']}/",
            "gate, question": f"/approvals/{found['question']}/",
            "gate, unknown outcome": f"/approvals/{found['unknown']}/",
            "gate, batch": f"/approvals/{found['batch']}/",
            "gate, decided": f"/approvals/{found['decided']}/",
            "sessions": "/sessions/",
            "session, healed": f"/sessions/{found['healed']}/",
            "session, narrowed": f"/sessions/{found['healed']}/?show=calls",
            "session, long": f"/sessions/{found['long']}/",
            "result": f"/sessions/{found['healed']}/calls/{found['result']}/",
            "insight": "/insight/",
            "insight, list": "/insight/gates/",
            "403": "/sessions/new/",
            "404": "/nowhere/",
        },
        "alice": {
            "gate of her own": f"/approvals/{found['gate']}/",
            "session, waiting": f"/sessions/{found['waiting']}/",
            "new session": "/sessions/new/",
        },
        "charlie": {"no role": "/approvals/", "preferences without a role": "/preferences/"},
        "": {"sign in": "/sign-in/", "used-up link": "/sign-in/Mg/used-up/"},
    }


def admit(page: Page, desk: Desk, name: str) -> None:
    """Sign somebody in; charlie, who has no role, is led to a page that says so."""
    if name == "charlie":
        page.goto(f"{desk.address}/sign-in/")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(desk.password)
        page.get_by_role("button", name="Sign in").click()
    elif name:
        sign_in(page, desk, name)


def findings(page: Page, where: str, *rules: str) -> list[str]:
    """Return what axe finds that keeps somebody out, each with the place; by some rules alone, or by all."""
    options = {"runOnly": list(rules)} if rules else None
    found: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [
        f"{where}: {one['id']} ({one['impact']}) at {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in SERIOUS or one["id"] == "heading-order"
        for node in one["nodes"][:3]
    ]


def test_axe_finds_nothing_serious_and_nothing_is_blocked_or_fails_on_any_page(filled, browser: Browser):
    desk, found = filled
    broken: list[str] = []
    wrong: list[str] = []
    for name, pages in pages_of(found).items():
        # Without motion, so that no colour is looked at on its way to another.
        context = browser.new_context(color_scheme="light", reduced_motion="reduce")
        page = context.new_page()
        watch(page, broken)
        admit(page, desk, name)
        for where, path in pages.items():
            page.set_viewport_size({"width": 1440, "height": 900})
            page.goto(desk.address + path)
            if where in THEN:
                expect(page.locator("#live")).to_contain_text("live")
                THEN[where](page)
            for width in (1440, 375):
                page.set_viewport_size({"width": width, "height": 900})
                if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
                    wrong.append(f"{where} is {wide} px wide at {width}")
            page.evaluate("for (const fold of document.querySelectorAll('main details')) fold.open = true")
            wrong += findings(page, where)
            # Dark, it is the same page in other colours.
            page.emulate_media(color_scheme="dark")
            wrong += findings(page, f"{where}, dark", *COLOURS)
            page.emulate_media(color_scheme="light")
        context.close()
    assert not wrong, "\n".join(wrong)
    assert not broken, "\n".join(broken)


def test_every_page_is_under_a_strict_policy_and_light(filled, browser: Browser):
    desk, found = filled
    heavy: list[str] = []
    for name, pages in pages_of(found).items():
        context = browser.new_context()
        page = context.new_page()
        admit(page, desk, name)
        network = context.new_cdp_session(page)
        network.send("Network.enable")
        # As on a first visit: nothing is there already.
        network.send("Network.setCacheDisabled", {"cacheDisabled": True})
        received: list[int] = []
        network.on("Network.loadingFinished", lambda event, sizes=received: sizes.append(event["encodedDataLength"]))
        for where, path in pages.items():
            if where in THEN:
                continue
            received.clear()
            answer = page.goto(desk.address + path)
            assert answer
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy, where
            assert "unsafe" not in policy, where
            page.wait_for_load_state("load")
            if sum(received) > MOST_BYTES:
                heavy.append(f"{where}: {sum(received):,} bytes")
            assert received, where
        context.close()
    assert not heavy, "\n".join(heavy)


def test_a_refused_inline_script_would_have_been_noticed(filled, browser: Browser):
    """The proof that the watch over the console hears what the policy blocks."""
    desk, _ = filled
    broken: list[str] = []
    page = browser.new_page()
    watch(page, broken)
    page.goto(f"{desk.address}/sign-in/")
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("document.body.setAttribute('onclick', 'alert(1)'); document.body.click()")
    page.close()
    assert any("Content Security Policy" in line for line in broken)


def test_a_session_is_read_whole_without_scripts(filled, browser: Browser):
    desk, found = filled
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, desk, "bob")
    page.goto(f"{desk.address}/sessions/{found['long']}/")
    expect(page.locator("#timeline")).to_contain_text("Shard 259 looks")
    expect(page.locator("#timeline")).not_to_contain_text("Shard 20 looks")
    while page.get_by_role("link", name="Earlier events").count():
        page.get_by_role("link", name="Earlier events").click()
    expect(page.locator("#timeline")).to_contain_text("Shard 0 looks")
    page.get_by_role("link", name="Agents", exact=True).click()
    expect(page.locator("#timeline .event")).to_have_count(1)
    page.goto(f"{desk.address}/insight/")
    page.get_by_role("link", name="30 days").click()
    page.locator("a.figure").first.click()
    expect(page.locator("#rows > .row").first).to_be_visible()
    context.close()


def test_earlier_events_load_above_and_stay_when_the_page_asks_again(filled, browser: Browser):
    desk, found = filled
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, desk, "bob")
    page.goto(f"{desk.address}/sessions/{found['long']}/")
    expect(page.locator("#live")).to_contain_text("live")
    page.locator("#earlier-link").click()
    expect(page.locator("#timeline")).to_contain_text("Shard 25 looks")
    expect(page.locator("#timeline")).to_contain_text("Shard 259 looks")
    keys = page.locator("#timeline .event[id^=e-]").evaluate_all("events => events.map(event => event.id)")
    assert len(keys) == len(set(keys))
    page.wait_for_load_state("networkidle")
    with page.expect_response(lambda answer: "since=" in answer.url):
        page.evaluate("document.body.dispatchEvent(new CustomEvent('desk:timeline'))")
    expect(page.locator("#timeline")).to_contain_text("Shard 25 looks")

    # A link to an event that the page has not loaded finds it.
    oldest = min(int(key.removeprefix("e-")) for key in keys if key.removeprefix("e-").isdecimal())
    other = context.new_page()
    other.goto(f"{desk.address}/sessions/{found['long']}/#e-{oldest + 60}")
    expect(other).to_have_url(f"{desk.address}/sessions/{found['long']}/?at={oldest + 60}#e-{oldest + 60}")
    expect(other.locator(f"#e-{oldest + 60}")).to_be_in_viewport()
    context.close()


@pytest.mark.parametrize("slow", ["the click", "an update"])
def test_earlier_events_come_and_stay_whatever_is_under_way_when_they_are_asked_for(filled, browser: Browser, slow):
    desk, found = filled
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, desk, "bob")
    page.goto(f"{desk.address}/sessions/{found['long']}/")
    expect(page.locator("#live")).to_contain_text("live")
    page.wait_for_load_state("networkidle")
    held: list[Route] = []
    asked: list[str] = []

    def hold(route: Route) -> None:
        if held or ("before=" in route.request.url) != (slow == "the click"):
            route.continue_()
        else:
            held.append(route)

    page.on("request", lambda request: asked.append(request.url))
    page.route("**/sessions/**", hold)
    update = "document.body.dispatchEvent(new CustomEvent('desk:timeline'))"
    if slow == "an update":
        page.evaluate(update)
    page.locator("#earlier-link").click()
    # The second of these comes 900 ms later: updates are asked for as seldom as that.
    page.evaluate(update)
    page.evaluate(update)
    page.wait_for_timeout(1200)
    held[0].continue_()
    expect(page.locator("#timeline")).to_contain_text("Shard 25 looks")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)
    expect(page.locator("#timeline")).to_contain_text("Shard 25 looks")
    assert any("since=" in url for url in asked), "what happened since was not asked for again"
    context.close()
