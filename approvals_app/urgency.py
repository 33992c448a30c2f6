"""How urgent a gate is, and so where it stands among those that wait: the one place that says so. Pure.

The weight is the severity of the incident times the risk of the call, as both were known when the gate opened; it is
stored with the gate and never changes, so no row moves while somebody reads. The queue lists the heaviest first, and
gates of one weight by the time that is left (docs/queue.md).
"""

from __future__ import annotations

#: The words that agents and clients use for a severity; any other, and none, count as UNKNOWN.
SEVERITIES = {"critical": 4, "high": 3, "medium": 2, "low": 1}
#: A question has no risk of its own, but its session stands still: it counts as UNKNOWN too.
RISKS = {"forbidden": 3, "high": 3, "medium": 2, "low": 1}
#: What is not known is neither hidden at the end of the list nor put before what is known to be bad.
UNKNOWN = 2


def weight(*, severity: str, risk: str) -> int:
    """Return 1 (low severity, low risk) to 12 (critical severity, high risk)."""
    return SEVERITIES.get(severity.strip().lower(), UNKNOWN) * RISKS.get(risk, UNKNOWN)


def words(*, weight: int, risk: str) -> str:
    """Return why a gate of that weight and risk stands where it does."""
    factor = RISKS.get(risk, UNKNOWN)
    severity = weight // factor
    name = next((name for name, value in SEVERITIES.items() if value == severity), "unknown")
    if severity == UNKNOWN:
        name = "medium or unknown"
    call = f"a {risk} risk call" if risk else "a question"
    return (
        f"Urgency {weight}: {name} severity when it opened ({severity}) × {call} ({factor}). "
        "Among equals, what runs out first stands first."
    )
