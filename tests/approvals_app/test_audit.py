"""Flip any byte of an event, a decision or the stored evidence, and the audit names the row."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from approvals_app.audit import faults_of
from approvals_app.models import Decision, Gate
from sessions_app.append_only import remove_triggers
from sessions_app.models import Session
from tests.conftest import APPEND_ONLY, tool_interrupt

pytestmark = pytest.mark.django_db


@pytest.fixture
def session(make_gate: Any, bob: User) -> Session:
    """A session with two gates, one approved and one rejected, and the triggers off for the tamperer."""
    first = make_gate(interrupts=[tool_interrupt(), tool_interrupt()])
    for gate, decision in zip(first.session.gates.order_by("pk"), ("approve", "reject"), strict=True):
        gate.decide(decision, actor=bob, channel="page", digest=gate.digest, message="because")
    for table in APPEND_ONLY:
        remove_triggers(table)
    return Session.objects.get(pk=first.session_id)


def _raw(sql: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def _rows(session: Session) -> list[str]:
    return [fault.row for fault in faults_of(Session.objects.get(pk=session.pk))]


def test_history_as_it_was_written_has_no_fault(session: Session) -> None:
    assert _rows(session) == []
    out = io.StringIO()
    call_command("verify_audit", stdout=out)
    assert "1 session checked" in out.getvalue()


@pytest.mark.parametrize("column", ["kind", "payload", "hash", "ts", "position"])
def test_any_change_of_an_event_names_it(session: Session, column: str) -> None:
    event = session.events.order_by("seq")[2]
    value = {
        "kind": "gate_fired2",
        "payload": json.dumps({**event.payload, "x": 1}),
        "hash": "0" * 64,
        "ts": event.ts.replace(microsecond=(event.ts.microsecond + 1) % 1_000_000),
        "position": 9000,
    }[column]
    _raw(f"UPDATE sessions_app_sessionevent SET {column} = %s WHERE seq = %s", value, event.seq)
    assert any(row.startswith("event ") for row in _rows(session))
    with pytest.raises(CommandError, match="not as they were written"):
        call_command("verify_audit", session=session.pk, stderr=io.StringIO())


@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_missing_event_is_found(session: Session, which: int) -> None:
    events = list(session.events.order_by("seq"))
    _raw("DELETE FROM sessions_app_sessionevent WHERE seq = %s", events[which].seq)
    assert _rows(session)


def test_events_that_changed_places_are_found(session: Session) -> None:
    one, two = session.events.order_by("seq")[1:3]
    _raw("UPDATE sessions_app_sessionevent SET position = 9001 WHERE seq = %s", one.seq)
    _raw("UPDATE sessions_app_sessionevent SET position = %s WHERE seq = %s", one.position, two.seq)
    _raw("UPDATE sessions_app_sessionevent SET position = %s WHERE seq = %s", two.position, one.seq)
    assert _rows(session)


@pytest.mark.parametrize("column", ["type", "channel", "message", "digest", "approver_note"])
def test_any_change_of_a_decision_names_it(session: Session, column: str) -> None:
    decision = Decision.objects.earliest("pk")
    value = "other" if column != "type" else "reject"
    _raw(f"UPDATE approvals_app_decision SET {column} = %s WHERE id = %s", value, decision.pk)
    assert _rows(session) == [f"decision {decision.pk}"]


def test_another_actor_on_a_decision_is_found(session: Session, alice: User) -> None:
    decision = Decision.objects.earliest("pk")
    _raw("UPDATE approvals_app_decision SET actor_id = %s WHERE id = %s", alice.pk, decision.pk)
    assert _rows(session) == [f"decision {decision.pk}"]


@pytest.mark.parametrize("column", ["evidence", "calls", "consequence"])
def test_any_change_of_what_was_shown_names_the_gate(session: Session, column: str) -> None:
    gate = Gate.objects.earliest("pk")
    value = getattr(gate, column)
    changed = [*value, {}] if isinstance(value, list) else {**value, "x": 1}
    _raw(f"UPDATE approvals_app_gate SET {column} = %s WHERE id = %s", json.dumps(changed), gate.pk)
    assert _rows(session) == [f"gate {gate.pk}"]


def test_an_added_decision_is_found(session: Session, alice: User) -> None:
    gate = Gate.objects.earliest("pk")
    forged = Decision.objects.create(gate=gate, type="approve", actor=alice, channel="page", digest=gate.digest)
    assert _rows(session) == [f"decision {forged.pk}"]


def test_a_status_without_its_event_is_found(session: Session) -> None:
    _raw("UPDATE sessions_app_session SET status = 'new' WHERE id = %s", session.pk)
    assert _rows(session) == ["session"]


@pytest.fixture
def verify(tmp_path: Path) -> Any:
    """The script of docs/audit.md, as an auditor would run it."""
    text = (Path(__file__).resolve().parents[2] / "docs/audit.md").read_text()
    script = re.search(r"```python\n(.*?)```", text, re.S)
    assert script
    path = tmp_path / "verify.py"
    path.write_text(script[1])
    lines = script[1].strip().splitlines()
    assert len(lines) < 35

    def run(exported: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(path)], input=exported, capture_output=True, text=True, check=False)

    return run


def test_an_export_verifies_offline_with_the_documented_script(session: Session, verify: Any) -> None:
    out = io.StringIO()
    call_command("export_audit", stdout=out)
    assert verify(out.getvalue()).returncode == 0


def test_the_documented_script_names_a_changed_row(session: Session, verify: Any) -> None:
    out = io.StringIO()
    call_command("export_audit", stdout=out)
    for needle, named in (("because", "decision"), ("checkout", "gate"), ("gate_fired", "event")):
        changed = out.getvalue().replace(needle, needle[:-1] + "X", 1)
        refused = verify(changed)
        assert refused.returncode == 1, needle
        assert named in refused.stderr or "session" in refused.stderr
