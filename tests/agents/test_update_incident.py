from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from channels.db import database_sync_to_async

from sessions_app.agents.tools import CATALOGUE
from sessions_app.models import Session


@pytest.mark.django_db(transaction=True)
async def test_what_an_agent_writes_of_the_incident_stands_in_its_session(
    make_session: Callable[..., Session],
) -> None:
    session = await database_sync_to_async(make_session)()
    update: Any = CATALOGUE["local_inc:update_incident"].tool
    runtime: Any = SimpleNamespace(context=SimpleNamespace(session_id=session.pk, environment="dev"))
    said = await update.coroutine(runtime=runtime, severity="high", tags=["checkout"], summary="The pool is full.")
    assert json.loads(said) == {"updated": ["severity", "summary", "tags"]}
    await database_sync_to_async(session.refresh_from_db)()
    assert (session.severity, session.tags, session.summary) == ("high", ["checkout"], "The pool is full.")
    assert "error" in json.loads(await update.coroutine(runtime=runtime))
