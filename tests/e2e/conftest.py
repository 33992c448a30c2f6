"""A real server in a process of its own, and real browsers in front of it."""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.serving.server import migrate

#: Two browsers and two servers may share two processors.
expect.set_options(timeout=30_000)

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CLM_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Desk:
    """One `serve --demo` with a data directory of its own."""

    directory: Path
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    output: str = ""
    process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        """The one-time sign-in link of bob that the server printed."""
        found = re.search(r"(http\S+/sign-in/\S+)", self.output)
        assert found, self.output
        return found[1]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLM_", "DJANGO_"))}
        return {
            **kept,
            "CLM_DATA_DIR": str(self.directory),
            "CLM_PORT": str(self.port),
            "CLM_DEMO_PASSWORD": self.password,
            "PYTHONUNBUFFERED": "1",
        }

    def manage(self, *arguments: str) -> str:
        """Run one management command beside the server."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, module: str, *arguments: str) -> str:
        """Run one of the tests' own modules beside the server, and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**self.environment, "DJANGO_SETTINGS_MODULE": "clm_site.settings"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def park_secret(self) -> None:
        """Put a gate into the desk whose call holds secrets."""
        self.run("tests.e2e.parked", "--secret")

    def park_nine(self) -> None:
        """Put nine more gates of every kind into the desk."""
        self.run("tests.e2e.parked")

    def start(self) -> None:
        """Migrate, serve, and wait until the greeting is printed."""
        self.port = self.port or _free_port()
        self.directory.mkdir(parents=True, exist_ok=True)
        migrate(self.directory, self.environment)
        log: IO[str] = (self.directory / "serve.log").open("w")
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--demo"],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
            until = time.monotonic() + 80
        while time.monotonic() < until:
            self.output = (self.directory / "serve.log").read_text()
            if "What to do next" in self.output:
                return
            assert self.process.poll() is None, self.output
            time.sleep(0.1)
        raise AssertionError(f"The server did not come up:\n{self.output}")

    def stop(self) -> None:
        """Stop as an operator would, and insist when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def _free_port() -> int:
    """Return a free port below those that outgoing connections take, so that it is still free after a restart."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """The demo, served."""
    one = Desk(tmp_path / "var")
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; without one the test is skipped, unless CLM_REQUIRE_E2E says that it must not be.

    Playwright keeps a loop running in this thread, beside which no other can run: it ends with this directory's tests.
    """
    if not Path(CHROMIUM).exists():
        why = f"No browser at {CHROMIUM}: install chromium, or name one in CLM_CHROMIUM."
        if os.environ.get("CLM_REQUIRE_E2E") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


Person = Callable[[str], Page]
#: What the browser itself says of an answer of 409 or 422, and of a server that is away for a moment.
EXPECTED = ("Failed to load resource", "WebSocket connection to", "htmx:ws:error", "htmx:error: Failed to fetch")


@pytest.fixture
def person(browser: Browser, desk: Desk) -> Iterator[Person]:
    """Sit somebody down at a browser of their own; what breaks a page there fails the test at its end."""
    contexts: list[BrowserContext] = []
    broken: list[str] = []

    def sit_down(name: str) -> Page:
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        watch(page, broken)
        sign_in(page, desk, name)
        return page

    yield sit_down
    for context in contexts:
        context.close()
    assert not broken, "\n".join(broken)


def watch(page: Page, broken: list[str]) -> None:
    """Note script errors and everything that the content security policy blocks."""
    page.on("pageerror", lambda error: broken.append(f"{page.url}: {error}"))

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in EXPECTED):
            broken.append(f"{page.url}: {message.text}")

    page.on("console", heard)


def approve(page: Page) -> None:
    """Approve the gate that is open, as a pointer does: the first press arms what is dangerous."""
    # A page whose scripts are still on their way would be asked by the server instead.
    page.wait_for_load_state("load")
    page.get_by_role("button", name="Approve and run").click()
    again = page.get_by_role("button", name="Press again")
    if again.count():
        again.click()


def sign_in(page: Page, desk: Desk, name: str) -> None:
    """Sign in by name and password."""
    page.goto(f"{desk.address}/sign-in/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(desk.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{desk.address}/approvals/")
