"""Insert a row by a statement that is built once per model.

Django builds an INSERT anew for every row, which takes several times as long as running it; the rows that a drive
writes by the dozen go this way. No `save()`, so no signals: only for models that nobody listens to.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db import connection, models


def insert(row: models.Model) -> None:
    """Write a new row and give it its key, as `save(force_insert=True)` would."""
    statement, fields = _statement(type(row), connection.vendor)
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        (row.pk,) = cursor.fetchone()
    row._state.adding, row._state.db = False, connection.alias


@cache
def _statement(model: type[models.Model], vendor: str) -> tuple[str, tuple[models.Field[Any, Any], ...]]:
    quote = connection.ops.quote_name
    key = model._meta.pk
    fields = tuple(field for field in model._meta.local_concrete_fields if not field.primary_key)
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    table = quote(model._meta.db_table)
    return f"INSERT INTO {table} ({columns}) VALUES ({places}) RETURNING {quote(str(key.column))}", fields  # noqa: S608
