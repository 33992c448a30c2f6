"""S12: a new run on a paused thread silently drops the question."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from approvals_app.models import Gate
from sessions_app.exceptions import ConcurrentRun, TransitionRefused
from tests.scenarios.conftest import Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def gate(make_gate: Any, alice: Any) -> Gate:
    """A gate of alice's session that nobody has decided."""
    found: Gate = make_gate(requester=alice)
    return found


def _undisturbed(gate: Gate) -> bool:
    fresh = Gate.objects.select_related("session").get(pk=gate.pk)
    return fresh.pending and fresh.session.status == "awaiting_input" and not fresh.session.runs.active().exists()


def test_s12_a_rerun_of_an_awaiting_session_is_refused_and_says_why(gate: Gate) -> None:
    with pytest.raises(ConcurrentRun, match="waits for a decision"):
        gate.session.rerun()
    assert _undisturbed(gate)


def test_s12_a_second_resume_of_an_awaiting_session_is_refused(gate: Gate) -> None:
    with pytest.raises(TransitionRefused):
        gate.session.retract_duplicate()
    assert _undisturbed(gate)


def test_s12_the_rerun_command_leaves_an_awaiting_session_alone(gate: Gate, capsys: Any) -> None:
    with pytest.raises(CommandError, match="refused"):
        call_command("rerun", gate.session_id)
    assert "waits for a decision" in capsys.readouterr().out
    assert _undisturbed(gate)


def test_s12_the_admin_action_leaves_an_awaiting_session_alone(gate: Gate, admin: Any, client: Client) -> None:
    client.force_login(admin)
    answer = client.post(
        reverse("admin:sessions_app_session_changelist"),
        {"action": "rerun_sessions", "_selected_action": [gate.session_id]},
        follow=True,
    )
    assert "waits for a decision" in answer.content.decode()
    assert _undisturbed(gate)


def test_s12_the_page_refuses_a_rerun_of_an_awaiting_session(gate: Gate, alice: Any, client: Client) -> None:
    client.force_login(alice)
    answer = client.post(reverse("rerun_session", args=[gate.session_id]))
    assert answer.status_code == 409
    assert _undisturbed(gate)


def test_s12_the_api_refuses_a_retry_of_an_awaiting_session(gate: Gate, alice: Any) -> None:
    caller = Caller(alice)
    preview = caller.get(f"/sessions/{gate.session_id}/retry/preview").json()
    assert (preview["retry"], "waits for a decision" in preview["reason"]) == (False, True)
    answer = caller.post(f"/sessions/{gate.session_id}/retry", {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert _undisturbed(gate)


def test_s12_a_new_session_asks_beside_the_awaiting_one(gate: Gate, make_gate: Any) -> None:
    other: Gate = make_gate()
    assert other.session_id != gate.session_id
    assert _undisturbed(gate)
    assert _undisturbed(other)
