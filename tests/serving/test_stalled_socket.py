"""S28: clients that do not read slow nobody, cost little, and are let go."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect

from tests.benchmarks.server import memory_mb
from tests.serving.desk import Person, make_people
from tests.serving.server import RunningServer, manage, serving

pytestmark = [pytest.mark.timeout(180), pytest.mark.processes]

STALLED = 8

#: A log of about six megabytes.
LONG = """
from django.db import transaction
from sessions_app.models import SessionEvent
with transaction.atomic():
    for number in range(1000):
        SessionEvent.append({session!r}, "lesson_extracted", {{"lesson": f"{{number}} " + "x" * 6000}})
"""


@contextmanager
def stalled(server: RunningServer, path: str, headers: dict[str, str]) -> Iterator[socket.socket]:
    """Ask for a socket or a stream, see that it begins and read nothing that comes after."""
    where = urlsplit(server.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((where.hostname, where.port))
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        socket_asked = path.startswith("/ws/")
        lines = {"Host": where.netloc, "Origin": server.url, **(upgrade if socket_asked else {}), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        client.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 " + (b"101" if socket_asked else b"200")
        yield client


def test_pages_that_do_not_read_are_let_go_while_the_others_see_every_gate(tmp_path: Path) -> None:
    with serving(tmp_path, command=("-m", "tests.serving.chatty")) as server:
        make_people(server, bob="approver")
        bob = Person(server, "bob")
        with bob.queue_socket() as reads, ExitStack() as stuck:
            before = memory_mb(server.process.pid)
            for _ in range(STALLED):
                stuck.enter_context(stalled(server, "/ws/queue/", bob.browser))
            most = 0.0
            until = time.monotonic() + 60
            while server.output.count("let go with 4408") < STALLED:
                assert time.monotonic() < until, server.output
                gates = len(bob.gates())
                server.submit("is it well?")
                reads.wait_for("gates")
                assert len(bob.gates()) > gates
                most = max(most, memory_mb(server.process.pid) - before)
            # What they left unread was 4 MB a second for each of them.
            assert most < 60
            # Whoever reads was not let go, and still hears.
            server.submit("is it well?")
            reads.wait_for("gates")
            assert server.output.count("let go") == STALLED
        assert server.stop() == 0


@pytest.mark.parametrize("unread", ["/ws/sessions/{}/events", "/api/v1/sessions/{}/events"])
def test_event_streams_that_are_not_read_hold_no_log_in_memory_and_keep_nobody_waiting(
    tmp_path: Path, unread: str
) -> None:
    with serving(tmp_path) as server:
        make_people(server, bob="approver")
        bob = Person(server, "bob")
        session = server.submit()
        server.wait_for(session, "awaiting_input")
        made = manage("shell", "--no-imports", "--verbosity", "0", "-c", LONG.format(session=session), env=server.env)
        assert made.returncode == 0, made.stderr
        path = f"/ws/sessions/{session}/events"
        with ExitStack() as stuck:
            before = memory_mb(server.process.pid)
            for _ in range(STALLED * 2):
                stuck.enter_context(stalled(server, unread.format(session), bob.token))
            answered = threading.Event()

            def ask() -> None:
                httpx.get(f"{server.url}/api/v1/sessions/{session}", headers=bob.token, timeout=60).raise_for_status()
                answered.set()

            asking = threading.Thread(target=ask)
            asking.start()
            with connect(server.url.replace("http", "ws") + path, additional_headers=bob.token) as reads:
                lessons = 0
                while lessons < 1000:
                    lessons += json.loads(reads.recv(timeout=60))["kind"] == "lesson_extracted"
            asking.join(60)
            assert answered.is_set()
            # Sixteen unread logs would be a hundred megabytes.
            assert memory_mb(server.process.pid) - before < 50
