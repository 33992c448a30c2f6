"""Which chat model each agent speaks with: any LangChain provider by name, or the offline investigator.

Nothing of a provider is imported before its model is asked for: a server that runs offline pays for none.
"""

from __future__ import annotations

import functools
import os
import typing
from typing import Any

from pydantic import BaseModel, ConfigDict

from sessions_app.agents.config import OFFLINE, PROVIDERS, Agent, Config, ConfigError, current
from sessions_app.agents.toml_lines import Way

if typing.TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage


class ModelSettings(BaseModel):
    """The model of one agent, with everything that it inherits put in."""

    model_config = ConfigDict(frozen=True)

    model: str
    base_url: str | None
    api_key_env: str | None
    timeout_seconds: float
    max_retries: int
    temperature: float | None
    options: dict[str, Any]

    @property
    def provider(self) -> str:
        """Return the provider's name, or "offline"."""
        return _provider(self.model)

    @property
    def offline(self) -> bool:
        """Whether no network is needed."""
        return self.model == OFFLINE


def settings_of(agent: str, config: Config | None = None) -> ModelSettings:
    """Return the model settings of an agent, its own over those of `[models]`.

    An agent with another provider inherits neither address, key nor options: they belong to the first
    provider, and a key must never be sent to somebody else.
    """
    config = config or current()
    own = config.agents.get(agent, Agent())
    shared = config.models.model_dump(exclude={"default"})
    model = own.model or config.models.default
    if _provider(model) != _provider(config.models.default):
        shared |= {"base_url": None, "api_key_env": None, "options": {}}
    mine = own.model_dump(exclude={"model", "options"}, exclude_none=True)
    options = {**shared["options"], **own.options}
    return ModelSettings.model_validate({**shared, **mine, "model": model, "options": options})


def chat_model(agent: str, config: Config | None = None) -> BaseChatModel:
    """Return the agent's chat model; agents with the same settings share one, and with it its connections.

    A model holds connections of the event loop that first used it: drive agents on one loop per process.
    """
    config = config or current()
    settings, own = settings_of(agent, config), config.agents.get(agent, Agent())
    if settings.offline:
        return _offline()
    try:
        key = _key(settings)
    except _Refused as refused:
        table: Way = ("agents", agent) if own.api_key_env else ("models",)
        raise ConfigError(config.problem((*table, "api_key_env"), str(refused))) from None
    try:
        return _online(settings.model_dump_json(), key)
    except _Refused as refused:
        way: Way = ("agents", agent, "model") if own.model else ("models", "default")
        raise ConfigError(config.problem(way, str(refused))) from refused.__cause__


def model_middleware(agent: str, config: Config | None = None) -> list[AgentMiddleware[Any, Any, Any]]:
    """Return the middleware of the agent's model: put it last, so that it stands closest to the model.

    It bounds and repeats model requests; it never repeats a tool.
    """
    from sessions_app.agents.model_calls import ModelCalls

    settings = settings_of(agent, config)
    if settings.offline:
        return []
    calls = ModelCalls(
        model=settings.model,
        address=settings.base_url or "",
        key_variable=settings.api_key_env or "",
        timeout_seconds=settings.timeout_seconds,
        max_retries=settings.max_retries,
    )
    return [calls]


async def ask(agent: str, messages: list[BaseMessage]) -> AIMessage:
    """Send one request to the agent's chat model with no tools bound, bounded and repeated as those of its turns are.

    Raises ConfigError where the model cannot be had, ModelCallError where it does not answer.
    """
    from sessions_app.agents.model_calls import ModelCalls

    model = chat_model(agent)
    for middleware in model_middleware(agent):
        if isinstance(middleware, ModelCalls):
            return await middleware.send(lambda: model.ainvoke(messages))
    return await model.ainvoke(messages)


