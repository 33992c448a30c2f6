"""A person at a real server: signed in on the pages, with a token on the API, with an open socket."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.serving.server import PASSWORD, RunningServer, manage

PEOPLE = """
from django.contrib.auth.models import Group, User
for name, role in {people!r}.items():
    User.objects.create_user(name, password={password!r}).groups.set(Group.objects.filter(name=role))
"""


def make_people(server: RunningServer, **roles: str) -> None:
    """Make people with their roles."""
    code = PEOPLE.format(people=roles, password=PASSWORD)
    made = manage("shell", "--no-imports", "--verbosity", "0", "-c", code, env=server.env)
    assert made.returncode == 0, made.stderr


class Person:
    """Somebody at one server."""

    def __init__(self, server: RunningServer, name: str) -> None:
        self.server = server
        self.name = name
        issued = manage("issue_token", name, env=server.env)
        assert issued.returncode == 0, issued.stderr
        self.token = {"Authorization": f"Bearer {issued.stdout.strip()}"}
        with httpx.Client(base_url=server.url, timeout=60) as pages:
            token = token_in(pages.get("/sign-in/").text)
            form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": token}
            assert pages.post("/sign-in/", data=form).status_code == 302
            cookies = "; ".join(f"{name}={value}" for name, value in pages.cookies.items())
        #: What the browser sends along from now on.
        self.browser = {"Cookie": cookies}

    def page(self, path: str) -> str:
        """Return a page as the browser gets it."""
        return httpx.get(self.server.url + path, headers=self.browser, timeout=60).raise_for_status().text

    def gates(self, session_id: str = "", *, status: str = "pending") -> list[dict[str, Any]]:
        """Return the gates that the API lists."""
        answer = httpx.get(
            f"{self.server.url}/api/v1/gates", params={"status": status}, headers=self.token, timeout=60
        ).raise_for_status()
        return [gate for gate in answer.json()["items"] if session_id in ("", gate["session_id"])]

    def wait_for_gates(self, session_id: str, number: int, *, seconds: float = 40) -> list[dict[str, Any]]:
        """Return a session's open gates when there are so many."""
        until = time.monotonic() + seconds
        while len(found := self.gates(session_id)) != number:
            assert time.monotonic() < until, found
            time.sleep(0.1)
        return found

    def approve(self, gate: dict[str, Any]) -> httpx.Response:
        """Approve by the API."""
        body = {"type": "approve", "digest": gate["digest"]}
        url = f"{self.server.url}/api/v1/gates/{gate['id']}/decisions"
        return httpx.post(url, json=body, headers=self.token, timeout=60)

    @contextmanager
    def queue_socket(self) -> Iterator[Socket]:
        """Open the queue's socket, as its page does."""
        url = self.server.url.replace("http", "ws", 1) + "/ws/queue/"
        headers = {**self.browser, "Origin": self.server.url}
        with connect(url, additional_headers=headers, open_timeout=30) as connection:
            yield Socket(connection)


class Socket:
    """An open page's end of its socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def wait_for(self, news: str, *, seconds: float = 30) -> dict[str, Any]:
        """Return the frame that tells of `news`."""
        until = time.monotonic() + seconds
        while True:
            frame: dict[str, Any] = json.loads(self.connection.recv(timeout=max(0.01, until - time.monotonic())))
            if news in frame.get("news", []):
                return frame


def token_in(page: str) -> str:
    """Return a form's CSRF token."""
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found
    return found[1]
