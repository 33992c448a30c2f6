"""The published diagnostic rules: symptom -> hypothesis -> fix, as data, and the arithmetic of confidence.

Pure: the same readings give the same hypotheses. docs/offline_investigator.md prints the table; a test
compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Nothing that rests on a handful of readings is certain.
MOST = 0.95
#: Two hypotheses closer than this leave it open which one is right.
TOO_CLOSE = 0.15
RECENT_SECONDS = 1800
SLOW_MS = 350
ERRORS = 0.05


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What the tools said of one service; an empty part was not read."""

    service: str
    health: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The service's own word for how it is."""
        return str(self.health.get("status", "unknown"))

    @property
    def pool(self) -> tuple[int, int, int]:
        """Size, in use and waiting; noughts where it was not read."""
        given = self.metrics.get("pool") or {}
        return int(given.get("size", 0)), int(given.get("in_use", 0)), int(given.get("waiting", 0))

    @property
    def error_ratio(self) -> float:
        """The share of requests that failed in the window."""
        return float(self.metrics.get("error_ratio", 0))

    @property
    def p95_ms(self) -> float:
        """How long the slowest twentieth of requests takes at least."""
        return float((self.metrics.get("latency_ms") or {}).get("p95", 0))

    @property
    def memory_ratio(self) -> float:
        """The share of the memory limit that is used."""
        limit = float(self.metrics.get("memory_limit_mb") or 0)
        return float(self.metrics.get("memory_mb", 0)) / limit if limit else 0.0

    @property
    def disk_ratio(self) -> float:
        """The share of the disk quota that is used."""
        return float(self.metrics.get("disk_used_ratio", 0))

    @property
    def live(self) -> Mapping[str, Any]:
        """The newest entry of the deployment history."""
        entries = self.history.get("deployments") or [{}]
        return entries[0] if isinstance(entries[0], Mapping) else {}

    def complaints(self, pattern: re.Pattern[str]) -> tuple[int, str]:
        """Count the warnings and errors in the log that match, and give the commonest as an example."""
        count, example = 0, ""
        for complaint in self.logs.get("complaints") or ():
            if pattern.search(complaint["example"]):
                count += int(complaint["count"])
                example = example or str(complaint["example"])
        return count, example


#: Says what was read when the symptom is there, and nothing when it is not (or was not read).
Test = Callable[[Readings], str]


def _pool_full(readings: Readings) -> str:
    size, in_use, _ = readings.pool
    return f"{in_use} of {size} pool connections are in use" if size and in_use >= 0.95 * size else ""


def _pool_queue(readings: Readings) -> str:
    waiting = readings.pool[2]
    return f"{waiting} requests wait for a connection" if waiting else ""


def _pool_free(readings: Readings) -> str:
    size, in_use, _ = readings.pool
    return f"the pool has room ({in_use} of {size})" if size and in_use < 0.95 * size else ""


def _in_log(pattern: str, least: int = 2) -> Test:
    compiled = re.compile(pattern, re.IGNORECASE)

    def test(readings: Readings) -> str:
        count, example = readings.complaints(compiled)
        return f'the log says {count} times: "{example[:140]}"' if count >= least else ""

    return test


def _failing(readings: Readings) -> str:
    return f"{readings.error_ratio:.0%} of requests fail" if readings.error_ratio > ERRORS else ""


def _slow(readings: Readings) -> str:
    return f"p95 latency is {readings.p95_ms:.0f} ms" if readings.p95_ms > SLOW_MS else ""


def _failing_or_slow(readings: Readings) -> str:
    return _failing(readings) or _slow(readings)


def _new_version(readings: Readings) -> str:
    live = readings.live
    age = live.get("seconds_ago")
    if age is None or live.get("kind") == "rollback" or float(age) > RECENT_SECONDS:
        return ""
    return f"version {live.get('version')} went live {_ago(float(age))} ago"


def _old_version(readings: Readings) -> str:
    if not readings.history.get("deployments") or _new_version(readings):
        return ""
    return f"nothing was newly deployed in the last {RECENT_SECONDS // 60} minutes"


def _memory_high(readings: Readings) -> str:
    if readings.memory_ratio < 0.7:
        return ""
    used, limit = readings.metrics["memory_mb"], readings.metrics["memory_limit_mb"]
    return f"memory is at {used} of {limit} MB"


def _memory_low(readings: Readings) -> str:
    return "memory is low" if 0 < readings.memory_ratio < 0.6 else ""


