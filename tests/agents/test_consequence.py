"""The sentence on the card: what a call does, whether it can be undone, nothing that an argument forges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_app.agents.config import load
from sessions_app.agents.consequence import MAX_ARGUMENT, Part, ToolWords, Variant, consequence

TOOLS = load().tools
FIX = "local_remediation:apply_fix"


def say(args: dict[str, Any], words: ToolWords | None = None) -> Any:
    tools = {"a:b": words} if words else {}
    return consequence("a:b", args, environment="dev", tools=tools)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            {"service": "checkout", "action": "restart"},
            "restart checkout in dev. Can be undone: no. Requests in flight fail, and it is down for a few seconds.",
        ),
        (
            {"service": "checkout", "action": "resize_pool", "size": 24},
            "resize the connection pool of checkout in dev to 24. Can be undone: yes, by resizing it back. "
            "Nothing is expected to break; the database gets more or fewer connections.",
        ),
        (
            {"service": "checkout", "action": "dance"},
            "apply dance to checkout in dev. Can be undone: not known.",
        ),
        ({}, "apply (no action) to (no service) in dev. Can be undone: not known."),
    ],
)
def test_a_fix_is_said_in_plain_words(args: dict[str, Any], text: str) -> None:
    assert consequence(FIX, args, environment="dev", tools=TOOLS).text == text


def test_every_shipped_tool_has_a_sentence() -> None:
    for tool in TOOLS:
        said = consequence(tool, {"service": "checkout"}, environment="dev", tools=TOOLS)
        assert said.described
        assert said.sentence


def test_bold_comes_from_the_template_only() -> None:
    said = say({"who": "**x** ${environment} <b>"}, ToolWords(sentence="greet **${who}** in ${environment}"))
    assert said.parts == (
        Part(text="greet "),
        Part(text="**x** ${environment} <b>", strong=True),
        Part(text=" in dev"),
    )


def test_a_variant_takes_the_words_that_it_lacks_from_its_tool() -> None:
    words = ToolWords(
        sentence="do it",
        reversible=False,
        breaks="Something.",
        variants=(Variant(when={"dry": True}, sentence="pretend", reversible=True),),
    )
    assert (say({"dry": True}, words).reversible, say({"dry": True}, words).breaks) == (True, "Something.")
    assert (say({}, words).sentence, say({}, words).reversible) == ("do it", False)


def test_an_undescribed_tool_is_said_in_general_words() -> None:
    said = say({"service": "checkout", "size": 5})
    assert said.text == "call a:b with service checkout, size 5 in dev. Can be undone: not known."
    assert not said.described
    assert say({}).sentence == "call a:b in dev"
    assert say({f"n{i}": i for i in range(9)}).sentence.endswith("n5 5, 3 more in dev")


def test_no_attribute_and_no_format_of_an_argument_is_reached() -> None:
    words = ToolWords(sentence="x ${a} {a} {a.__class__} %(a)s")
    assert say({"a": "y"}, words).sentence == "x y {a} {a.__class__} %(a)s"


@pytest.mark.parametrize("text", ["${a.b}", "${a[0]}", "${}", "$a", "$${a}", "a**b"])
def test_a_template_that_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"has a"):
        ToolWords(sentence=text)


def test_a_long_argument_is_cut_and_hidden_letters_go() -> None:
    assert say({"a": "x" * 500}, ToolWords(sentence="${a}")).sentence == "x" * (MAX_ARGUMENT - 1) + "…"
    assert say({"a": "one\n two\u202e\u200b\x00three"}, ToolWords(sentence="${a}")).sentence == "one two three"


@given(st.dictionaries(st.text(max_size=20), st.recursive(st.none() | st.text() | st.integers(), st.lists), max_size=9))
def test_whatever_the_arguments_the_sentence_is_one_short_line(args: dict[str, Any]) -> None:
    for tools in ({}, {"a:b": ToolWords(sentence="do ${a} with **${b}**")}):
        sentence = consequence("a:b", args, environment="dev", tools=tools).sentence
        assert sentence.isprintable()
        assert len(sentence) <= 20 * MAX_ARGUMENT
