"""The probes: is the process alive, and can it do its work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from approvals_app.models import Comparison, Gate
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
    """Say whether the database, the channel layer, the engine and the sweep do their work.

    Where workers sweep, a sweep that does not come round is told and leaves the server ready: people can read and
    decide, and what they decide is kept for the workers.
    """
    names = list(CHECKS)
    found = await asyncio.gather(*(_result(CHECKS[name]) for name in names))
    checks = dict(zip(names, found, strict=True))
    said = {"checks": checks, "comparison": await _comparison()}
    if bad := [name for name in names if checks[name] != "ok" and name not in _told_only()]:
        text = "; ".join(f"{name}: {checks[name]}" for name in bad)
        return error_response("service_unavailable", text, said)
    return JsonResponse({"status": "ok", **said})


def _told_only() -> set[str]:
    return {"sweep"} if engine.scaled() else set()


async def _comparison() -> dict[str, Any] | None:
    """Return what the strip says, in words and in numbers; None where nothing was compared or can be read."""
    try:
        async with asyncio.timeout(PATIENCE):
            found: dict[str, Any] | None = await database_sync_to_async(_ask_comparison, thread_sensitive=False)()
    except (DatabaseError, TimeoutError):
        return None
    return found


def _ask_comparison() -> dict[str, Any] | None:
    latest = Comparison.latest()
    if latest is None:
        return None
    return {
        "words": str(latest),
        "awaiting": latest.awaiting,
        "gates": latest.gates,
        "disagreements": latest.disagreements,
        "repair_cards": latest.cards,
        "checked_at": latest.checked_at.isoformat(),
        "age_seconds": round(latest.age.total_seconds(), 1),
    }


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
    """Look whether the sweep comes round, and does what it is there for."""
    await database_sync_to_async(_ask_sweep, thread_sensitive=False)()


def _ask_sweep() -> None:
    latest = Comparison.latest()
    if latest is None:
        raise NotWell("It has not compared anything yet.")
    if latest.late:
        raise NotWell(f"It is late: it last compared {latest.age_words} ago.")
    # A repair card does not count: only a person can end it, and needs the desk for that.
    if latest.lasting:
        raise NotWell(f"It does not put right what disagrees: {latest.words}.")
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