def _disk_high(readings: Readings) -> str:
    return f"the disk quota is {readings.disk_ratio:.0%} used" if readings.disk_ratio >= 0.95 else ""


def _nothing_exhausted(readings: Readings) -> str:
    exhausted = _pool_full(readings) or _memory_high(readings) or _disk_high(readings)
    return "pool, memory and disk have room" if readings.metrics and not exhausted else ""


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One thing to see, and how much of the hypothesis rests on it."""

    name: str
    weight: float
    test: Test


@dataclass(frozen=True, kw_only=True)
class Fix:
    """What to do about it, with what a person wants to know before saying yes."""

    action: str
    why: str
    undo: str
    breaks: str
    check: str


RESIZE = Fix(
    action="resize_pool",
    why="a pool with room lets the waiting requests through",
    undo="Can be undone: yes, by resizing it back.",
    breaks="It breaks nothing that is in flight; the database has to bear the additional connections.",
    check="nobody waits for a connection and errors are gone",
)
RESTART = Fix(
    action="restart",
    why="a fresh process gives back the memory and the connections that the old one holds",
    undo="Can be undone: no.",
    breaks="The {in_flight} requests in flight fail and the service is away for about a second.",
    check="memory and latency are back to normal and stay there",
)
ROLL_BACK = Fix(
    action="roll_back",
    why="the version before it did not fail like this",
    undo="Can be undone: yes, by deploying the newer version again.",
    breaks="It breaks nothing in flight; what the new version brought is gone until it is deployed again.",
    check="the older version is live and the exceptions have stopped",
)
CLEAN_UP = Fix(
    action="clean_up",
    why="without the crash dumps there is room for the service's own files",
    undo="Can be undone: no, the crash dumps are gone for good.",
    breaks="It breaks nothing that is in flight.",
    check="the disk has room and writes succeed",
)
FIXES: dict[str, Fix] = {fix.action: fix for fix in (RESIZE, RESTART, ROLL_BACK, CLEAN_UP)}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One hypothesis: the symptoms for it (their weights sum to 1) and against it, and its fixes in order."""

    name: str
    title: str
    category: str
    symptoms: tuple[Symptom, ...]
    against: tuple[Symptom, ...]
    fixes: tuple[Fix, ...]


