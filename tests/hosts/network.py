"""Hosts as network namespaces on one bridge: each with an address, a cable, and whatever runs in it.

Needs root and Debian's iproute2. The bridge is in the namespace of the test, which reaches every host.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType


def why_not() -> str:
    """Say what keeps this machine from making hosts; nothing when it can."""
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if shutil.which("ip") is None:
        return "making network namespaces needs `ip`, of Debian's iproute2"
    probe = f"clm-probe-{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"this machine makes no network namespaces: {made.stderr.strip()}"
    _ip("netns", "delete", probe)
    return ""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Host:
    """One namespace: what runs in it sees its own loopback and one cable to the bridge."""

    def __init__(self, name: str, namespace: str, cable: str, address: str) -> None:
        self.name = name
        self.address = address
        self._namespace = namespace
        self._cable = cable
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: Path) -> Process:
        """Start a program on this host; what it prints is added to the file."""
        with output.open("ab") as out:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._namespace, *command], cwd=cwd, env=dict(env), stdout=out, stderr=out
            )
        self._started.append(process)
        return Process(process, output)

    def end(self) -> None:
        """Kill whatever runs on it, also what it did not start itself, and take it away."""
        found = subprocess.run(["ip", "netns", "pids", self._namespace], capture_output=True, text=True, check=False)
        for pid in found.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for process in self._started:
            process.wait(10)
        _ip("netns", "delete", self._namespace)

    def cut(self) -> None:
        """Pull its cable: packets go nowhere, and nobody is told."""
        _ip("link", "set", self._cable, "down")

    def mend(self) -> None:
        """Put its cable back."""
        _ip("link", "set", self._cable, "up")


class Process:
    """A program on a host."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process = process
        self.output = output

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait(10)

    def stop(self, how: signal.Signals = signal.SIGTERM, *, seconds: float = 30) -> int:
        """Ask it to stop, and return its exit code."""
        self._process.send_signal(how)
        return self._process.wait(seconds)


class Network:
    """A bridge and its hosts, gone when the block ends, with everything that still runs in them."""

    def __init__(self) -> None:
        self._name = f"clm{secrets.token_hex(3)}"
        self._net = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(250)}"
        self._hosts: list[Host] = []

    def __enter__(self) -> Network:
        _ip("link", "add", self._name, "type", "bridge")
        _ip("address", "add", f"{self._net}.1/24", "dev", self._name)
        _ip("link", "set", self._name, "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self._hosts:
            host.end()
        _ip("link", "delete", self._name)

    def host(self, name: str) -> Host:
        """Return a new host with a cable to the bridge."""
        number = len(self._hosts) + 1
        namespace, cable = f"{self._name}-{number}", f"{self._name}h{number}"
        address = f"{self._net}.{10 + number}"
        _ip("netns", "add", namespace)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", cable, "master", self._name, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        self._hosts.append(Host(name, namespace, cable, address))
        return self._hosts[-1]
