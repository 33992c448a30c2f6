"""What the sessions of the demo load are about: services, faults, and what a tool would have read of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

ENVIRONMENTS = ("production", "production", "production", "staging", "dev")
TEAMS = ("payments", "storefront", "platform", "search", "identity")
SERVICES = tuple(
    f"{area}-{part}"
    for area in ("checkout", "billing", "catalog", "search", "login", "orders", "shipping", "media")
    for part in ("api", "worker", "cache", "gateway", "web")
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong, how people say it, what an agent finds and would do about it."""

    name: str
    category: str
    severities: tuple[str, ...]
    query: str
    finding: str
    reasoning: str
    action: str
    errors: tuple[float, float]
    pool: int = 20

    def args(self, rng: random.Random) -> dict[str, Any]:
        """Return the arguments of the fix, beside the service."""
        sized = {"size": rng.randrange(30, 90, 5)} if self.action == "resize_pool" else {}
        return {"action": self.action, **sized}

    def reading(self, rng: random.Random, service: str, environment: str) -> dict[str, Any]:
        """Return what a tool would have read of the service meanwhile."""
        return {
            "service": service,
            "environment": environment,
            "version": f"2026.{rng.randint(1, 12)}.{rng.randint(0, 30)}",
            "requests_per_second": round(rng.uniform(5, 400), 1),
            "error_ratio": round(rng.uniform(*self.errors), 3),
            "latency_ms": {"p50": rng.randint(20, 200), "p95": rng.randint(200, 4000), "p99": rng.randint(900, 9000)},
            "pool": {"size": self.pool, "in_use": rng.randint(2, self.pool), "waiting": rng.randint(0, 40)},
            "memory_mb": rng.randint(200, 900),
            "memory_limit_mb": 1024,
        }


FAULTS = (
    Fault(
        name="pool_exhausted",
        category="capacity",
        severities=("high", "critical", "medium"),
        query="{service} answers slowly and some requests time out; find out why and put it right",
        finding="{service} has no free database connection; requests wait for one and time out.",
        reasoning="Every connection of {service} is in use and requests queue for one; a larger pool frees them.",
        action="resize_pool",
        errors=(0.05, 0.4),
    ),
    Fault(
        name="bad_deploy",
        category="deployment",
        severities=("critical", "high"),
        query="{service} returns errors since the last deployment",
        finding="Errors of {service} began within a minute of its latest deployment.",
        reasoning="The version before had none of these errors; rolling {service} back removes what brought them.",
        action="roll_back",
        errors=(0.3, 0.9),
    ),
    Fault(
        name="memory_leak",
        category="resources",
        severities=("medium", "high"),
        query="{service} was killed twice tonight, please look",
        finding="The memory of {service} grows without an end and nears its limit.",
        reasoning="Memory of {service} grows steadily; a restart gives time until the leak is found.",
        action="restart",
        errors=(0.0, 0.1),
    ),
    Fault(
        name="disk_full",
        category="resources",
        severities=("low", "medium"),
        query="{service} cannot write, says its disk is full",
        finding="The disk of {service} is full of crash dumps.",
        reasoning="Nearly all of the disk of {service} is crash dumps; deleting them frees it.",
        action="clean_up",
        errors=(0.0, 0.3),
    ),
)
