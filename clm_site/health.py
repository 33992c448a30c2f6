"""The probes: is the process alive, and can it do its work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from approvals_app.models import Gate
from clm_site.http import error_response
from sessions_app import engine
from sessions_app.models import Run
from sessions_app.states import RunStatus

#: Seconds that one check may take.
PATIENCE = 5.0


class NotWell(Exception):
    """What a check found wrong, in a sentence for whoever operates CLM."""


@csrf_exempt
@require_GET
async def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers; whether its parts do is `readyz`."""
    return JsonResponse({"status": "ok"})


@csrf_exempt
@require_GET
async def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether the database, the channel layer, the engine and the sweep do their work."""
    names = list(CHECKS)
    found = await asyncio.gather(*(_result(CHECKS[name]) for name in names))
    checks = dict(zip(names, found, strict=True))
    if bad := [name for name in names if checks[name] != "ok"]:
        text = "; ".join(f"{name}: {checks[name]}" for name in bad)
        return error_response("service_unavailable", text, {"checks": checks})
    return JsonResponse({"status": "ok", "checks": checks})


async def _result(check: Callable[[], Awaitable[None]]) -> str:
    try:
        await asyncio.wait_for(check(), PATIENCE)
    except NotWell as found:
        return str(found)
    except TimeoutError:
        return f"No answer within {PATIENCE:g} s."
    except Exception as error:  # noqa: BLE001 - whatever a part raises, it is not well; the probe itself must answer
        return f"{type(error).__name__}."
    return "ok"


async def database() -> None:
    """Ask the database for one."""
    await database_sync_to_async(_ask_database, thread_sensitive=False)()


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


async def layer() -> None:
    """Send a ring through the channel layer and hear it."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "readyz"})
    await layer.receive(channel)


async def background_engine() -> None:
    """Look at when the engine last came round."""
    running = engine.running()
    if running is None:
        raise NotWell("No engine runs in this process.")
    silent = time.monotonic() - running.beat
    if silent > max(15.0, 15 * settings.CLM_POLL_SECONDS):
        raise NotWell(f"The engine has not come round for {silent:.0f} s.")


async def sweep() -> None:
    """Look for what the sweep should have taken up long ago: dead runs, and gates whose time is over."""
    await database_sync_to_async(_ask_sweep, thread_sensitive=False)()


def _ask_sweep() -> None:
    long_ago = timezone.now() - timedelta(seconds=max(30.0, 6 * settings.CLM_SWEEP_SECONDS))
    stalled = Run.objects.filter(status=RunStatus.RUNNING, lease_until__lt=long_ago).count()
    overdue = Gate.objects.pending().filter(expires_at__lt=long_ago).count()
    if stalled or overdue:
        raise NotWell(f"{stalled} stalled runs and {overdue} overdue gates were left lying.")


CHECKS: dict[str, Callable[[], Awaitable[None]]] = {
    "database": database,
    "layer": layer,
    "engine": background_engine,
    "sweep": sweep,
}
