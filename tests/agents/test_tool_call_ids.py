"""No two tool calls of a session share an id, whatever the model's server numbers them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents.middleware import ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from sessions_app.agents.middleware import Judge
from sessions_app.agents.tool_call_ids import unique_tool_call_ids

GOOD = "call_Ao02pnFYXD6GN1yzc0uXPsvF"
FRESH = re.compile(r"call_0-[0-9a-f]{12}")


def call(id: str | None, name: str = "t") -> dict[str, Any]:
    return {"name": name, "args": {}, "id": id, "type": "tool_call"}


def ids(message: BaseMessage) -> list[Any]:
    assert isinstance(message, AIMessage)
    return [one["id"] for one in message.tool_calls]


def test_a_good_id_stays_and_so_does_the_answer() -> None:
    message = AIMessage("", tool_calls=[call(GOOD)])
    assert unique_tool_call_ids([message])[0] is message


@pytest.mark.parametrize("old", [None, "", "call_0", "x" * 15, "x" * 41, "call/../../etc/passwd-0000", "ü" * 20])
def test_an_id_that_does_not_do_is_rewritten(old: str | None) -> None:
    (new,) = ids(unique_tool_call_ids([AIMessage("", tool_calls=[call(old)])])[0])
    assert re.fullmatch(r"[A-Za-z0-9_.-]{13,40}", new)
    assert new != old


def test_an_id_that_the_conversation_used_is_rewritten() -> None:
    before = [HumanMessage("x"), AIMessage("", tool_calls=[call(GOOD)]), ToolMessage("y", tool_call_id=GOOD)]
    (new,) = ids(unique_tool_call_ids([AIMessage("", tool_calls=[call(GOOD)])], before)[0])
    assert new != GOOD


def test_the_same_id_twice_in_one_answer_becomes_two() -> None:
    raw = [{"id": "call_0", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "ab"]
    message = AIMessage(
        [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "call_0", "name": "a", "input": {}},
            {"type": "function_call", "id": "fc_1", "call_id": "call_0", "name": "b", "arguments": "{}"},
        ],
        tool_calls=[call("call_0", "a"), call("call_0", "b")],
        additional_kwargs={"tool_calls": raw, "reasoning_content": "because"},
    )
    (new,) = unique_tool_call_ids([message])
    first, second = ids(new)
    assert FRESH.fullmatch(first)
    assert FRESH.fullmatch(second)
    assert first != second
    assert [one["id"] for one in new.additional_kwargs["tool_calls"]] == [first, second]
    assert new.additional_kwargs["reasoning_content"] == "because"
    blocks = new.content
    assert isinstance(blocks, list)
    assert [blocks[1]["id"], blocks[2]["call_id"], blocks[2]["id"]] == [first, second, "fc_1"]  # type: ignore[index]
    assert raw[0]["id"] == "call_0"  # the provider's own objects are left alone


def test_a_broken_call_and_its_answer_keep_together() -> None:
    broken = {"name": "t", "args": "{", "id": "call_0", "error": "no JSON", "type": "invalid_tool_call"}
    message = AIMessage("", tool_calls=[call("call_1")], invalid_tool_calls=[broken])
    (new,) = unique_tool_call_ids([message])
    assert isinstance(new, AIMessage)
    assert FRESH.fullmatch(str(new.invalid_tool_calls[0]["id"]))


def test_an_answer_that_the_agent_gave_itself_follows_its_call() -> None:
    for number in (1, 2):  # two of them are one too many, and are both answered with that
        calls = [call("call_0")] * number
        answers = [ToolMessage("ok", tool_call_id="call_0")] * number
        asked, *answered = unique_tool_call_ids([AIMessage("", tool_calls=calls), *answers])
        assert [message.tool_call_id for message in answered if isinstance(message, ToolMessage)] == ids(asked)


@given(st.lists(st.lists(st.sampled_from([None, "", "call_0", "call_1", GOOD]), max_size=4), max_size=6))
def test_over_a_whole_conversation_every_id_is_used_once(turns: list[list[str | None]]) -> None:
    conversation: list[BaseMessage] = []
    for turn in turns:
        conversation += unique_tool_call_ids([AIMessage("", tool_calls=[call(id) for id in turn])], conversation)
    every = [id for message in conversation for id in ids(message)]
    assert len(every) == len(set(every)) == sum(map(len, turns))
    assert all(every)


async def test_the_judge_rewrites_them_where_it_is_asked_to() -> None:
    request: Any = SimpleNamespace(messages=[])

    async def answer(_: Any) -> ModelResponse[Any]:
        return ModelResponse(result=[AIMessage("", tool_calls=[call("call_0")])])

    (kept,) = (await Judge("triage", []).awrap_model_call(request, answer)).result
    assert ids(kept) == ["call_0"]
    (renamed,) = (await Judge("triage", [], unique_ids=True).awrap_model_call(request, answer)).result
    assert FRESH.fullmatch(ids(renamed)[0])
