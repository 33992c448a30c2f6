"""How the offline investigator answers a question about its work: it quotes what was read, or says that it cannot.

It finds readings by the words that the question and they have in common. It judges nothing and adds nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sessions_app.agents.inquiry import ASKED, READING, RETURNED, SAID

#: Quotes in one answer, letters of each, and quotes of one reading.
MOST_QUOTES = 6
LONGEST = 240
MOST_OF_A_SOURCE = 3
#: What it counts when a word stands in a value's name, in the value, in the name of what was read.
_WEIGHTS = (1.5, 1.0, 0.6)
_OWN_WORDS = 0.5
OWN = "I said"
_WORD = re.compile(r"[a-z0-9_]+")
#: Words that say nothing of what is asked about.
_EMPTY = frozenset(
    _WORD.findall(
        "the and for was were are has have had did does you your that this these those with from what which when where "
        "who why how many much any there then than can could would should will its not but about say says said tell "
        "told know please into out all get got now been being just really exactly sure think mean still only"
    )
)
#: Words that ask for the readings themselves.
_LOOK = frozenset(
    _WORD.findall(
        "look looks looked looking read reading readings check checked checks see saw seen else evidence other others "
        "source sources tool tools call called calls examined consulted considered anything everything more"
    )
)
_HEAD = re.compile(rf"{READING} \d+: (.+?) called (.+?) with (.*)\. {re.escape(RETURNED)}$")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that was read or said: where, which value of it, and in which words."""

    source: str
    key: str
    text: str

    @property
    def quote(self) -> str:
        """The fact as it is quoted."""
        text = f"{self.key}: {self.text}" if self.key else self.text
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


@dataclass(kw_only=True)
class Record:
    """A record as the rules read it: the calls of each agent, every fact, and the question that ends it."""

    calls: dict[str, list[str]] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    question: str = ""

    @classmethod
    def read(cls, text: str) -> Record:
        """Read what `inquiry.record` wrote."""
        read = cls()
        facts: dict[tuple[str, str], Fact] = {}
        for heading, body in _sections(text):
            if found := _HEAD.match(heading):
                agent, tool, args = found.groups()
                given = _given(args)
                source = f"{tool.rpartition(':')[2]}{f' of {given}' if given else ''}"
                calls = read.calls.setdefault(agent, [])
                if source not in calls:
                    calls.append(source)
                for key, value in _leaves(body):
                    # A later reading of the same thing stands for the earlier one.
                    facts.pop((source, key), None)
                    facts[source, key] = Fact(source=source, key=key, text=value)
            elif heading == SAID:
                for sentence in _SENTENCE.split(" ".join(body.split())):
                    facts[OWN, sentence] = Fact(source=OWN, key="", text=sentence)
            elif heading == ASKED:
                read.question = body
        read.facts = list(facts.values())
        return read

    @property
    def listed(self) -> str:
        """Which tools each agent called, as a sentence."""
        each = [f"{agent} called {', '.join(sources)}" for agent, sources in self.calls.items()]
        return f"What was looked at: {'; '.join(each)}." if each else "Nothing was looked at."


def answer(text: str) -> str:
    """Return the answer to the question that ends the record."""
    record = Record.read(text)
    words = dict.fromkeys(_WORD.findall(record.question.lower()))
    about = [word for word in words if len(word) > 2 and word not in _EMPTY | _LOOK]
    if not about:
        return record.listed
    found = _matching(record.facts, [_stem(word) for word in about])
    if not found:
        return f"I do not know: nothing that was read or said has {_or(about)} in it. {record.listed}"
    quotes = "\n".join(f"- {fact.source}: “{fact.quote}”" for fact in found)
    return f"I am rules, and can only quote what has words of your question in it:\n{quotes}"


def _sections(record: str) -> Iterator[tuple[str, str]]:
    """Yield each heading with what is quoted behind it."""
    heading, body = "", list[str]()
    for line in record.splitlines():
        if line.startswith("> "):
            body.append(line[2:])
        elif line.strip():
            if heading:
                yield heading, "\n".join(body)
            heading, body = line, []
    if heading:
        yield heading, "\n".join(body)


def _given(args: str) -> str:
    """Return what a call was about, of its arguments: the service, where it names one."""
    try:
        given = json.loads(args)
    except ValueError:
        return ""
    return str(given.get("service") or given.get("target") or "") if isinstance(given, dict) else ""


def _leaves(body: str) -> Iterator[tuple[str, str]]:
    """Yield the single values of a result, each with its place; the lines of one that is no JSON."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        yield from ((f"line {number}", line) for number, line in enumerate(body.splitlines(), 1) if line.strip())
        return
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        place, one = waiting.pop(0)
        if isinstance(one, dict):
            # A name tells two services of one reading apart better than a number.
            name = str(one.get("service") or "")
            prefix = name if name and not place.endswith(name) else place
            waiting[:0] = [(f"{prefix}.{key}".lstrip("."), inner) for key, inner in one.items()]
        elif isinstance(one, list):
            waiting[:0] = [(f"{place}[{number}]", inner) for number, inner in enumerate(one, 1)]
        elif one not in (None, ""):
            yield place, str(one)


def _matching(facts: list[Fact], wanted: list[str]) -> list[Fact]:
    """Return the facts that say most of what is wanted, in the order of the record; a rare word counts more."""
    words = [tuple(_words(part) for part in (fact.key, fact.text, fact.source)) for fact in facts]
    scores = [0.0] * len(facts)
    for word in wanted:
        shares = [
            next((weight for part, weight in zip(one, _WEIGHTS, strict=True) if _has(part, word)), 0) for one in words
        ]
        if having := sum(share > 0 for share in shares):
            rare = math.log(1 + len(facts) / having)
            scores = [score + rare * share for score, share in zip(scores, shares, strict=True)]
    # What was read counts more than what the agent made of it.
    scores = [score * (_OWN_WORDS if fact.source == OWN else 1) for score, fact in zip(scores, facts, strict=True)]
    best = max(scores, default=0)
    # Of facts that say it equally well the later ones: they are nearer to now.
    ranked = sorted(
        (i for i, score in enumerate(scores) if score > 0 and score >= best / 3), key=lambda i: (-scores[i], -i)
    )
    kept: list[int] = []
    for index in ranked:
        of_source = sum(facts[one].source == facts[index].source for one in kept)
        if len(kept) < MOST_QUOTES and of_source < MOST_OF_A_SOURCE:
            kept.append(index)
    return [facts[index] for index in sorted(kept)]


def _has(words: frozenset[str], wanted: str) -> bool:
    return any(word.startswith(wanted) for word in words)


def _words(text: str) -> frozenset[str]:
    whole = _WORD.findall(text.lower())
    return frozenset([*whole, *(part for word in whole for part in word.split("_"))])


def _stem(word: str) -> str:
    for ending in ("ions", "ion", "ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def _or(words: list[str]) -> str:
    quoted = [f"“{word}”" for word in words[:6]]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
