"""Asking the agent before deciding, and what a rejection leads to."""

from __future__ import annotations

import sqlite3

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Desk, Person
from tests.e2e.test_live_pages import open_gate
from tests.e2e.test_together import first_gate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def checkpoints(desk: Desk) -> list[tuple[str, str]]:
    """Return every checkpoint of every thread."""
    with sqlite3.connect(f"file:{desk.directory / 'checkpoints.sqlite3'}?mode=ro", uri=True) as file:
        return file.execute("SELECT thread_id, checkpoint_id FROM checkpoints ORDER BY 1, 2").fetchall()


def test_the_agent_answers_on_every_open_card_waits_where_it_waited_and_is_handed_over(desk: Desk, person: Person):
    bob, admin = person("bob"), person("admin")
    session = first_gate(bob, desk)
    open_gate(admin, desk, session)
    before = checkpoints(desk)
    admin.locator("#words").fill("half a sentence")

    bob.locator("#ask-form input[name=text]").fill(" ")
    bob.get_by_role("button", name="Ask the agent").click()
    expect(bob.locator("#ask-wrong")).to_have_text("Write what you want to know.")
    bob.locator("#ask-form input[name=text]").fill("How full is the pool?")
    bob.get_by_role("button", name="Ask the agent").click()
    for page in (bob, admin):
        expect(page.locator(".inquiry")).to_contain_text("bob asked")
        expect(page.locator(".inquiry-answer")).to_contain_text("20 of 20")
        expect(page.locator(".inquiry")).to_contain_text("Nothing was run, and it still waits where it waited.")
    expect(bob.locator("#ask-form input[name=text]")).to_have_value("")
    expect(admin.locator("#words")).to_have_value("half a sentence")
    assert checkpoints(desk) == before

    # The gate is answered as if nothing had been asked; handed over, the session goes to people.
    bob.locator("#decision .chip").first.click()
    bob.get_by_text("Reject, and not let it go on").click()
    bob.get_by_role("button", name="Reject, and hand the session over to people").click()
    if (again := bob.get_by_role("button", name="Press again")).count():
        again.click()
    expect(bob.locator(".outcome-said")).to_contain_text("bob rejected this")
    expect(admin.locator(".outcome-said")).to_contain_text("bob rejected this")
    expect(admin.locator("#kept-text")).to_have_text("half a sentence")
    # What was asked stays beside what was decided, and the session ends with people.
    expect(bob.locator("#ask")).to_contain_text("What was asked before it was decided")
    bob.goto(f"{desk.address}/sessions/{session}/")
    expect(bob.locator("#session-head")).to_contain_text("escalated")
