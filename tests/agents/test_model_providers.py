"""The same agent through each provider, over real HTTP: its tools, its report, its limits and its errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool

from sessions_app.agents import model_calls
from sessions_app.agents.config import load
from sessions_app.agents.context import Report
from sessions_app.agents.middleware import Judge
from sessions_app.agents.model_calls import ModelCallError
from sessions_app.agents.models import chat_model, model_middleware
from tests.fakes_llm import Answer, Call, FakeModelServer, takes_at_most

KEY = "sk-test-0123456789"
REPORT: dict[str, Any] = {
    "summary": "The pool of checkout is exhausted.",
    "confidence": 0.9,
    "rationale": "20 of 20 busy.",
    "signal": "continue",
    "evidence": ["pool 20/20"],
}
LOOK = Answer(calls=(Call("local_observability__get_logs", {"service": "checkout", "lines": 5}),))
DONE = Answer(calls=(Call("Report", REPORT),))

MakeFile = Callable[[FakeModelServer], str]


def ollama(server: FakeModelServer) -> str:
    return f"""
[models]
default = "ollama:gpt-oss:20b"
base_url = "{server.url}"
api_key_env = "TEST_MODEL_KEY"
"""


def openai(server: FakeModelServer) -> str:
    return f"""
[models]
default = "openai:gpt-4.1"
base_url = "{server.openai_url}"
api_key_env = "TEST_MODEL_KEY"
"""


def azure(server: FakeModelServer) -> str:
    return f"""
[models]
default = "azure_openai:our-deployment"
base_url = "{server.url}"
api_key_env = "TEST_MODEL_KEY"
options = {{ api_version = "2024-10-21" }}
"""


PROVIDERS = [pytest.param(make, id=make.__name__) for make in (ollama, openai, azure)]


class OnlyIds(AgentMiddleware[Any, Any]):
    """The judge without its judging: what it does to the model's answers, where there is a loop."""

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        """Give the calls ids of their own."""
        return await Judge("triage", [], unique_ids=True).awrap_model_call(request, handler)

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        """Leave them: CLM drives none of its agents without a loop."""
        return handler(request)


class Desk:
    """An agent with one tool that counts, driven against a server."""

    def __init__(self, tmp_path: Path, make: MakeFile, server: FakeModelServer, more: str) -> None:
        path = tmp_path / "clm.toml"
        path.write_text(make(server) + more)
        config = load(path)
        self.ran: list[tuple[str, int]] = []
        self.agent: Any = create_agent(
            chat_model("triage", config),
            [self.tool()],
            system_prompt="Find out what is wrong.",
            middleware=[OnlyIds(), *model_middleware("triage", config)],
            response_format=ToolStrategy(Report),
        )

    def tool(self) -> BaseTool:
        @tool("local_observability__get_logs")
        def get_logs(service: str, lines: int = 20) -> str:
            """Read the last lines of a service's log."""
            self.ran.append((service, lines))
            return "timeout acquiring connection"

        return get_logs

    async def run(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self.agent.ainvoke({"messages": [("user", "checkout is slow")]})
        return answer


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Desk]:
    monkeypatch.setenv("TEST_MODEL_KEY", KEY)
    monkeypatch.setattr(model_calls, "FIRST_WAIT", 0.01)

    def make(provider: MakeFile, server: FakeModelServer, more: str = "") -> Desk:
        return Desk(tmp_path, provider, server, more)

    return make


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_agent_uses_its_tool_and_reports(provider: MakeFile, desk: Callable[..., Desk]) -> None:
    with FakeModelServer(LOOK, DONE, key=KEY) as server:
        it = desk(provider, server)
        answer = await it.run()
    assert answer["structured_response"] == Report(**REPORT)
    assert it.ran == [("checkout", 5)]
    first, second = server.chats
    assert first.tools == ["local_observability__get_logs", "Report"]
    parameters = first.body["tools"][0]["function"]["parameters"]
    assert parameters["properties"]["service"] == {"type": "string"}
    assert parameters["required"] == ["service"]
    result = second.body["messages"][-1]
    assert (result["role"], result["content"]) == ("tool", "timeout acquiring connection")
    usage = [message.usage_metadata for message in answer["messages"] if isinstance(message, AIMessage)]
    assert [(one["input_tokens"], one["output_tokens"]) for one in usage if one] == [(120, 30)] * 2


