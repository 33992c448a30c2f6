"""The ASGI application: pages and API over Django, sockets over Channels, and the engine's life."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clm_site.settings")

from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connection

django_application = get_asgi_application()

# These import models, so the applications must be loaded first.
from clm_site.installation.occupancy import occupied  # noqa: E402
from clm_site.routing import sockets  # noqa: E402
from sessions_app import engine as switch  # noqa: E402
from sessions_app import garbage, streams  # noqa: E402
from sessions_app.following import Follower  # noqa: E402
from sessions_app.inprocess import Engine  # noqa: E402


class WithEngine:
    """Run the background engine beside the application, in whichever server it stands; a follower where workers drive.

    `serve` starts it when Daphne is ready and servers with a lifespan start it there; where neither happens
    (`runserver`) the first request does.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self._engine: Engine | Follower | None = None
        self._starting: asyncio.Lock | None = None
        self._occupied = ExitStack()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if self._engine is None:
            await self.start()
        await self._application(scope, receive, send)

    async def start(self) -> None:
        """Start the engine on the running loop, once."""
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if self._engine is None:
                if connection.vendor == "sqlite":
                    self._occupied.enter_context(occupied(settings.CLM_DATA_DIR))
                engine = Follower() if switch.scaled() else Engine()
                await engine.start()
                self._engine = engine
                garbage.leave_what_stays()

    async def stop(self) -> None:
        """End the streams, stop the engine and give its runs back."""
        streams.end_all()
        if self._engine is not None:
            await self._engine.stop()
            self._engine = None
        self._occupied.close()

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif event["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


application = WithEngine(ProtocolTypeRouter({"http": django_application, "websocket": sockets}))
