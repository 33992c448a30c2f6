"""docs/architecture.md: its example of a graph runs as it stands, and the modules that it names exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from sessions_app.agents.registry import GraphSpec

ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "architecture.md").read_text()


@pytest.fixture
def example() -> GraphSpec:
    """Return the spec that the example makes."""
    source = re.search(r"```python\n(.*?)```", DOC, re.DOTALL)
    assert source
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source[1], "example", "exec", dont_inherit=True), names)
    spec = names["greeting"]()
    assert isinstance(spec, GraphSpec)
    return spec


def test_the_example_asks_goes_on_with_the_answer_and_names_its_outcome(example):
    graph = example.build(InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    given = {"query": "q", "environment": "dev", "session_id": "INC-1", "state_overrides": {}}
    graph.invoke(example.initial(given), thread)
    [asked] = graph.get_state(thread).interrupts
    assert asked.value["question"] == "Whom shall I greet?"
    answer = {"type": "respond", "message": "bob"}
    outcome = example.outcome(graph.invoke(Command(resume={asked.id: answer}), thread))
    assert (outcome.status, outcome.resolution) == ("resolved", "Greeted bob.")


def test_the_modules_and_names_that_it_mentions_exist():
    for path in re.findall(r"`((?:sessions_app|approvals_app|clm_site|tests)/[\w./]+)`", DOC):
        assert (ROOT / path).exists(), path


def test_every_law_is_there():
    assert re.findall(r"^\| (L\d) \|", DOC, re.MULTILINE) == [f"L{number}" for number in range(1, 9)]
