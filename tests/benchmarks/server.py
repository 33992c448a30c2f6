"""A server in a process of its own, with somebody signed in."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.serving.server import ROOT, environment, free_port, manage

PATIENCE = 60.0

#: Makes a person with both roles and prints the key of a browser session of theirs.
_SIGN_IN = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
person = User.objects.create_user("bench")
person.groups.set(Group.objects.all())
store = import_module(settings.SESSION_ENGINE).SessionStore()
store[SESSION_KEY] = str(person.pk)
store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
store[HASH_SESSION_KEY] = person.get_session_auth_hash()
store.create()
print("cookie", f"{settings.SESSION_COOKIE_NAME}={store.session_key}")
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers."""

    url: str
    cookie: str
    pid: int
    directory: Path
    seconds_to_answer: float

    def commits(self) -> dict[int, float]:
        """Return when each gate was committed, as `tests.benchmarks.serve` noted it."""
        lines = (self.directory / "commits.txt").read_text().splitlines()
        return {int(gate): float(when) for gate, when in map(str.split, lines)}

    def memory_mb(self) -> float:
        """Return the memory that is the process's own share (PSS), in MB."""
        return memory_mb(self.pid)

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has taken."""
        return cpu_seconds(self.pid)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, which a busy computer hardly changes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Return a process's proportional set size in MB: its own pages, and its share of those it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise LookupError("no Pss in smaps_rollup")


@contextmanager
def serving(
    directory: Path, command: Sequence[str], *, port: int | None = None, cookie: str = "", **settings: str
) -> Iterator[Server]:
    """Migrate, sign somebody in, start `command` and wait for its first answer; stopped at the end.

    With the cookie of an earlier one, the same directory is served once more as it is. `settings` are more
    variables of its environment.
    """
    port = port or free_port()
    env = environment(directory, port, **settings)
    if not cookie:
        for args in (("migrate", "--verbosity", "0"), ("shell", "--verbosity", "0", "-c", _SIGN_IN)):
            done = manage(*args, env=env)
            if done.returncode:
                raise RuntimeError(done.stderr)
        cookie = done.stdout.split("cookie ", 1)[1].strip()
    output = directory / "serve.out"
    began = time.perf_counter()
    with output.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"The server did not come up:\n{output.read_text()}")
            try:
                httpx.get(f"{url}/healthz", timeout=5).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.02)
        yield Server(
            url=url,
            cookie=cookie,
            pid=process.pid,
            directory=directory,
            seconds_to_answer=time.perf_counter() - began,
        )
    finally:
        process.terminate()
        try:
            process.wait(25)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
