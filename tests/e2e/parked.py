"""Gates of every kind, parked in a served desk through the product's own verbs: `python -m tests.e2e.parked`."""

from __future__ import annotations

import itertools
from typing import Any

#: What the agents want, the risk it was judged to have, and where.
CALLS = (
    ("payments", "roll_back", "high", "production"),
    ("search", "restart", "medium", "dev"),
    ("ledger", "clean_up", "high", "staging"),
    ("mail", "restart", "low", "dev"),
    ("cart", "restart", "medium", "dev"),
    ("login", "restart", "high", "dev"),
    ("media", "restart", "low", "dev"),
)
_numbers = itertools.count(1)
#: A graph that only this process knows: what is decided is decided, and nothing in the server goes on from it.
NOWHERE = "nowhere"


def _nowhere() -> Any:
    raise NotImplementedError


def register_nowhere() -> None:
    """Let this process submit sessions of the graph that it alone knows."""
    from sessions_app.agents import registry

    registry.register(NOWHERE, _nowhere)


def park(query: str, environment: str, value: dict[str, Any], risk: str = "") -> Any:
    """Pause a new session at one gate; the server's own engine never sees it run."""
    from django.contrib.auth.models import User
    from django.db import transaction

    from approvals_app.models import Gate
    from sessions_app.agents.context import Judgement
    from sessions_app.agents.tools import public_name
    from sessions_app.models import Session, ToolCall

    with transaction.atomic():
        alice = User.objects.get(username="alice")
        session = Session.submit(query=query, environment=environment, requester=alice, graph=NOWHERE)
        run = session.runs.get()
        assert run.claim("elsewhere:0:parked")
    if risk:
        ToolCall.enter(
            session_id=session.pk,
            run_id=run.pk,
            attempt=run.attempt,
            agent="resolution",
            tool_call_id=value["tool_call_id"],
            tool=public_name(value["name"]),
            args=value["args"],
            reasoning="It has been unwell for six minutes.",
            idempotent=False,
            judge=lambda: Judgement(level=risk, reason="gated_environment", rule="apply_fix", rule_version="1"),
        )
    assert run.pause([{"id": f"parked-{session.pk}", "value": value, "response_schema": None}], checkpoint_id="none")
    return Gate.objects.get(session=session)


def park_call(service: str, action: str, risk: str, environment: str) -> Any:
    """Park a call of the demo's repair tool."""
    value = {
        "type": "tool_approval",
        "tool_call_id": f"parked-{service}-{next(_numbers)}",
        "name": "local_remediation__apply_fix",
        "args": {"service": service, "action": action},
        "description": "",
    }
    return park(f"{service} is unwell", environment, value, risk)


def park_question(text: str) -> Any:
    """Park a question."""
    value = {"type": "question", "reason": "low_confidence", "agent": "deep_investigator", "question": text}
    return park("mail is late", "production", value)


def park_nine() -> None:
    """Park seven calls and two questions."""
    register_nowhere()
    for call in CALLS:
        park_call(*call)
    park_question("Is it the relay or the certificate?")
    park_question("Which of the two caches may be emptied?")


def park_secret() -> None:
    """Park a call whose arguments hold secrets, by key and by shape."""
    register_nowhere()
    value = {
        "type": "tool_approval",
        "tool_call_id": "parked-secret",
        "name": "vault__rotate",
        "args": {"password": "hunter2-hunter2", "note": "Bearer sk-live-4242424242424242424242"},
        "description": "",
    }
    park("a key has leaked", "production", value, "high")


if __name__ == "__main__":
    import sys

    import django

    django.setup()
    park_secret() if "--secret" in sys.argv else park_nine()
