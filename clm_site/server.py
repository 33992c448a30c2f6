"""Daphne with a drain: on SIGTERM it stops listening, gives its runs back, closes sockets and leaves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

from autobahn.websocket.protocol import PreparedMessage
from daphne.http_protocol import WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import reactor as _reactor

#: Twisted's types lack what the running reactor has.
reactor: Any = _reactor

#: Close code of a socket whose server leaves; pages reconnect and catch up.
GOING_AWAY = 4012
#: Seconds that a socket's handshake may take.
HANDSHAKE = 30
#: How long requests in flight may take to end.
PATIENCE = 8.0
#: What waits for a slow reader.
_HELD_BACK = frozenset({"websocket.send", "http.response.body"})


@lru_cache(maxsize=32)
def _framed(text: str) -> bytes:
    """Return the bytes of a text frame; a thousand sockets that get the same share them."""
    return bytes(PreparedMessage(text.encode(), isBinary=False, applyMask=False, doNotCompress=True).payloadHybi)


class HeldBack:
    """What is written to a client that reads too slowly: it waits in the application. Twisted says when, past 64 kB.

    Plain Daphne keeps whatever a client leaves unread, without a bound.
    """

    #: Set while the client reads as fast as it is written to.
    flowing: asyncio.Event

    def pauseProducing(self) -> None:
        """Hold what is sent from now on back in the application."""
        self.flowing.clear()

    def resumeProducing(self) -> None:
        """Let it go on."""
        self.flowing.set()

    def stopProducing(self) -> None:
        """Let it find out that the client is gone."""
        self.flowing.set()

    def connectionLost(self, reason: Any) -> None:
        """Let go of whoever waits for the client."""
        self.flowing.set()
        super().connectionLost(reason)  # type: ignore[misc]


class Request(HeldBack, WebRequest):  # type: ignore[misc]
    """Daphne's request, which holds back an answer that comes in parts: an event stream, a long file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        super().__init__(*args, **kwargs)

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Be told by the transport when it holds too much, until the last part."""
        going_on = message["type"] == "http.response.body" and message.get("more_body", False)
        if going_on and self.producer is None and self.channel is not None:
            self.registerProducer(self, True)
        elif not going_on and self.producer is not None and self.channel is not None:
            self.unregisterProducer()
        super().handle_reply(message)


class Socket(HeldBack, WebSocketProtocol):  # type: ignore[misc]
    """Daphne's socket, which frames a text once for everybody."""

    #: Emptied when the server begins: Autobahn copies these from the factory to every socket, and prints them.
    CONFIG_ATTRS = WebSocketProtocol.CONFIG_ATTRS

    @classmethod
    def configure(cls, factory: Any) -> None:
        """Take the factory's options once, for all sockets."""
        for name in cls.CONFIG_ATTRS:
            value = getattr(factory, name)
            # A function on a class would become a method; a socket calls it as it is.
            setattr(cls, name, staticmethod(value) if callable(value) else value)
        cls.CONFIG_ATTRS = []
        factory.protocol = cls

    def connectionMade(self) -> None:
        """Be told by the transport when it holds too much; until the upgrade the HTTP channel was."""
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        super().connectionMade()

    def serverSend(self, content: Any, binary: bool = False) -> None:
        """Write a text's shared bytes; anything else goes Daphne's way."""
        if binary or self.state != self.STATE_OPEN:
            super().serverSend(content, binary)
        else:
            self.transport.write(_framed(content))


def _with_requests(build: Callable[[Any], Any], address: Any) -> Any:
    """Return the protocol of a new connection, which makes requests of ours."""
    protocol = build(address)
    protocol.requestFactory = Request
    return protocol


class DrainingServer(Server):  # type: ignore[misc]
    """Serves until a signal, then drains. Plain Daphne hangs there with an open socket and a request in flight."""

    def __init__(
        self,
        *args: Any,
        started: Callable[[], Awaitable[None]],
        stopping: Callable[[], Awaitable[None]],
        **kwargs: Any,
    ) -> None:
        super().__init__(
            *args,
            signal_handlers=False,
            ready_callable=self._ready,
            # After a restart everybody comes at once, and whoever is sent away comes again: let them wait.
            websocket_handshake_timeout=HANDSHAKE,
            websocket_connect_timeout=HANDSHAKE,
            **kwargs,
        )
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

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Send what the application says, when the client has read what was said before."""
        if message["type"] in _HELD_BACK and not protocol.flowing.is_set():
            await protocol.flowing.wait()
        await super().handle_reply(protocol, message)

    def kill_all_applications(self) -> None:
        """Do nothing: the drain has waited for them, and cancelled the rest."""

    # Life -------------------------------------------------------------------------------------------------------

    def _ready(self) -> None:
        self.http_factory.buildProtocol = partial(_with_requests, self.http_factory.buildProtocol)
        Socket.configure(self.ws_factory)
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
