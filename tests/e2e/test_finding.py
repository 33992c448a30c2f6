"""Finding gates: filters that stand in the address, views that are kept, tabs, groups, and the numbers behind them."""

from __future__ import annotations

import csv
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Desk, Person, approve
from tests.e2e.test_live_pages import open_gate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def asked_for(page: Page) -> dict[str, str]:
    """Return what the page's address asks for."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_a_filter_stands_in_the_address_is_kept_as_a_view_and_follows_what_happens(desk: Desk, person: Person):
    bob = person("bob")
    desk.park_nine()
    rows = bob.locator("#rows > .row")
    expect(rows).to_have_count(10)

    # By choice, by words, and with both: the address says it, so that it can be sent to somebody.
    bob.get_by_label("Risk").select_option("high")
    expect(rows).to_have_count(4)
    expect(bob).to_have_url(f"{desk.address}/approvals/?risk=high")
    bob.get_by_label("Words").fill("payments")
    bob.get_by_label("Words").press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("payments")
    assert asked_for(bob) == {"risk": "high", "q": "payments"}
    admin = person("admin")
    admin.goto(bob.url)
    expect(admin.locator("#rows > .row")).to_have_count(1)

    # What is left out again by its chip is out of the address as well, and the browser's way back leads back.
    bob.locator(".filter-chip", has_text="payments").click()
    expect(rows).to_have_count(4)
    assert asked_for(bob) == {"risk": "high"}
    bob.go_back()
    expect(rows).to_have_count(1)
    bob.go_forward()
    expect(rows).to_have_count(4)

    # Kept under a name, it is there for bob, on every page load, and for nobody else.
    bob.get_by_text("Save this view").click()
    bob.get_by_label("Name of the view").fill("what burns")
    bob.get_by_role("button", name="Save", exact=True).click()
    view = bob.get_by_role("navigation", name="Your views").get_by_role("link", name="what burns")
    expect(view).to_have_attribute("aria-current", "page")
    bob.goto(f"{desk.address}/approvals/")
    expect(rows).to_have_count(10)
    view.click()
    expect(rows).to_have_count(4)
    admin.goto(f"{desk.address}/approvals/")
    expect(admin.get_by_role("link", name="what burns")).to_have_count(0)

    # A list that is filtered follows what others do, and takes in nothing that it leaves out.
    open_gate(admin, desk, "payments")
    approve(admin)
    expect(bob.locator("#rows > .row:not(.went)")).to_have_count(3)
    bob.get_by_role("button", name="Delete the view what burns").click()
    expect(bob.get_by_role("link", name="what burns")).to_have_count(0)

    # By session, and identical calls as one: folded away, and all there.
    bob.goto(f"{desk.address}/approvals/?group=session")
    expect(bob.locator("#rows .row")).to_have_count(9)
    bob.goto(f"{desk.address}/approvals/?status=decided")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("payments")


def test_what_was_decided_is_counted_listed_and_taken_away_as_a_file(desk: Desk, person: Person, tmp_path: Path):
    bob = person("bob")
    desk.park_nine()
    for service in ("mail", "cart"):
        open_gate(bob, desk, service)
        approve(bob)
        expect(bob.locator("main > .notice")).to_contain_text(f"Approved: restart {service}")

    bob.goto(f"{desk.address}/insight/")
    expect(bob.locator(".said")).to_contain_text("2 gates came to an end")
    bob.locator(".figures").get_by_role("link", name="2", exact=True).first.click()
    expect(bob.locator("main")).to_contain_text("cart")
    with bob.expect_download() as taken:
        bob.get_by_role("link", name="Get them as CSV").click()
    assert taken.value.suggested_filename.startswith("clm-gates-")
    file = tmp_path / "gates.csv"
    taken.value.save_as(file)
    with file.open(newline="") as lines:
        found = list(csv.DictReader(lines))
    assert len(found) == 2
    assert {row["tool"] for row in found} == {"local_remediation:apply_fix"}
    assert {row["approver"] for row in found} == {"bob"}
