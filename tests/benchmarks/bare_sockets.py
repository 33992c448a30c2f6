"""The floor of the fan-out: a server that does nothing but write the same frame to every socket.

python -m tests.benchmarks.bare_sockets BYTES: prints its port; every line of its input sends the frame to all, and is
answered with the time at which that began.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
import time

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Socket(asyncio.Protocol):
    """One socket that is only written to."""

    everybody: set[asyncio.Transport] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"GET"):
            return
        (key,) = (line.split(b": ")[1] for line in data.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + framed(b"hello")
        )
        self.everybody.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.everybody.discard(self.transport)


def framed(payload: bytes) -> bytes:
    """Return a text frame as a server sends it."""
    length = len(payload)
    return b"\x81" + (bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2)) + payload


async def main(size: int) -> None:
    """Serve until the input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Socket, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    frame = framed(b"x" * (size - 5) + b"frame")
    while await lines.readline():
        print(time.time(), flush=True)
        for transport in Socket.everybody:
            transport.write(frame)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
