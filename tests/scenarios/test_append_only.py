"""History is written once: the ORM refuses to change it, and so does the database."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from approvals_app.models import Decision, Gate
from approvals_app.states import Channel
from sessions_app.exceptions import LogIsAppendOnly
from sessions_app.models import SessionEvent

pytestmark = pytest.mark.django_db

#: Every way of the ORM to change or remove rows in bulk, or to insert them past `save()`.
BULK: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda rows, row: rows.filter(pk=row.pk).update(**{_a_field(row): "x"}),
    "delete": lambda rows, row: rows.filter(pk=row.pk).delete(),
    "bulk_create": lambda rows, row: rows.bulk_create([copy.copy(row)], ignore_conflicts=True),
    "bulk_update": lambda rows, row: rows.bulk_update([row], [_a_field(row)]),
    "update_or_create": lambda rows, row: rows.update_or_create(pk=row.pk, defaults={_a_field(row): "x"}),
}


def _a_field(row: Any) -> str:
    return "kind" if isinstance(row, SessionEvent) else "digest"


@pytest.fixture
def decided(make_gate: Any, bob: Any) -> Gate:
    """A gate with its decision."""
    gate: Gate = make_gate()
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message="no")
    return gate


def _rows(gate: Gate) -> list[Any]:
    return [gate.session.events.latest("seq"), gate.decisions.get(), gate]


@pytest.mark.parametrize("place", [0, 1, 2], ids=["event", "decision", "gate"])
@pytest.mark.parametrize("way", sorted(BULK))
def test_no_bulk_write_of_the_orm_reaches_history(decided: Gate, place: int, way: str) -> None:
    row = _rows(decided)[place]
    with pytest.raises(LogIsAppendOnly):
        BULK[way](type(row).objects, row)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["event", "decision", "gate"])
def test_a_row_of_history_is_saved_once_and_never_deleted(decided: Gate, place: int) -> None:
    row = _rows(decided)[place]
    with pytest.raises(LogIsAppendOnly):
        row.save()
    with pytest.raises(LogIsAppendOnly):
        row.delete()
    with pytest.raises(LogIsAppendOnly):
        type(row).objects.get(pk=row.pk).save(update_fields=["digest"])


def test_a_row_of_history_cannot_be_overwritten_under_its_own_key(decided: Gate) -> None:
    event = decided.session.events.latest("seq")
    with pytest.raises(IntegrityError), transaction.atomic():
        SessionEvent(seq=event.seq, session=decided.session, kind="session.created", payload={}).save()


@pytest.mark.parametrize("model", [SessionEvent, Decision])
@pytest.mark.parametrize("statement", ["UPDATE {table} SET {key} = {key}", "DELETE FROM {table}"])
def test_the_database_refuses_raw_changes_of_history(decided: Gate, model: Any, statement: str) -> None:
    table, key = model._meta.db_table, model._meta.pk.column
    before = model.objects.count()
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement.format(table=table, key=key))
    assert model.objects.count() == before > 0


@pytest.mark.parametrize("model", [SessionEvent, Decision])
def test_the_database_refuses_the_private_ways_of_the_orm_too(decided: Gate, model: Any) -> None:
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        model._base_manager.all().update(**{model._meta.pk.name: -1})
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        model._base_manager.all()._raw_delete("default")


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no TRUNCATE")
@pytest.mark.parametrize("model", [SessionEvent, Decision])
def test_postgresql_refuses_to_truncate_history(decided: Gate, model: Any) -> None:
    connection.check_constraints()  # What the fixture left for the commit would be in the way.
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"TRUNCATE {model._meta.db_table} CASCADE")
