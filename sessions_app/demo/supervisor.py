"""Start, find, break and stop the demo service, from the process that owns it or from any other."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sessions_app.demo.service import FAULTS

FIRST_FAULT = "pool_exhausted"
#: How long the service of a server that just died may still be there.
LEAVING_SECONDS = 2.0
ROOT = Path(__file__).resolve().parents[2]


class DemoError(Exception):
    """The demo service cannot be started, reached or changed."""


class DemoNotRunning(DemoError):
    """The demo service is not running: start it with `manage.py serve --demo`."""

    def __init__(self) -> None:
        """Say what to do about it."""
        super().__init__("The demo service is not running. Start it with `manage.py serve --demo`.")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a running demo service listens, as it wrote into its `service.json`."""

    name: str
    url: str
    port: int
    pid: int
    token: str


def find(directory: Path) -> Address | None:
    """Return the address of the demo service that runs in a directory, if its process is alive."""
    try:
        given = json.loads((directory / "service.json").read_text())
        address = Address(**{key: given[key] for key in ("name", "url", "port", "pid", "token")})
        os.kill(address.pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address


class DemoService:
    """The demo service of one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        first_fault: str = FIRST_FAULT,
        rate: float = 14.0,
        window: float = 2.0,
    ) -> None:
        """Name the directory; nothing is started yet."""
        self.directory = Path(directory)
        self.first_fault = first_fault
        self.rate = rate
        self.window = window
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, patience: float = 20.0) -> Address:
        """Start the service as a child and wait until its first readings mean something.

        The service of a server that just died lives for a moment longer, so one that is already there gets
        a moment to leave. After that it belongs to another living server, and is used as it is.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + LEAVING_SECONDS
        while (other := self._alive()) is not None:
            if time.monotonic() > until:
                return other
            time.sleep(0.1)
        (self.directory / "service.json").unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "sessions_app.demo.service",
            "--directory",
            str(self.directory.resolve()),
        ]
        command += ["--parent", str(os.getpid()), "--rate", str(self.rate), "--window", str(self.window)]
        command += ["--first-fault", self.first_fault]
        with (self.directory / "service.err").open("wb") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self.process.poll() is not None:
                said = (self.directory / "service.err").read_text(errors="replace").strip()
                raise DemoError(
                    f"The demo service ended at once: {said.splitlines()[-1] if said else 'no reason given'}"
                )
            if (address := find(self.directory)) is not None and address.pid == self.process.pid:
                return address
            time.sleep(0.05)
        self.stop()
        raise DemoError(f"The demo service did not come up within {patience:.0f} s.")

    def stop(self) -> None:
        """Stop the child that this object started; a service that somebody else owns is left alone."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.process = None
        with contextlib.suppress(OSError):
            if find(self.directory) is None:
                (self.directory / "service.json").unlink(missing_ok=True)

    def status(self) -> dict[str, Any]:
        """Return the service's own health answer, with its address and the fault that is set."""
        address = self._address()
        health = self._ask(address, "GET", "/health")
        fault = self._ask(address, "POST", "/admin/fault")["changed"]["fault"]
        return {**health, "url": address.url, "pid": address.pid, "fault": fault}

    def break_(self, fault: str, *, patience: float = 8.0) -> dict[str, Any]:
        """Bring in a fault and wait until it shows, so that whoever looks next finds it."""
        if fault not in FAULTS:
            raise DemoError(f"Unknown fault {fault!r}; known are {', '.join(FAULTS)}.")
        self._ask(self._address(), "POST", "/admin/break", {"fault": fault})
        # Until a whole window is over, the readings are still those of the time before.
        time.sleep(float(self.status()["window_seconds"]))
        return self._until(lambda status: status != "healthy", patience)

    def heal(self, *, patience: float = 8.0) -> dict[str, Any]:
        """Take every fault away and wait until the service is healthy again."""
        self._ask(self._address(), "POST", "/admin/heal")
        return self._until(lambda status: status == "healthy", patience)

    def _until(self, wanted: Callable[[str], bool], patience: float) -> dict[str, Any]:
        until = time.monotonic() + patience
        while not wanted((status := self.status())["status"]) and time.monotonic() < until:
            time.sleep(0.1)
        return status

    def _alive(self) -> Address | None:
        """Return the running service's address, unless the pid now belongs to something else."""
        if (address := find(self.directory)) is None:
            return None
        try:
            health = httpx.get(f"{address.url}/health", timeout=2, trust_env=False).json()
        except (httpx.HTTPError, ValueError):
            return None
        return address if health.get("service") == address.name else None

    def _address(self) -> Address:
        if (address := find(self.directory)) is None:
            raise DemoNotRunning
        return address

    def _ask(self, address: Address, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = httpx.request(
                method,
                address.url + path,
                json=body or {},
                headers={"Authorization": f"Bearer {address.token}"},
                timeout=5,
                trust_env=False,
            )
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise DemoError(f"The demo service at {address.url} does not answer: {error}") from error
        if response.status_code >= 400:
            raise DemoError(f"The demo service refused {path}: {answer.get('error', response.status_code)}")
        return answer
