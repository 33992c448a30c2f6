"""Tools that propose, apply and hand over."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from django.conf import settings
from langchain_core.tools import tool
from pydantic import Field

from sessions_app.agents.facts import Fact, Unreadable
from sessions_app.agents.tools.inventory import ServiceHandle, missing, services
from sessions_app.agents.tools.observability import Caller, client, encode, read_health, read_metrics

Action = Literal["restart", "resize_pool", "roll_back", "clean_up"]
RESTART_SECONDS = 10.0


async def snapshot(handle: ServiceHandle) -> dict[str, Any]:
    """Read health and metrics together, as the state before or after a change."""
    health, metrics = await asyncio.gather(read_health(handle), read_metrics(handle))
    names = ("version", "error_ratio", "latency_ms", "pool", "memory_mb", "disk_used_ratio", "in_flight")
    return {
        "status": health["status"],
        "failing_checks": health.get("failing_checks", {}),
        **{name: metrics[name] for name in names if name in metrics},
    }


async def service_facts(environment: str, args: Mapping[str, Any]) -> dict[str, Fact]:
    """Read what a fix of a service rests on: its version, whether it is healthy, and the size of its pool.

    Not `degraded` or `down`, whose border moves with every request, and no measurement: those change by themselves.
    """
    name = str(args.get("service") or "")
    handle = services(environment).get(name)
    if handle is None:
        raise Unreadable(missing(name, environment)["error"])
    health, metrics = await asyncio.gather(read_health(handle), read_metrics(handle))
    if health["status"] == "unreachable":
        raise Unreadable(health["error"])
    facts: dict[str, Fact] = {"health": "healthy" if health["status"] == "healthy" else "unhealthy"}
    if "version" in health:
        facts["version"] = str(health["version"])
    if "size" in metrics.get("pool", {}):
        facts["pool size"] = metrics["pool"]["size"]
    return facts


async def _until_back(handle: ServiceHandle) -> None:
    """Wait until a restarted service answers again, or until it took too long."""
    until = time.monotonic() + RESTART_SECONDS
    await asyncio.sleep(0.2)
    while (await read_health(handle))["status"] == "unreachable" and time.monotonic() < until:
        await asyncio.sleep(0.1)


@tool("local_remediation__propose_fix")
async def propose_fix(
    service: Annotated[str, Field(description="The service's name.")],
    action: Action,
    reason: Annotated[str, Field(max_length=2000, description="The readings that speak for it.")],
    size: Annotated[int | None, Field(ge=1, le=64, description="The new pool size; only for resize_pool.")] = None,
    expected: Annotated[str, Field(max_length=500, description="What will be seen when it worked.")] = "",
) -> str:
    """Write a fix down before asking for it. Changes nothing, anywhere."""
    return encode(
        {
            "proposal": {"service": service, "action": action, **({"size": size} if size else {})},
            "reason": reason,
            "expected": expected,
            "next": "Nothing was changed. Call apply_fix with the same service and action to do it.",
        }
    )


@tool("local_remediation__apply_fix")
async def apply_fix(
    runtime: Caller,
    service: Annotated[str, Field(description="The service's name; exactly one.")],
    action: Action,
    reason: Annotated[str, Field(max_length=2000, description="Why this fix, for the person who decides.")],
    size: Annotated[int | None, Field(ge=1, le=64, description="The new pool size; only for resize_pool.")] = None,
) -> str:
    """Change the service for real: restart it, resize its pool, roll it back, or clean up its disk.

    Returns what was changed, with a reading from just before and just after. The later one comes too early to
    tell whether it healed: ask get_service_health with wait_seconds.
    """
    environment = runtime.context.environment
    handle = services(environment).get(service)
    if handle is None:
        return encode(missing(service, environment))
    if not handle.token:
        return encode(
            {
                "error": f"{service} takes no changes from CLM.",
                "hint": "It has no token in CLM_SERVICES. Hand it to the people who run it.",
            }
        )
    if action == "resize_pool" and size is None:
        return encode({"error": "resize_pool needs a size.", "hint": "Give the new size of the pool, 1 to 64."})
    before = await snapshot(handle)
    try:
        async with client(handle) as http:
            response = await http.post(f"/admin/{action}", json={"size": size} if action == "resize_pool" else {})
        answer = response.json()
    except (httpx.HTTPError, ValueError) as error:
        return encode(
            {
                "error": f"{service} did not answer the {action}: {str(error) or type(error).__name__}",
                "hint": "It is not known whether it acted. Read its health before doing anything else.",
                "before": before,
            }
        )
    if response.status_code >= 400:
        refusal = answer.get("error", response.status_code) if isinstance(answer, dict) else response.status_code
        return encode({"error": f"{service} refused {action}: {refusal}", "hint": "Nothing was changed."})
    if action == "restart":
        await _until_back(handle)
    return encode(
        {
            "service": service,
            "environment": environment,
            "action": action,
            "changed": answer.get("changed", {}),
            "before": before,
            "after": await snapshot(handle),
        }
    )


def _write_oncall(path: Path, entry: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


@tool("local_remediation__notify_oncall")
async def notify_oncall(
    runtime: Caller,
    team: Annotated[str, Field(min_length=1, max_length=150, description="The team on call.")],
    text: Annotated[str, Field(min_length=1, max_length=2000, description="What they need to know to take over.")],
    service: Annotated[str, Field(description="The service it is about.")] = "",
) -> str:
    """Tell the people on call, which hands the incident to them."""
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "session": runtime.context.session_id,
        "environment": runtime.context.environment,
        "team": team,
        "service": service,
        "text": text,
    }
    try:
        await asyncio.to_thread(_write_oncall, Path(settings.CLM_DATA_DIR) / "oncall.log", entry)
    except OSError as error:
        return encode({"error": f"The notice could not be written: {error.strerror}", "hint": "Nobody was told."})
    webhook = getattr(settings, "CLM_ONCALL_WEBHOOK", "")
    if webhook:
        try:
            async with httpx.AsyncClient(timeout=10) as http:
                (await http.post(webhook, json=entry)).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return encode(
                {
                    "error": f"The on-call webhook failed: {str(error) or type(error).__name__}",
                    "hint": "The notice stands in oncall.log only; use mark_escalated to hand over.",
                }
            )
    return encode({"outcome": "escalated", "team": team, "reason": text, "webhook": "sent" if webhook else "none"})
