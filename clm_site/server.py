"""Daphne with a drain: on SIGTERM it stops listening, gives its runs back, closes sockets and leaves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from daphne.server import Server
from twisted.internet import reactor as _reactor

#: Twisted's types lack what the running reactor has.
reactor: Any = _reactor

#: Close code of a socket whose server leaves; pages reconnect and catch up.
GOING_AWAY = 4012
#: How long requests in flight may take to end.
PATIENCE = 8.0


class DrainingServer(Server):  # type: ignore[misc]
    """Serves until a signal, then drains. Plain Daphne hangs there with an open socket and a request in flight."""

    def __init__(
        self,
        *args: Any,
        started: Callable[[], Awaitable[None]],
        stopping: Callable[[], Awaitable[None]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, signal_handlers=False, ready_callable=self._ready, **kwargs)
        self._started = started
        self._stopping = stopping
        self._ports: list[Any] = []
        self._draining = False
        self.failure = ""

    # Daphne's own names ------------------------------------------------------------------------------------------

    def listen_success(self, port: Any) -> None:
        """Keep the port, so that draining can close it."""
        super().listen_success(port)
        self._ports.append(port)

    def listen_error(self, failure: Any) -> None:
        """Say why nobody can be served, and leave."""
        self.failure = failure.getErrorMessage()
        self.stop()

    def kill_all_applications(self) -> None:
        """Do nothing: the drain has waited for them, and cancelled the rest."""

    # Life -------------------------------------------------------------------------------------------------------

    def _ready(self) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: reactor.callFromThread(self._drain_once))
        self._task = asyncio.get_event_loop().create_task(self._begin())

    async def _begin(self) -> None:
        try:
            await self._started()
        except Exception as error:
            self.failure = str(error) or type(error).__name__
            await self._drain()
            raise

    def _drain_once(self) -> None:
        if self._draining:
            reactor.stop()
            return
        self._draining = True
        self._task = asyncio.get_event_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            for port in self._ports:
                port.stopListening()
            await asyncio.wait_for(self._stopping(), PATIENCE)
            for protocol in list(self.connections):
                if hasattr(protocol, "serverClose"):
                    protocol.serverClose(code=GOING_AWAY)
            applications = [
                details["application_instance"]
                for details in self.connections.values()
                if "application_instance" in details
            ]
            if applications:
                _, late = await asyncio.wait(applications, timeout=PATIENCE)
                for application in late:
                    application.cancel()
                await asyncio.sleep(0.1)
        finally:
            if reactor.running:
                reactor.stop()
