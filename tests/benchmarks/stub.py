"""A service that answers at once, so that a tool costs next to nothing, and costs the same on both sides."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from django.test import override_settings

from sessions_app.agents import facts, offline
from sessions_app.agents.tools import observability, remediation

SERVICE = "checkout"
ENVIRONMENT = "dev"

_METRICS = """\
build_info{{version="4.2.0"}} 1
metrics_window_seconds 2
http_requests_per_second 14
http_error_ratio {errors}
http_latency_seconds{{quantile="0.5"}} 0.1
http_latency_seconds{{quantile="0.95"}} {p95}
http_requests_total{{status="200"}} 900
http_requests_total{{status="503"}} 300
db_pool_size {size}
db_pool_in_use 20
db_pool_waiting {waiting}
process_resident_memory_bytes 120000000
process_memory_limit_bytes 500000000
disk_used_ratio 0.4
http_requests_in_flight 4
process_uptime_seconds 900
"""
_COMPLAINT = "checkout order {} failed: timed out waiting for a database connection after 500 ms (pool 20/20)"


class StubService:
    """One service with a full pool until `heal`; it heals for everybody, so a phase has one state."""

    def __init__(self, directory: Path) -> None:
        self.sick = True
        #: When each change that a tool asked for reached it.
        self.acted: list[float] = []
        self.log = directory / "stub.log"
        lines = (f"2999-01-01T00:00:0{n % 10}+00:00 ERROR {_COMPLAINT.format(n)}" for n in range(12))
        self.log.write_text("\n".join(lines))

    @contextmanager
    def in_place(self) -> Iterator[StubService]:
        """Put it where the tools look for services, and itself where they open a client."""
        given = {
            SERVICE: {
                "environment": ENVIRONMENT,
                "url": "http://stub",
                "log": str(self.log),
                "token": "stub",
            }
        }
        with (
            override_settings(CLM_SERVICES=given),
            mock.patch.object(observability, "client", return_value=_Client(self)),
            mock.patch.object(remediation, "client", return_value=_Client(self)),
            # Healing for everybody at once would be news to every gate; what they rest on stays.
            mock.patch.dict(facts._readers, {"local_remediation:apply_fix": _same_facts}),
            # The investigator waits for the service's window to pass before it looks again; here it has passed.
            mock.patch.object(offline, "LONGEST_LOOK", 0.0),
        ):
            yield self

    def answer(self, path: str) -> httpx.Response:
        """Return what a real service would say on a path."""
        if path == "/metrics":
            text = (
                _METRICS.format(errors=0.25, p95=0.6, size=20, waiting=8)
                if self.sick
                else _METRICS.format(errors=0, p95=0.1, size=40, waiting=0)
            )
            return httpx.Response(200, text=text)
        if path == "/health":
            said: dict[str, Any] = {
                "status": "degraded" if self.sick else "healthy",
                "checks": {"pool": "20 of 20 in use" if self.sick else "ok"},
                "version": "4.2.0",
                "window_seconds": 2,
            }
        elif path == "/deployments":
            said = {
                "live": "4.2.0",
                "deployments": [{"version": "4.2.0", "kind": "deploy", "seconds_ago": 90000}],
            }
        else:
            self.acted.append(time.perf_counter())
            said = {"changed": {"pool_size": [20, 40]}}
        return httpx.Response(200, json=said)


async def _same_facts(environment: str, args: Mapping[str, Any]) -> dict[str, facts.Fact]:
    return {"health": "unhealthy", "version": "4.2.0", "pool size": 20}


class _Client:
    """What the tools use of a client."""

    def __init__(self, service: StubService) -> None:
        self._service = service

    async def __aenter__(self) -> _Client:
        return self

    async def __aexit__(self, *about: object) -> None:
        return None

    async def get(self, path: str) -> httpx.Response:
        return self._respond("GET", path)

    async def post(self, path: str, **_: Any) -> httpx.Response:
        return self._respond("POST", path)

    def _respond(self, method: str, path: str) -> httpx.Response:
        response = self._service.answer(path)
        # `raise_for_status` wants to know what it was an answer to.
        response.request = httpx.Request(method, f"http://stub{path}")
        return response
