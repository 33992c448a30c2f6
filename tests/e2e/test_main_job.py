"""The main job, as people do it: an incident pauses at a gate, is decided in the live queue, and ends."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Desk, Person, approve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_gate_appears_in_an_open_queue_is_approved_and_the_session_is_resolved(desk: Desk, person: Person):
    bob, onlooker, alice = person("bob"), person("admin"), person("alice")
    expect(bob.locator("#live")).to_contain_text("live")
    onlooker.goto(f"{desk.address}/sessions/")
    expect(onlooker.locator("#live")).to_contain_text("live")
    # The demo's own first incident waits at its gate.
    expect(bob.locator("#rows > .row")).to_have_count(1)
    expect(bob).to_have_title(re.compile(r"^\(1\) Approvals"))
    bob.evaluate("window.neverReloaded = true")
    onlooker.evaluate("window.neverReloaded = true")

    alice.goto(f"{desk.address}/sessions/new/")
    alice.get_by_label("What should they look into?").fill("checkout fails for one customer in three")
    alice.get_by_label("Where is it?").select_option("dev")
    alice.get_by_role("button", name="Start the session").click()
    session = urlsplit(alice.url).path.rstrip("/").rpartition("/")[2]
    assert session.startswith("INC-")
    alice.evaluate("window.neverReloaded = true")

    # The gate appears, in place, in every open browser.
    row = bob.locator("#rows > .row", has_text=session)
    expect(row).to_be_visible()
    expect(bob.locator("#rows > .row").last).to_contain_text(session)
    expect(bob).to_have_title(re.compile(r"^\(2\) "))
    expect(onlooker.locator("#badge")).to_have_text(re.compile("^2"))
    expect(onlooker).to_have_title(re.compile(r"^\(2\) Sessions"))
    expect(onlooker.locator(".row", has_text=session)).to_contain_text("awaiting input")
    expect(alice.locator("#session-head")).to_contain_text("awaiting input")
    expect(alice.locator(".callout")).to_contain_text("wants to")
    assert bob.evaluate("window.neverReloaded")

    # The requester may look, and is told why she may not decide.
    look = person("alice")
    look.goto(alice.locator(".callout a.go").evaluate("link => link.href"))
    expect(look.locator("#decide")).to_contain_text("not in the approver group")
    expect(look.get_by_role("button", name="Approve and run")).to_have_count(0)

    # It is approved on its own page, in a second tab, so the queue stays open.
    gate = bob.context.new_page()
    gate.goto(f"{desk.address}{row.get_by_role('link').get_attribute('href')}")
    expect(gate.locator("h1")).to_contain_text("wants to")
    gate.get_by_label("The evidence supports this fix.").check()
    approve(gate)
    expect(gate.locator(".outcome-said")).to_contain_text("bob approved this")

    # It leaves the queue, the counts follow, and everybody sees how it ends.
    expect(row).to_have_count(0)
    expect(bob).to_have_title(re.compile(r"^\(1\) "))
    expect(onlooker.locator("#badge")).to_have_text(re.compile("^1"))
    expect(gate.locator(".course")).to_contain_text("xecuted")
    expect(alice.locator("#session-head .status").first).to_have_text(re.compile("resolved"))
    expect(alice.locator("#timeline")).to_contain_text("The session is resolved")
    expect(alice.get_by_role("button", name="Run again from the start")).to_be_visible()
    expect(alice.locator("#timeline")).to_contain_text("bob approved")
    expect(onlooker.locator(".row", has_text=session)).to_contain_text("resolved")
    expect(look.locator(".outcome-said")).to_contain_text("bob approved this")
    for page in (bob, onlooker, alice):
        assert page.evaluate("window.neverReloaded")

    # Nothing was told twice, and a reload shows the same.
    told = alice.locator("#timeline .event").evaluate_all("events => events.map(event => event.id)")
    assert len(told) == len(set(told))
    said = alice.locator("#timeline").inner_text()
    alice.reload()
    again = alice.locator("#timeline .event").evaluate_all("events => events.map(event => event.id)")
    assert sorted(told) == sorted(again)
    assert "The session is resolved" in said
    assert "healthy" in desk.manage("demo", "status").lower()
