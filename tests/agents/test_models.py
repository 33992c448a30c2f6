"""Which model each agent gets, what it inherits, and what is said when it cannot be had."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessions_app.agents.config import Config, ConfigError, load
from sessions_app.agents.model_calls import ModelCalls
from sessions_app.agents.models import (
    _online,
    chat_model,
    describe,
    is_offline,
    model_middleware,
    settings_of,
)

Read = Callable[[str], Config]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.setenv("TEST_MODEL_KEY", "sk-hunter2")
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "OPENAI_API_VERSION"):
        monkeypatch.delenv(name, raising=False)
    _online.cache_clear()

    def to_config(text: str) -> Config:
        path = tmp_path / "clm.toml"
        path.write_text(text)
        return load(path)

    return to_config


def test_a_fresh_machine_is_offline() -> None:
    config = load()
    assert is_offline(config)
    assert [row["agent"] for row in describe(config)] == ["triage", "deep_investigator", "resolution"]
    assert {row["model"] for row in describe(config)} == {"offline"}
    assert type(chat_model("triage", config)).__name__ == "OfflineInvestigator"
    assert model_middleware("triage", config) == []


def test_an_agent_has_its_own_model_and_inherits_the_rest(read: Read) -> None:
    config = read("""
[models]
default = "ollama:small"
base_url = "http://127.0.0.1:1"
temperature = 0.5
timeout_seconds = 7
options = { num_ctx = 8192, top_k = 3 }
[agents.resolution]
model = "ollama:large"
temperature = 0.0
options = { top_k = 9 }
""")
    triage, resolution = settings_of("triage", config), settings_of("resolution", config)
    assert (triage.model, triage.temperature) == ("ollama:small", 0.5)
    assert (resolution.model, resolution.temperature, resolution.timeout_seconds) == ("ollama:large", 0.0, 7)
    assert resolution.base_url == "http://127.0.0.1:1"
    assert resolution.options == {"num_ctx": 8192, "top_k": 9}
    assert settings_of("somebody_new", config).model == "ollama:small"
    assert not is_offline(config)
    assert [row["own"] for row in describe(config)] == [False, False, True]


def test_a_key_and_an_address_are_never_given_to_another_provider(read: Read) -> None:
    config = read("""
[models]
default = "openai:gpt-4.1"
base_url = "https://models.example/v1"
api_key_env = "TEST_MODEL_KEY"
options = { service_tier = "flex" }
[agents.triage]
model = "ollama:gpt-oss:20b"
[agents.resolution]
model = "offline"
""")
    triage = settings_of("triage", config)
    assert (triage.base_url, triage.api_key_env, triage.options) == (None, None, {})
    assert settings_of("resolution", config).offline
    assert not is_offline(config)


def test_a_server_of_ones_own_is_not_sent_the_key_for_openai(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai")
    model: Any = chat_model("triage", read("[models]\ndefault = 'openai:m'\nbase_url = 'http://127.0.0.1:1/v1'"))
    assert model.openai_api_key.get_secret_value() == "none"


def test_agents_with_the_same_settings_share_a_model(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read("[models]\ndefault = 'openai:m'\napi_key_env = 'TEST_MODEL_KEY'\n[agents.triage]\ntemperature = 1")
    assert chat_model("resolution", config) is chat_model("deep_investigator", config)
    assert chat_model("resolution", config) is not chat_model("triage", config)
    before = chat_model("resolution", config)
    monkeypatch.setenv("TEST_MODEL_KEY", "sk-another")
    assert chat_model("resolution", config) is not before


def test_the_limits_reach_each_provider(read: Read) -> None:
    limits = "timeout_seconds = 7\nmax_retries = 4\napi_key_env = 'TEST_MODEL_KEY'\n"
    ollama: Any = chat_model(
        "triage",
        read(f"[models]\ndefault = 'ollama:m'\n{limits}options = {{ client_kwargs = {{ verify = false }} }}"),
    )
    headers = {"Authorization": "Bearer sk-hunter2"}
    assert ollama.client_kwargs == {"timeout": 7, "headers": headers, "verify": False}
    openai: Any = chat_model("triage", read(f"[models]\ndefault = 'openai:m'\n{limits}"))
    # Its own retries are off: those of the middleware are the only ones.
    assert (openai.request_timeout, openai.max_retries) == (7, 0)
    (calls,) = model_middleware("triage", read(f"[models]\ndefault = 'openai:m'\n{limits}"))
    assert isinstance(calls, ModelCalls)
    assert (calls.timeout_seconds, calls.max_retries) == (7, 4)


def test_a_missing_package_is_said_with_the_extra_that_brings_it(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain.chat_models import base

    base._get_chat_model_creator.cache_clear()
    monkeypatch.setitem(sys.modules, "langchain_ollama", None)
    monkeypatch.setitem(sys.modules, "langchain_groq", None)
    config = read("[models]\n\ndefault = 'ollama:m'\n[agents.triage]\nmodel = 'groq:m'")
    with pytest.raises(ConfigError, match=r"line 3: models\.default: .*run pip install 'clm\[ollama\]'"):
        chat_model("resolution", config)
    with pytest.raises(ConfigError, match=r"line 5: agents\.triage\.model: .*run pip install langchain-groq"):
        chat_model("triage", config)


def test_an_empty_variable_is_named_with_its_line(read: Read) -> None:
    config = read("[models]\ndefault = 'openai:m'\napi_key_env = 'NOT_SET_ANYWHERE'")
    with pytest.raises(ConfigError, match=r"line 3: models\.api_key_env: the environment variable NOT_SET_ANYWHERE is"):
        chat_model("triage", config)
    config = read("[models]\ndefault = 'openai:m'\n[agents.triage]\napi_key_env = 'NOT_SET_ANYWHERE'")
    with pytest.raises(ConfigError, match=r"line 4: agents\.triage\.api_key_env"):
        chat_model("triage", config)


@pytest.mark.parametrize(
    "text",
    [
        "default = 'openai:m'",
        "default = 'azure_openai:m'\napi_key_env = 'TEST_MODEL_KEY'",
        "default = 'openai:m'\napi_key_env = 'TEST_MODEL_KEY'\noptions = { max_tokens = 'many' }",
    ],
)
def test_what_a_provider_does_not_take_is_said_with_its_line_and_without_the_key(read: Read, text: str) -> None:
    config = read(f"[models]\n{text}")
    with pytest.raises(ConfigError, match=r"line 2: models\.default: (openai|azure_openai) cannot be set up") as caught:
        chat_model("triage", config)
    assert "hunter2" not in str(caught.value)