RULES: tuple[Rule, ...] = (
    Rule(
        name="pool_exhausted",
        title="an exhausted connection pool",
        category="database",
        symptoms=(
            Symptom(name="the pool is full", weight=0.45, test=_pool_full),
            Symptom(name="requests wait for a connection", weight=0.2, test=_pool_queue),
            Symptom(
                name="the log complains of waiting for connections",
                weight=0.2,
                test=_in_log(r"(timed out|timeout|no free|exhausted).*connection|connection.*(timed out|timeout)"),
            ),
            Symptom(name="requests fail or are slow", weight=0.1, test=_failing_or_slow),
            Symptom(name="nothing new was deployed", weight=0.05, test=_old_version),
        ),
        against=(Symptom(name="the pool has room", weight=0.4, test=_pool_free),),
        fixes=(RESIZE, RESTART),
    ),
    Rule(
        name="bad_deploy",
        title="a bad deployment",
        category="deployment",
        symptoms=(
            Symptom(name="a new version went live", weight=0.35, test=_new_version),
            Symptom(
                name="the log has exceptions from the code",
                weight=0.35,
                test=_in_log(r"\b(?!OSError|TimeoutError|ConnectionError)\w+(Error|Exception)\b: "),
            ),
            Symptom(name="requests fail", weight=0.2, test=_failing),
            Symptom(name="nothing is exhausted", weight=0.1, test=_nothing_exhausted),
        ),
        against=(Symptom(name="nothing new was deployed", weight=0.35, test=_old_version),),
        fixes=(ROLL_BACK,),
    ),
    Rule(
        name="memory_leak",
        title="a memory leak",
        category="memory",
        symptoms=(
            Symptom(name="memory is near its limit", weight=0.55, test=_memory_high),
            Symptom(
                name="the log warns of memory",
                weight=0.15,
                test=_in_log(r"\bmemory\b|\bheap\b|evicts none", 1),
            ),
            Symptom(name="requests are slow", weight=0.2, test=_slow),
            Symptom(name="the pool has room", weight=0.1, test=_pool_free),
        ),
        against=(Symptom(name="memory is low", weight=0.4, test=_memory_low),),
        fixes=(RESTART,),
    ),
    Rule(
        name="disk_full",
        title="a full disk",
        category="disk",
        symptoms=(
            Symptom(name="the disk quota is used up", weight=0.55, test=_disk_high),
            Symptom(
                name="the log says that writes fail",
                weight=0.2,
                test=_in_log(r"no space left|disk quota|\bENOSPC\b"),
            ),
            Symptom(name="requests fail", weight=0.2, test=_failing),
            Symptom(name="the pool has room", weight=0.05, test=_pool_free),
        ),
        against=(),
        fixes=(CLEAN_UP,),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A rule held against readings: how sure, because of what, in spite of what."""

    rule: Rule
    confidence: float
    support: tuple[str, ...]
    against: tuple[str, ...]


def weigh(rule: Rule, readings: Readings) -> Hypothesis:
    """Hold one rule against readings: the weights that speak for it, less those that speak against it."""
    support = [(symptom.weight, said) for symptom in rule.symptoms if (said := symptom.test(readings))]
    against = [(symptom.weight, said) for symptom in rule.against if (said := symptom.test(readings))]
    total = sum(weight for weight, _ in support) - sum(weight for weight, _ in against)
    return Hypothesis(
        rule=rule,
        confidence=round(max(0.0, min(1.0, total)) * MOST, 2),
        support=tuple(said for _, said in support),
        against=tuple(said for _, said in against),
    )


def diagnose(readings: Readings) -> list[Hypothesis]:
    """Return the hypotheses that anything speaks for, the likeliest first.

    When the second is close behind, the first loses confidence: it is open which one is right.
    """
    found = [weigh(rule, readings) for rule in RULES]
    found = sorted((h for h in found if h.confidence >= 0.2), key=lambda h: -h.confidence)
    if len(found) > 1 and found[0].confidence - found[1].confidence < TOO_CLOSE:
        first = found[0]
        found[0] = Hypothesis(
            rule=first.rule,
            confidence=round(first.confidence * 0.7, 2),
            support=first.support,
            against=(*first.against, f"{found[1].rule.title} explains the readings almost as well"),
        )
    return found


def healthy(readings: Readings) -> bool:
    """Whether the service says that it is healthy and its metrics do not say otherwise."""
    return readings.status == "healthy" and not _failing(readings) and not _slow(readings)


def sickest(all_readings: Sequence[Readings]) -> Readings | None:
    """Return the service to look at first: the one that fails most."""
    worst = {"down": 3, "unreachable": 3, "degraded": 2, "unknown": 1, "healthy": 0}
    return max(all_readings, key=lambda r: (worst.get(r.status, 1), r.error_ratio), default=None)


def rule_named(text: str) -> Rule | None:
    """Return the rule whose title stands first in a text."""
    lower = text.lower()
    places = [(lower.index(rule.title), rule) for rule in RULES if rule.title in lower]
    return min(places, key=lambda place: place[0])[1] if places else None


_WORDS: dict[str, re.Pattern[str]] = {
    "roll_back": re.compile(r"\broll(?:ing|ed)?(?: \w+)?[ -]?back|\brevert|\broll_back|\bprevious version"),
    "resize_pool": re.compile(r"\bresiz\w*|\b(?:bigger|larger|increase \w* ?)pool|\bresize_pool|\bmore connections"),
    "restart": re.compile(r"\brestart\w*|\breboot\w*|\bbounce\b"),
    "clean_up": re.compile(r"\bclean\w*\b|\bfree \w* ?(?:disk|space)|\bdelete \w* ?(?:dumps|files)"),
    "escalate": re.compile(r"\bescalat\w+|\bhand (?:it |this )?over|\bon-?call\b|\bpage (?:the|some|them)"),
    "close": re.compile(r"\bfalse alarm|\bnothing is wrong|\bnothing wrong|\bclose (?:it|this|the)|\bno action\b"),
}
_NEGATED = re.compile(r"(?:n't|\bnot|\bnever|\bno|\bwithout|\binstead of|\brather than)(?:\s+\w+){0,2}\s*$")


def wishes(text: str) -> tuple[list[str], set[str]]:
    """Return which actions a person's words ask for, in their order, and which they speak against."""
    lower = " ".join(text.lower().split())
    wanted: list[tuple[int, str]] = []
    unwanted: set[str] = set()
    for action, pattern in _WORDS.items():
        for match in pattern.finditer(lower):
            if _NEGATED.search(lower[: match.start()]):
                unwanted.add(action)
            else:
                wanted.append((match.start(), action))
    ordered = dict.fromkeys(action for _, action in sorted(wanted))
    return [action for action in ordered if action not in unwanted], unwanted
