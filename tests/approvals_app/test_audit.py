"""Flip any byte of an event, a decision or the stored evidence, and the audit names the row."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import QuerySet

from approvals_app import asking
from approvals_app.audit import export, faults_of
from approvals_app.models import Comment, Decision, FactsAcknowledgement, Gate, Inquiry, Reply
from approvals_app.models.sealed import SealedModel
from approvals_app.states import Channel
from sessions_app.append_only import remove_triggers
from sessions_app.models import Session, SessionEvent
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


@pytest.mark.parametrize("number", [1e22, 1.5e300, -0.0, 1e-7, 0.1, 1.0, 12345678901234567890])
def test_a_number_is_hashed_as_each_database_gives_it_back(make_gate: Any, number: float) -> None:
    gate = make_gate(interrupts=[tool_interrupt(size=number)])
    assert _rows(gate.session) == []


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


@pytest.fixture
def said(make_resting_gate: Any, world: Any, bob: User, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session whose gate was asked about, commented and acknowledged, and the triggers off for the tamperer."""
    monkeypatch.setattr(asking, "begin", lambda key: None)
    gate: Gate = make_resting_gate()
    inquiry = Inquiry.ask(gate, "What reads the pool?", actor=bob, channel=Channel.PAGE)
    Reply.give(inquiry, text="get_metrics", model="offline", checkpoint_id="checkpoint")
    Comment.write(gate, author=bob, channel=Channel.API, text="I look at it")
    world.facts = {**world.facts, "pool size": 40}
    gate.look_again(max_age=0)
    gate.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=gate.fingerprint_now)
    for table in APPEND_ONLY:
        remove_triggers(table)
    return Session.objects.get(pk=gate.session_id)


SAID: tuple[type[SealedModel], ...] = (Inquiry, Reply, Comment, FactsAcknowledgement)
FIELDS = [(model, field.name) for model in SAID for field in model._meta.concrete_fields]


def test_what_was_said_is_as_it_was_written(said: Session) -> None:
    assert _rows(said) == []


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=[f"{model.__name__}.{name}" for model, name in FIELDS])
def test_any_change_of_what_was_said_names_the_row(said: Session, alice: User, model: Any, name: str) -> None:
    row, field = model.objects.get(), model._meta.get_field(name)
    value = row.__dict__[field.attname]
    if model is Inquiry and field.primary_key:
        # The database itself holds a reply to its question.
        _raw(f"DELETE FROM {Reply._meta.db_table}")
    if field.get_internal_type() == "DateTimeField":
        changed: Any = value + timedelta(microseconds=1)
    elif field.get_internal_type() == "JSONField":
        changed = json.dumps(value).replace("pool", "poo1", 1)
    elif isinstance(value, str):
        changed = f"{value[:-1]}{'x' if value[-1:] != 'x' else 'y'}"
    elif field.is_relation and field.related_model is User:
        changed = alice.pk
    elif field.is_relation:
        changed = _another(field.related_model, row)
    else:
        changed = value + 1
    _raw(f"UPDATE {model._meta.db_table} SET {field.column} = %s WHERE id = %s", changed, row.pk)
    named = {
        Inquiry: "inquiry",
        Reply: "reply to inquiry",
        Comment: "comment",
        FactsAcknowledgement: "acknowledgement",
    }[model]
    assert any(row.startswith(named) for row in _rows(said)), _rows(said)


def _another(model: Any, row: Any) -> int:
    """Return the key of another gate of that session, or of another question, for a row to be moved to."""
    gate = row.inquiry.gate if isinstance(row, Reply) else row.gate
    if model is Inquiry:
        return int(Inquiry.objects.create(gate=gate, asker_id=row.inquiry.asker_id, channel="page", text="x").pk)
    other = Gate(session=gate.session, run=gate.run, interrupt_id="another", kind=gate.kind, expires_at=gate.expires_at)
    other.save()
    return other.pk


@pytest.mark.parametrize("model", SAID)
def test_a_row_that_is_gone_or_was_added_is_found(said: Session, model: Any) -> None:
    row = model.objects.get()
    if model is Inquiry:
        _raw(f"DELETE FROM {Reply._meta.db_table}")
    _raw(f"DELETE FROM {model._meta.db_table}")
    assert any("row is gone" in fault.text for fault in faults_of(said))
    row.pk, row._state.adding = row.pk + 1, True
    if model is not Reply:
        row.save()
        assert any("is in no event" in fault.text for fault in faults_of(said))


def test_a_comment_of_before_there_were_seals_is_compared_with_its_words(said: Session) -> None:
    for event in said.events.all():
        event.payload.pop("seal", None)
        event.payload.pop("acknowledgement_id", None)
        _raw("UPDATE sessions_app_sessionevent SET payload = %s WHERE seq = %s", json.dumps(event.payload), event.seq)
    assert [row for row in _rows(said) if not row.startswith(("event", "session"))] == []
    for model, column in ((Comment, "text"), (Reply, "text"), (Inquiry, "text"), (FactsAcknowledgement, "digest")):
        _raw(f"UPDATE {model._meta.db_table} SET {column} = 'other'")
    named = [row.rpartition(" ")[0] for row in _rows(said) if not row.startswith(("event", "session"))]
    assert named == ["comment", "inquiry", "reply to inquiry", "acknowledgement"]


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


def test_an_export_holds_a_part_of_a_long_session_at_once(make_session: Any) -> None:
    session = make_session()
    rows: QuerySet[SessionEvent] = QuerySet(SessionEvent)
    rows.bulk_create(
        SessionEvent(session=session, position=n, kind="lesson_extracted", payload={"lesson": "x" * 2000}, hash="0")
        for n in range(10, 5_010)
    )
    # What is built once is built now.
    next(export(session))
    tracemalloc.start()
    try:
        assert sum(row["type"] == "event" for row in export(session)) > 5_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 5_000 * 2000 / 2