async def test_ollama_gets_the_call_back_with_its_arguments_as_an_object(desk: Callable[..., Desk]) -> None:
    with FakeModelServer(LOOK, DONE, key=KEY) as server:
        await desk(ollama, server).run()
    assert server.chats[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.chats[0].body["model"] == "gpt-oss:20b"
    assert server.chats[0].body["stream"] is True
    function = server.chats[1].body["messages"][-2]["tool_calls"][0]["function"]
    assert function == {
        "name": "local_observability__get_logs",
        "arguments": {"service": "checkout", "lines": 5},
    }


@pytest.mark.parametrize("provider", [openai, azure])
async def test_the_openai_kind_gets_the_call_back_under_an_id_of_its_own(
    provider: MakeFile, desk: Callable[..., Desk]
) -> None:
    with FakeModelServer(LOOK, LOOK, DONE, key=KEY) as server:
        it = desk(provider, server)
        await it.run()
    messages = server.chats[2].body["messages"]
    asked = [call for message in messages for call in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    ids = [call["id"] for call in asked]
    assert ids == answered
    assert len(set(ids)) == 2
    assert all(one.startswith("call_0-") for one in ids)
    assert json.loads(asked[0]["function"]["arguments"]) == {"service": "checkout", "lines": 5}
    assert len(it.ran) == 2


async def test_azure_is_asked_at_its_deployment_with_its_version(desk: Callable[..., Desk]) -> None:
    with FakeModelServer(DONE, key=KEY) as server:
        await desk(azure, server).run()
    (request,) = server.requests
    assert request.path == "/openai/deployments/our-deployment/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == KEY


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_streamed_answer_gives_the_same(provider: MakeFile, desk: Callable[..., Desk]) -> None:
    with FakeModelServer(LOOK, DONE, key=KEY) as server:
        it = desk(provider, server)
        chunks = [
            chunk
            async for chunk in it.agent.astream({"messages": [("user", "slow")]}, stream_mode=["messages", "values"])
        ]
    assert all(request.body.get("stream") for request in server.chats)
    assert chunks[-1][1]["structured_response"] == Report(**REPORT)
    assert it.ran == [("checkout", 5)]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_failed_request_is_sent_again_and_the_tool_runs_once(
    provider: MakeFile, desk: Callable[..., Desk]
) -> None:
    broken = Answer(status=500, error="out of memory")
    with FakeModelServer(broken, LOOK, broken, Answer(status=503), DONE, key=KEY) as server:
        it = desk(provider, server)
        answer = await it.run()
    assert answer["structured_response"].confidence == 0.9
    assert it.ran == [("checkout", 5)]
    assert len(server.chats) == 5


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_server_that_stays_broken_is_given_up_after_the_retries(
    provider: MakeFile, desk: Callable[..., Desk]
) -> None:
    with FakeModelServer(LOOK, *[Answer(status=500, error="out of memory")] * 9, key=KEY) as server:
        it = desk(provider, server, "max_retries = 3\n")
        with pytest.raises(ModelCallError, match=r"answered with HTTP 500 \(4 tries\)"):
            await it.run()
    assert len(server.chats) == 5
    assert it.ran == [("checkout", 5)]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_server_that_sleeps_is_given_up_in_time(provider: MakeFile, desk: Callable[..., Desk]) -> None:
    with FakeModelServer(Answer(sleep=30), Answer(sleep=30), key=KEY) as server:
        it = desk(provider, server, "timeout_seconds = 0.4\nmax_retries = 1\n")
        with (
            takes_at_most(5),
            pytest.raises(ModelCallError, match=r"did not answer within 0.4 seconds \(2 tries\)"),
        ):
            await it.run()
    assert len(server.chats) == 2


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_server_that_trickles_is_given_up_in_time(provider: MakeFile, desk: Callable[..., Desk]) -> None:
    slow = Answer(text="one two three four five six seven eight nine ten " * 20, trickle=0.2)
    with FakeModelServer(slow, key=KEY) as server:
        it = desk(provider, server, "timeout_seconds = 0.7\nmax_retries = 0\n")
        with (
            takes_at_most(5),
            pytest.raises(ModelCallError, match=r"did not answer within 0.7 seconds\. Check"),
        ):
            async for _ in it.agent.astream({"messages": [("user", "slow")]}, stream_mode="messages"):
                pass


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_wrong_key_is_said_at_once_and_never_shown(
    provider: MakeFile, desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MODEL_KEY", "sk-wrong-key")
    with FakeModelServer(key=KEY) as server:
        it = desk(provider, server)
        with pytest.raises(ModelCallError, match=r"refused the key in TEST_MODEL_KEY \(HTTP 401\)") as caught:
            await it.run()
    assert "sk-" not in str(caught.value)
    assert len(server.chats) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_unknown_model_is_said_at_once(provider: MakeFile, desk: Callable[..., Desk]) -> None:
    with FakeModelServer(Answer(status=404, error="model not found"), key=KEY) as server:
        it = desk(provider, server)
        with pytest.raises(ModelCallError, match=r"is not there \(HTTP 404\)"):
            await it.run()
    assert len(server.chats) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_server_that_is_not_there_is_named(provider: MakeFile, desk: Callable[..., Desk]) -> None:
    with FakeModelServer(key=KEY) as server:
        it = desk(provider, server, "max_retries = 1\n")
    with (
        takes_at_most(5),
        pytest.raises(ModelCallError, match=r"at http://127\.0\.0\.1:\d+.*cannot be reached") as caught,
    ):
        await it.run()
    assert "(2 tries)" in str(caught.value)


async def test_a_rate_limit_is_waited_for_as_long_as_the_server_asks(desk: Callable[..., Desk]) -> None:
    limited = Answer(status=429, error="slow down", headers={"Retry-After": "0.3"})
    with FakeModelServer(limited, DONE, key=KEY) as server:
        it = desk(openai, server)
        assert (await it.run())["structured_response"].signal == "continue"
        refused = Answer(status=429, error="come back tomorrow", headers={"Retry-After": "86400"})
        server.script[:] = [refused]
        with takes_at_most(5), pytest.raises(ModelCallError, match="rate limit"):
            await it.run()


async def test_a_report_that_does_not_fit_is_asked_for_again(desk: Callable[..., Desk]) -> None:
    wrong = Answer(calls=(Call("Report", REPORT | {"confidence": 7}),))
    with FakeModelServer(LOOK, wrong, DONE, key=KEY) as server:
        it = desk(openai, server)
        answer = await it.run()
    assert answer["structured_response"].confidence == 0.9
    assert it.ran == [("checkout", 5)]
    messages = server.chats[2].body["messages"]
    # create_agent answers the failed report itself; its answer must carry the id that the call was given.
    assert messages[-1]["tool_call_id"] == messages[-2]["tool_calls"][0]["id"] != "call_0"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_same_holds_for_an_agent_that_is_driven_without_a_loop(
    provider: MakeFile, desk: Callable[..., Desk]
) -> None:
    with FakeModelServer(Answer(status=500), LOOK, Answer(status=502), DONE, key=KEY) as server:
        it = desk(provider, server)
        answer = it.agent.invoke({"messages": [("user", "checkout is slow")]})
    assert answer["structured_response"].confidence == 0.9
    assert it.ran == [("checkout", 5)]


async def test_what_is_no_failure_of_the_request_goes_on_as_it_is() -> None:
    calls = model_calls.ModelCalls(model="openai:x", timeout_seconds=1, max_retries=2)
    asked: list[int] = []

    async def handler(_: Any) -> Any:
        asked.append(1)
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        await calls.awrap_model_call(None, handler)  # type: ignore[arg-type]
    assert asked == [1]
