"""Write rows of any of our tables in bulk, past signals and querysets, with keys that were taken before.

For rows that are as the verbs would have left them: nothing follows from writing them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from django.db import connection, models

from approvals_app.models import Comment, Decision, Gate, GateCall
from sessions_app.models import AgentRun, Run, Session, SessionEvent, ToolCall

#: In the order in which they name each other.
ORDER: tuple[type[models.Model], ...] = (
    Session,
    Run,
    AgentRun,
    ToolCall,
    Gate,
    GateCall,
    Decision,
    Comment,
    SessionEvent,
)
#: Keys that are taken at once on PostgreSQL; what is left of them is left out.
_AT_ONCE = 1000


class Keys:
    """Keys for new rows, taken before they are written, because rows name each other; for one transaction.

    PostgreSQL's come from its sequences. SQLite has no other writer meanwhile, and goes on from the highest it gets.
    """

    def __init__(self) -> None:
        self._taken: dict[type[models.Model], Iterator[int]] = {}

    def next(self, model: type[models.Model]) -> int:
        """Return a key that no row has and none will get."""
        if model not in self._taken:
            self._taken[model] = _from_sequence(model) if connection.vendor == "postgresql" else _from_highest(model)
        return next(self._taken[model])


def _from_sequence(model: type[models.Model]) -> Iterator[int]:
    table, key = model._meta.db_table, _key(model).column
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)", [table, key, _AT_ONCE]
            )
            taken = [number for (number,) in cursor.fetchall()]
        yield from taken


def _from_highest(model: type[models.Model]) -> Iterator[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [model._meta.db_table])
        (number,) = cursor.fetchone() or (0,)
    while True:
        number += 1
        yield number


def write(rows: Iterable[models.Model]) -> dict[type[models.Model], int]:
    """Insert the rows with the keys that they have, table by table, and return how many went where."""
    by_model: dict[type[models.Model], list[models.Model]] = defaultdict(list)
    for row in rows:
        by_model[type(row)].append(row)
    for model in ORDER:
        if model in by_model:
            _insert(model, by_model[model])
    return {model: len(found) for model, found in by_model.items()}


def _insert(model: type[models.Model], rows: list[models.Model]) -> None:
    columns = _columns(model)
    quoted = ", ".join(connection.ops.quote_name(field.column) for field, _ in columns)
    table = connection.ops.quote_name(model._meta.db_table)
    names = [field.attname for field, _ in columns]
    changed = [(place, change) for place, (_, change) in enumerate(columns) if change]
    values = (_values(row, names, changed) for row in rows)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({quoted}) FROM STDIN") as copy:
                for one in values:
                    copy.write_row(one)
        else:
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table} ({quoted}) VALUES ({places})", values)  # type: ignore[arg-type]  # noqa: S608


def _values(row: models.Model, names: list[str], changed: list[tuple[int, Callable[[Any], Any]]]) -> list[Any]:
    own = row.__dict__
    values = [own[name] for name in names]
    for place, change in changed:
        if values[place] is not None:
            values[place] = change(values[place])
    return values


@cache
def _columns(model: type[models.Model]) -> list[tuple[Any, Callable[[Any], Any] | None]]:
    """Return the table's fields, each with how its values are written where that is not as they are."""
    return [(field, _change(field)) for field in model._meta.local_concrete_fields]


def _change(field: models.Field[Any, Any]) -> Callable[[Any], Any] | None:
    if isinstance(field, models.JSONField):
        return (field.encoder or json.JSONEncoder)().encode
    if isinstance(field, models.DateTimeField):
        # The same as the database's own adapter, without looking the time zone up for every row: ours is UTC.
        return None if connection.vendor == "postgresql" else _naive
    if isinstance(field, models.DurationField):
        return partial(field.get_db_prep_value, connection=connection)
    if isinstance(field, models.CharField):
        # An enumeration's value as its word.
        return str
    return None


def _naive(when: datetime) -> str:
    return str(when.astimezone(UTC).replace(tzinfo=None))


def _key(model: type[models.Model]) -> Any:
    return model._meta.pk