def describe(config: Config | None = None) -> list[dict[str, Any]]:
    """Return what each agent speaks with, for the catalogue: names only, no address and no key."""
    config = config or current()
    rows = []
    for agent in config.agents:
        settings = settings_of(agent, config)
        rows.append(
            {
                "agent": agent,
                "model": settings.model,
                "provider": settings.provider,
                "offline": settings.offline,
                "own": config.agents[agent].model is not None,
            }
        )
    return rows


def is_offline(config: Config | None = None) -> bool:
    """Whether every agent is the offline investigator, which the page's footer says."""
    config = config or current()
    return all(settings_of(agent, config).offline for agent in config.agents)


class _Refused(Exception):
    """A model that cannot be had; becomes a ConfigError with the file and line."""


def _provider(model: str) -> str:
    return model.partition(":")[0]


def _key(settings: ModelSettings) -> str | None:
    """Return the key to send, or None for the one that the provider's package finds itself."""
    if settings.api_key_env is not None:
        if key := os.environ.get(settings.api_key_env, "").strip():
            return key
        raise _Refused(
            f"the environment variable {settings.api_key_env} is empty: put the key into it and start again."
        )
    # A server of one's own wants no key, and must not be sent the one that OPENAI_API_KEY holds for OpenAI.
    return "none" if settings.provider in {"openai", "anthropic"} and settings.base_url else None


@functools.lru_cache(maxsize=1)
def _offline() -> BaseChatModel:
    from sessions_app.agents.offline import OfflineInvestigator

    return OfflineInvestigator()


@functools.lru_cache(maxsize=64)
def _online(settings_json: str, key: str | None) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    settings = ModelSettings.model_validate_json(settings_json)

    try:
        return typing.cast("BaseChatModel", init_chat_model(settings.model, **_arguments(settings, key)))
    except ImportError as error:
        extra = PROVIDERS[settings.provider]
        how = f"pip install 'clm[{extra}]'" if extra else str(error).rpartition("with ")[2].strip("`. ")
        raise _Refused(f"the provider {settings.provider} is not installed: run {how}") from error
    except Exception as error:  # noqa: BLE001  a provider's constructor raises what it likes
        complaint = ", ".join(_fields_of(error)) or type(error).__name__
        raise _Refused(
            f"{settings.provider} cannot be set up ({complaint}): check base_url, api_key_env, temperature "
            "and options, and that the provider's own variable has the key where api_key_env names none."
        ) from None


def _fields_of(error: Exception) -> list[str]:
    """Return the names that a provider complained about, never their values: one of them is the key."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return []
    return sorted({".".join(str(part) for part in item["loc"]) for item in errors() if item["loc"]})


def _arguments(settings: ModelSettings, key: str | None) -> dict[str, Any]:
    """Return what the provider's class takes: the limits have another name in nearly every one.

    Its own retries are switched off where it has some, because `ModelCalls` does them, the same for all.
    """
    provider, name = settings.provider, settings.model.partition(":")[2]
    given: dict[str, Any] = {}
    if settings.temperature is not None:
        given["temperature"] = settings.temperature
    if provider == "ollama":
        client: dict[str, Any] = {"timeout": settings.timeout_seconds}
        if key:
            client["headers"] = {"Authorization": f"Bearer {key}"}
        given |= {"client_kwargs": client, "base_url": settings.base_url}
    elif provider == "azure_openai":
        given |= {"timeout": settings.timeout_seconds, "max_retries": 0, "azure_deployment": name}
        given |= {"azure_endpoint": settings.base_url} if settings.base_url else {}
        given |= {"api_key": key} if key else {}
    else:
        if provider in {"openai", "anthropic"}:
            given |= {"timeout": settings.timeout_seconds, "max_retries": 0}
        given |= {"base_url": settings.base_url} if settings.base_url else {}
        given |= {"api_key": key} if key else {}
    options = dict(settings.options)
    if "client_kwargs" in given and isinstance(options.get("client_kwargs"), dict):
        options["client_kwargs"] = {**given["client_kwargs"], **options["client_kwargs"]}
    return {**given, **options}
