"""Pages that are read again and again take no locks and write nothing, so a busy desk holds up no decision."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

WRITES = re.compile(
    r"\b(FOR (NO KEY )?UPDATE|FOR (KEY )?SHARE|LOCK TABLE|pg_advisory\w*)\b|^\s*(INSERT|UPDATE|DELETE)\b", re.I
)


@pytest.mark.django_db
def test_the_queue_the_gate_the_session_and_the_lists_lock_and_write_nothing(
    client: Any, make_gate: Any, bob: Any
) -> None:
    gate = make_gate()
    client.force_login(bob)
    pages = [
        "/approvals/",
        "/sessions/",
        f"/sessions/{gate.session_id}/",
        f"/approvals/{gate.pk}/",
        f"/approvals/{gate.pk}/peek/",
        "/api/v1/sessions",
        f"/api/v1/sessions/{gate.session_id}",
        "/api/v1/gates",
    ]
    for page in pages:
        client.get(page, follow=True)
        with CaptureQueriesContext(connection) as asked:
            answer = client.get(page, follow=True)
        assert answer.status_code == 200, page
        assert asked.captured_queries
        found = [query["sql"] for query in asked.captured_queries if WRITES.search(query["sql"])]
        assert found == [], page
