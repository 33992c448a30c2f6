"""Tools that read: health, metrics, logs and deployments of the services in the session's environment."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import httpx
from langchain.tools import ToolRuntime
from langchain_core.tools import tool
from pydantic import Field

from sessions_app.agents.tools.inventory import ServiceHandle, missing, services

TAIL_BYTES = 64 * 1024
MOST_WAIT_SECONDS = 5.0
MEGABYTE = 2**20

#: What the framework hands a tool: its `context` is the `RunContext`. It stays untyped here because the
#: argument schema that is made from a tool's signature would try to validate the journal in it.
Caller = ToolRuntime[Any, Any]

_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*?)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LINE = re.compile(r"^(\S+)\s+(?:\S+\s+)?\b(DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL)\b\s*(.*)$")
_NUMBER = re.compile(r"\d+")


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    # Reading the certificate store takes longer than a whole reading of a service.
    return ssl.create_default_context()


def client(handle: ServiceHandle) -> httpx.AsyncClient:
    """Open a client for one service, past any proxy of the environment: loopback must not go through one."""
    headers = {"Authorization": f"Bearer {handle.token}"} if handle.token else {}
    return httpx.AsyncClient(
        base_url=handle.url,
        headers=headers,
        verify=_tls(),
        trust_env=False,
        timeout=httpx.Timeout(10, connect=3),
    )


def unreachable(handle: ServiceHandle, error: Exception) -> dict[str, Any]:
    """Say that a service does not answer, which is a reading too."""
    return {
        "service": handle.name,
        "environment": handle.environment,
        "status": "unreachable",
        "error": f"{handle.name} does not answer: {str(error) or type(error).__name__}",
        "hint": "It may be down or restarting. Look again in a few seconds.",
    }


async def read_health(handle: ServiceHandle) -> dict[str, Any]:
    """Read a service's own opinion of itself."""
    try:
        async with client(handle) as http:
            response = await http.get("/health")
        health = response.json()
    except (httpx.HTTPError, ValueError) as error:
        return unreachable(handle, error)
    if not isinstance(health, dict):
        return unreachable(handle, ValueError("its /health is not an object"))
    checks = health.get("checks")
    return {
        "service": handle.name,
        "environment": handle.environment,
        "status": str(health.get("status", "unknown")),
        "failing_checks": {k: v for k, v in checks.items() if v != "ok"} if isinstance(checks, dict) else {},
        **{key: health[key] for key in ("version", "uptime_seconds", "window_seconds") if key in health},
    }


async def read_metrics(handle: ServiceHandle) -> dict[str, Any]:
    """Read a service's metrics and keep what a person would look at."""
    try:
        async with client(handle) as http:
            response = await http.get("/metrics")
        response.raise_for_status()
    except httpx.HTTPError as error:
        return unreachable(handle, error)
    return {"service": handle.name, "environment": handle.environment, **summarise(response.text)}


def summarise(text: str) -> dict[str, Any]:
    """Turn Prometheus text into a compact reading; names that are not known come back under `other`."""
    flat: dict[str, float] = {}
    totals: dict[str, float] = {}
    latency: dict[str, float] = {}
    version = ""
    for line in text.splitlines():
        if line.startswith("#") or (sample := _SAMPLE.match(line)) is None:
            continue
        name, labels, number = sample.groups()
        try:
            value = float(number)
        except ValueError:
            continue
        given = dict(_LABEL.findall(labels or ""))
        if name == "http_requests_total":
            totals[given.get("status", "")] = totals.get(given.get("status", ""), 0) + value
        elif name == "http_latency_seconds":
            latency[f"p{float(given.get('quantile', 0)) * 100:g}"] = round(value * 1000)
        elif name == "build_info":
            version = given.get("version", "")
        elif not labels:
            flat[name] = value
    reading: dict[str, Any] = {}
    if version:
        reading["version"] = version
    for key, name in (
        ("window_seconds", "metrics_window_seconds"),
        ("requests_per_second", "http_requests_per_second"),
        ("error_ratio", "http_error_ratio"),
    ):
        if name in flat:
            reading[key] = flat.pop(name)
    if latency:
        reading["latency_ms"] = latency
    pool = {key: int(flat.pop(f"db_pool_{key}")) for key in ("size", "in_use", "waiting") if f"db_pool_{key}" in flat}
    if pool:
        reading["pool"] = pool
    if "process_resident_memory_bytes" in flat:
        reading["memory_mb"] = round(flat.pop("process_resident_memory_bytes") / MEGABYTE)
        if "process_memory_limit_bytes" in flat:
            reading["memory_limit_mb"] = round(flat.pop("process_memory_limit_bytes") / MEGABYTE)
    for key, name in (
        ("disk_used_ratio", "disk_used_ratio"),
        ("in_flight", "http_requests_in_flight"),
        ("uptime_seconds", "process_uptime_seconds"),
    ):
        if name in flat:
            reading[key] = flat.pop(name)
    if totals:
        reading["requests_total"] = {status: int(count) for status, count in sorted(totals.items())}
    flat.pop("http_request_duration_seconds_sum", None)
    flat.pop("http_request_duration_seconds_count", None)
    if flat:
        reading["other"] = dict(sorted(flat.items())[:30])
    return reading


