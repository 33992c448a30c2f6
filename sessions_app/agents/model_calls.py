"""One model request of an agent: bounded in time, tried again when that can help, and clear when it fails.

The retries of CLM live here and nowhere else: around the model request, inside the agent's model node. What
ran before it (tools among it) is never run again, because nothing around the agent or the graph retries.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain.agents.structured_output import StructuredOutputError
from langchain_core.exceptions import (
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
)

from sessions_app.exceptions import ClmError

logger = logging.getLogger("clm.models")

Answer = TypeVar("Answer")

#: Seconds before the second try; each further wait is twice as long, up to the longest.
FIRST_WAIT = 0.5
LONGEST_WAIT = 8.0
#: How long a server may ask to be left alone (Retry-After) before CLM gives up instead.
LONGEST_ASKED_WAIT = 60.0

#: What does not change when the same request is sent again.
_FINAL = {400, 401, 403, 404, 405, 413, 422}


class ModelCallError(ClmError):
    """The chat model did not answer."""

    code = "service_unavailable"


class ModelCalls(AgentMiddleware[Any, Any, Any]):
    """Bound, repeat and explain the model requests of one agent."""

    def __init__(
        self,
        *,
        model: str,
        address: str = "",
        key_variable: str = "",
        timeout_seconds: float,
        max_retries: int,
    ) -> None:
        """Take what the texts of errors name, and the limits."""
        super().__init__()
        self.model = model
        self.address = address
        self.key_variable = key_variable
        self.timeout_seconds = timeout_seconds
        self.max_retries = max_retries

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Send the request of a turn, bounded and repeated."""
        return await self.send(lambda: handler(request))

    async def send(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send a request, again where that can help; no try takes longer than the limit.

        The client's own limit is between two bytes, so a server that trickles would never meet it.
        """
        attempt = 1
        while True:
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    return await request()
            except Exception as error:  # noqa: BLE001  all but failed requests is raised again
                wait = self._wait_or_raise(error, attempt)
            await asyncio.sleep(wait)
            attempt += 1

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Send the request, again where that can help; here only the client's own limit holds."""
        attempt = 1
        while True:
            try:
                return handler(request)
            except Exception as error:  # noqa: BLE001  all but failed requests is raised again
                wait = self._wait_or_raise(error, attempt)
            time.sleep(wait)
            attempt += 1

    def _wait_or_raise(self, error: Exception, attempt: int) -> float:
        """Return how long to wait before the next try, or raise what a person can read.

        What is no failure of a model request (an interrupt, a fault of ours) goes on as it is.
        """
        if not _is_failed_request(error):
            raise error
        asked = _asked_wait(error)
        if attempt > self.max_retries or not _may_help(error) or asked > LONGEST_ASKED_WAIT:
            raise ModelCallError(self._explain(error, attempt)) from error
        logger.warning("%s: request %d failed (%s), trying again", self.model, attempt, type(error).__name__)
        wait = min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT)
        # Sessions that failed together must not come back together; chance is all that this needs.
        return max(asked, wait * random.uniform(0.75, 1.25))  # noqa: S311

    def _explain(self, error: Exception, attempts: int) -> str:
        status = _status(error)
        name = f"The model {self.model}{f' at {self.address}' if self.address else ''}"
        tries = f" ({attempts} tries)" if attempts > 1 else ""
        if _is_timeout(error):
            return (
                f"{name} did not answer within {self.timeout_seconds:g} seconds{tries}. "
                "Check that it is up and not overloaded, or raise timeout_seconds."
            )
        if status in {401, 403}:
            # Its answer may repeat a part of the key, so it is not quoted.
            key = f"the key in {self.key_variable}" if self.key_variable else "CLM without a key"
            return f"{name} refused {key} (HTTP {status}). Put a valid key where api_key_env points."
        if status == 404:
            pull = " For Ollama, pull the model first." if self.model.startswith("ollama:") else ""
            return f"{name} is not there (HTTP 404). Check the model's name and base_url.{pull}"
        if status == 429:
            return f"{name} is over its rate limit{tries}. Lower concurrent_runs, or ask for a higher limit."
        if status is not None:
            return f"{name} answered with HTTP {status}{tries}: {_short(error)}"
        if isinstance(error, StructuredOutputError):
            return f"{name} gave no report that fits its form{tries}: {_short(error)}"
        return f"{name} cannot be reached{tries}: {_short(error)} Check that it is up, and base_url."


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that the provider's own exception carries, whatever its class."""
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status > 0 else None


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError | httpx.TimeoutException | ModelTimeoutError)


def _is_failed_request(error: Exception) -> bool:
    kinds = (ModelError, httpx.HTTPError, ConnectionError, TimeoutError, StructuredOutputError)
    return isinstance(error, kinds) or _status(error) is not None


def _may_help(error: Exception) -> bool:
    """Whether the same request could succeed later."""
    status = _status(error)
    if status is not None:
        return status not in _FINAL
    if isinstance(error, ModelError):
        return error.is_retryable or isinstance(error, ModelConnectionError | ModelTimeoutError)
    return True


def _asked_wait(error: Exception) -> float:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return 0.0


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
