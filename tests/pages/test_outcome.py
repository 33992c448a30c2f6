"""The card says of each call when it was decided, dispatched and executed, and what happens when nobody answers."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app.models import ToolCall
from tests.laws.test_laws import interrupts_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def gate(make_session: Any) -> Gate:
    """A gate whose call is in the ledger."""
    session = make_session(status="in_progress")
    run = session.runs.get()
    assert run.pause(interrupts_of(run, ["tool"]), checkpoint_id="c")
    found: Gate = session.gates.get()
    return found


def strip(response: Any) -> list[str]:
    """Return the steps of the strip as a person reads them, times of day as HH:MM:SS."""
    steps = re.findall(r'<li class="step-[^"]*">(.*?)</li>', response.content.decode(), re.DOTALL)
    texts = [" ".join(unescape(re.sub(r"<[^>]+>", "", step)).split()) for step in steps]
    return [re.sub(r"\d\d:\d\d:\d\d", "HH:MM:SS", text) for text in texts]


def claimed(gate: Gate) -> ToolCall:
    """Let the graph come to the call."""
    resume = gate.session.runs.get(status="pending")
    assert resume.claim("elsewhere:1:0")
    row = gate.session.tool_calls.get()
    row.claim(run_id=resume.pk, attempt=resume.attempt, tool=row.tool, args=row.args)
    return row


def test_the_strip_follows_the_call(as_bob: Client, bob: User, gate: Gate) -> None:
    assert strip(as_bob.get(f"/approvals/{gate.pk}/")) == []
    gate.decide("approve", actor=bob, channel=Channel.PAGE, digest=gate.digest)
    assert strip(as_bob.get(f"/approvals/{gate.pk}/")) == [
        "Decided by bob HH:MM:SS",
        "Approved, not yet dispatched: may start until HH:MM:SS",
        "Not run yet",
    ]
    row = claimed(gate)
    assert strip(as_bob.get(f"/approvals/{gate.pk}/"))[1:] == [
        "Dispatched HH:MM:SS to resolution",
        "Running; this page follows",
    ]
    row.settle(result='{"healed": true}', result_kind="json", latency_ms=1)
    response = as_bob.get(f"/approvals/{gate.pk}/")
    assert re.fullmatch(r"Executed HH:MM:SS, took \d+ ms", strip(response)[2])
    assert '"healed": true' in unescape(response.content.decode())


def test_an_approval_that_came_to_nothing_says_so_before_any_sweep(as_bob: Client, bob: User, gate: Gate) -> None:
    gate.decide("approve", actor=bob, channel=Channel.PAGE, digest=gate.digest)
    row = gate.session.tool_calls.get()
    assert row.grant
    late = (timezone.now() - timedelta(seconds=1)).isoformat()
    ToolCall.objects.filter(pk=row.pk).update(grant={**row.grant, "expires_at": late})
    assert strip(as_bob.get(f"/approvals/{gate.pk}/")) == [
        "Decided by bob HH:MM:SS",
        "Not dispatched by HH:MM:SS",
        "Not run: its approval expired",
    ]


@pytest.mark.parametrize(
    ("on_expiry", "says"),
    [
        ("reject", "nothing is run, and the agent is told that nobody decided."),
        ("stop", "nothing is run, and the session is stopped, with every other gate of it."),
        (
            "escalate",
            "nothing is run, and the session ends as escalated, with every other gate of it: people take over.",
        ),
    ],
)
def test_the_card_says_what_happens_if_nobody_answers(as_bob: Client, gate: Gate, on_expiry: str, says: str) -> None:
    Gate.objects.filter(pk=gate.pk)._raw_update(on_expiry=on_expiry, execution_expires_after=timedelta(minutes=7))
    page = as_bob.get(f"/approvals/{gate.pk}/").content.decode()
    assert f"At {gate.expires_at:%H:%M} UTC it expires: {says}" in page
    assert "It may start within 7 min; later it does not run." in page


def test_the_timeline_tells_dispatch_and_lapse(as_bob: Client, bob: User, gate: Gate) -> None:
    gate.decide("approve", actor=bob, channel=Channel.PAGE, digest=gate.digest)
    row = claimed(gate)
    row.give_back()
    row.lapse("its approval expired at 12:31:00 UTC")
    page = as_bob.get(f"/sessions/{gate.session_id}/").content.decode()
    text = " ".join(unescape(re.sub(r"<[^>]+>", "", page)).split())
    assert "apply_fix was approved and dispatched to resolution." in text
    assert "apply_fix was approved and not run: its approval expired at 12:31:00 UTC." in text
