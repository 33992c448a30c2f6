"""Two web hosts, three workers, PostgreSQL and Redis, each on a host of its own; they fall one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.chaos.truth import ZEROS
from tests.hosts.cluster import LEASE, Cluster
from tests.hosts.machines import until
from tests.hosts.network import why_not
from tests.serving.server import PASSWORD

pytestmark = [pytest.mark.e2e, pytest.mark.hosts, pytest.mark.timeout(600)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if reason := why_not():
        if os.environ.get("CLM_REQUIRE_HOSTS"):
            pytest.fail(f"{reason}, and CLM_REQUIRE_HOSTS says that it must be possible.")
        pytest.skip(f"{reason}.")
    with Cluster(tmp_path) as up:
        yield up


@pytest.fixture
def page(cluster: Cluster, browser: Browser) -> Iterator[Page]:
    """Bob's queue on the second web host, opened once and never loaded again."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{cluster.webs[1].url}/sign-in/")
        page.get_by_label("Name").fill("bob")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/approvals/")
        yield page


def rows_and_gates(page: Page, cluster: Cluster) -> tuple[set[str], set[str]]:
    """Return what the page shows that was opened at the beginning, and what the API says that waits."""
    waiting = {f"gate-{gate['id']}" for gate in cluster.people.waiting()}
    return set(page.locator("#rows > .row:not(.went)").evaluate_all("rows => rows.map(row => row.id)")), waiting


def shows_what_waits(page: Page, cluster: Cluster) -> bool:
    """Say whether the page that was opened at the beginning has the rows that the API has."""
    try:
        shown, waiting = rows_and_gates(page, cluster)
    except httpx.HTTPError:
        return False
    return shown == waiting


def test_whatever_host_falls_nothing_is_lost_nothing_runs_twice_and_open_pages_catch_up(
    cluster: Cluster, page: Page
) -> None:
    worker, cut_off = cluster.workers[:2]

    def between(fall: Callable[[], None], rise: Callable[[], None], *, seconds: float) -> None:
        before = len(cluster.people.submitted)
        cluster.work(seconds=2)
        fall()
        cluster.work(seconds=seconds)
        rise()
        until(
            lambda: shows_what_waits(page, cluster),
            lambda: f"The page does not show what waits: {rows_and_gates(page, cluster)}\n{cluster.output()}",
        )
        # Work goes on: what it fell with is taken over, so that there is room for more.
        until(lambda: cluster.submitted_after(seconds=0.2) > before, cluster.output)

    between(worker.kill, worker.start, seconds=3)
    between(cluster.webs[0].kill, cluster.webs[0].start, seconds=3)
    between(cut_off.host.cut, cut_off.host.mend, seconds=2 * LEASE)
    between(cluster.redis.kill, cluster.redis.start, seconds=3)
    between(cluster.postgres.kill, cluster.postgres.start, seconds=2)

    left = cluster.drain(seconds=120)
    assert not left, cluster.output()
    tally = cluster.truth.tally(cluster.people.submitted, left=left)
    assert {name: tally[name] for name in ZEROS} == dict.fromkeys(ZEROS, 0), (tally, cluster.output())
    assert [worker.stop() for worker in cluster.workers] == [0, 0, 0], cluster.output()