def read_log(path: Path, *, since_seconds: float, level: str, contains: str, lines: int) -> dict[str, Any]:
    """Read the end of a log file: counts by level, the commonest complaints, and the last lines."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read().decode(errors="replace").splitlines()
    if size > TAIL_BYTES:
        # The first line is most likely cut in two.
        tail = tail[1:]
    oldest = datetime.now(UTC).timestamp() - since_seconds
    counts: Counter[str] = Counter()
    patterns: Counter[str] = Counter()
    examples: dict[str, str] = {}
    kept: list[str] = []
    for line in tail:
        found = _LINE.match(line)
        if found and _before(found[1], oldest):
            continue
        severity = found[2].replace("WARNING", "WARN") if found else "OTHER"
        counts[severity] += 1
        if severity in {"WARN", "ERROR", "CRITICAL"}:
            said = found[3] if found else line
            pattern = _NUMBER.sub("N", said)[:200]
            patterns[pattern] += 1
            examples[pattern] = said[:300]
        if (not level or severity == level.upper()) and contains.lower() in line.lower():
            kept.append(line[:300])
    return {
        "since_seconds": since_seconds,
        "counts": dict(counts),
        "complaints": [{"count": count, "example": examples[p]} for p, count in patterns.most_common(5)],
        "lines": kept[-lines:],
    }


def _before(moment: str, oldest: float) -> bool:
    """Whether a log line is older than wanted; a line without a readable time counts as recent."""
    try:
        return datetime.fromisoformat(moment).timestamp() < oldest
    except ValueError:
        return False


def encode(result: Mapping[str, Any]) -> str:
    """Write a tool's result the way a model reads it, without blanks that cost tokens."""
    return json.dumps(result, ensure_ascii=False, separators=(",", ":"))


@tool("local_observability__get_service_health")
async def get_service_health(
    runtime: Caller,
    service: Annotated[str, Field(description="The service's name, or empty for all of the environment.")] = "",
    wait_seconds: Annotated[
        float,
        Field(ge=0, le=MOST_WAIT_SECONDS, description="Wait so long before reading, to see a fix take effect."),
    ] = 0,
) -> str:
    """Ask how services are: healthy, degraded, down or unreachable, and which of their checks fail.

    Readings look back `window_seconds`; after a change, wait a little longer than that before believing one.
    """
    if wait_seconds:
        await asyncio.sleep(min(wait_seconds, MOST_WAIT_SECONDS))
    environment = runtime.context.environment
    there = services(environment)
    if service:
        return encode(await read_health(there[service]) if service in there else missing(service, environment))
    if not there:
        return encode(missing("", environment))
    readings = await asyncio.gather(*(read_health(handle) for handle in there.values()))
    return encode({"environment": environment, "services": readings})


@tool("local_observability__get_metrics")
async def get_metrics(
    runtime: Caller,
    service: Annotated[str, Field(description="The service's name, or empty for all of the environment.")] = "",
) -> str:
    """Read error ratio, latency, connection pool, memory, disk and traffic, over the last few seconds."""
    environment = runtime.context.environment
    there = services(environment)
    if service:
        return encode(await read_metrics(there[service]) if service in there else missing(service, environment))
    if not there:
        return encode(missing("", environment))
    readings = await asyncio.gather(*(read_metrics(handle) for handle in there.values()))
    return encode({"environment": environment, "services": readings})


@tool("local_observability__get_logs")
async def get_logs(
    runtime: Caller,
    service: Annotated[str, Field(description="The service's name.")],
    since_seconds: Annotated[float, Field(gt=0, le=86400, description="How far to look back.")] = 120,
    level: Annotated[str, Field(description="Only lines of this level: ERROR, WARN or INFO. Empty for all.")] = "",
    contains: Annotated[str, Field(description="Only lines with this text. Empty for all.")] = "",
    lines: Annotated[int, Field(ge=1, le=100, description="At most so many of the last lines.")] = 8,
) -> str:
    """Read a service's log: lines per level, the commonest complaints with their counts, the last lines."""
    environment = runtime.context.environment
    handle = services(environment).get(service)
    if handle is None:
        return encode(missing(service, environment))
    if handle.log is None:
        return encode({"error": f"No log of {service} can be read from here.", "hint": "Use its metrics instead."})
    try:
        found = await asyncio.to_thread(
            read_log, handle.log, since_seconds=since_seconds, level=level, contains=contains, lines=lines
        )
    except OSError as error:
        return encode({"error": f"The log of {service} cannot be read: {error.strerror}.", "hint": str(handle.log)})
    return encode({"service": service, "environment": environment, **found})


@tool("local_observability__check_deployment_history")
async def check_deployment_history(
    runtime: Caller,
    service: Annotated[str, Field(description="The service's name.")],
    limit: Annotated[int, Field(ge=1, le=20, description="At most so many, newest first.")] = 5,
) -> str:
    """Read which versions went live when, newest first, and which one is live now."""
    environment = runtime.context.environment
    handle = services(environment).get(service)
    if handle is None:
        return encode(missing(service, environment))
    try:
        async with client(handle) as http:
            response = await http.get("/deployments")
        response.raise_for_status()
        history = response.json()
        entries = list(history.get("deployments", []))[:limit]
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        return encode(
            {
                "error": f"{service} has no readable deployment history: {error}",
                "hint": "Look at the version in its health.",
            }
        )
    return encode({"service": service, "environment": environment, "live": history.get("live"), "deployments": entries})
