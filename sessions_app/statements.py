"""Insert and compare-and-swap by statements that are built once for each shape.

Django builds a statement anew for every row, which takes several times as long as running it, and its `connection`
looks itself up for every attribute; what a drive writes by the dozen goes this way. No `save()` and no queryset, so no
signals: only for rows that nobody listens to.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections, models


def insert(row: models.Model, *, once: bool = False) -> bool:
    """Write a new row and give it its key, as `save(force_insert=True)` would.

    With `once`, a row that a unique constraint knows already is left as it is, and the answer is False.
    """
    database = connections[DEFAULT_DB_ALIAS]
    statement, fields = _insert(type(row), once, database.vendor)
    values = [field.get_db_prep_save(getattr(row, field.attname), database) for field in fields]
    with database.cursor() as cursor:
        cursor.execute(statement, values)
        written = cursor.fetchone()
    if written is None:
        return False
    (row.pk,) = written
    row._state.adding, row._state.db = False, database.alias
    return True


def swap(model: type[models.Model], expected: Mapping[str, Any], **changes: Any) -> bool:
    """Change the one row that still is as `expected` (field by field), as `filter(…).update(…)` would, and say if.

    A field's name may end in `__lte` or `__gt`, as in a filter.

    The compare-and-swap behind most verbs: of two that read the same, one finds the row changed and writes nothing.
    """
    nulls = frozenset(name for name, value in expected.items() if value is None)
    database = connections[DEFAULT_DB_ALIAS]
    statement, fields = _swap(model, tuple(changes), tuple(expected), nulls, database.vendor)
    given = [*changes.values(), *(value for value in expected.values() if value is not None)]
    values = [field.get_db_prep_save(value, database) for field, value in zip(fields, given, strict=True)]
    with database.cursor() as cursor:
        cursor.execute(statement, values)
        return bool(cursor.rowcount)


#: How a field is compared, by what stands after its name.
_COMPARED = {"": "=", "lte": "<=", "gt": ">"}

_Fields = tuple["models.Field[Any, Any]", ...]


@cache
def _insert(model: type[models.Model], once: bool, vendor: str) -> tuple[str, _Fields]:
    key = model._meta.pk
    fields = tuple(field for field in model._meta.local_concrete_fields if not field.primary_key)
    columns = ", ".join(_column(field) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    conflict = "ON CONFLICT DO NOTHING " if once else ""
    return (
        f"INSERT INTO {_table(model)} ({columns}) VALUES ({places}) {conflict}RETURNING {_column(key)}",  # noqa: S608
        fields,
    )


@cache
def _swap(
    model: type[models.Model], changed: tuple[str, ...], expected: tuple[str, ...], nulls: frozenset[str], vendor: str
) -> tuple[str, _Fields]:
    def field(name: str) -> Any:
        name = name.partition("__")[0]
        return model._meta.pk if name == "pk" else model._meta.get_field(name)

    def test(name: str) -> str:
        how = "IS NULL" if name in nulls else f"{_COMPARED[name.partition('__')[2]]} %s"
        return f"{_column(field(name))} {how}"

    sets = ", ".join(f"{_column(field(name))} = %s" for name in changed)
    tests = " AND ".join(test(name) for name in expected)
    given = [*changed, *(name for name in expected if name not in nulls)]
    return f"UPDATE {_table(model)} SET {sets} WHERE {tests}", tuple(field(name) for name in given)  # noqa: S608


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _column(field: Any) -> str:
    return connection.ops.quote_name(str(field.column))
