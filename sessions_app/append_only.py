"""Rows that are written once: the model refuses change, and so does a trigger in the database.

The triggers cover SQLite and PostgreSQL. `TRUNCATE` on PostgreSQL is refused too, so history goes only with
the database itself.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from sessions_app.exceptions import LogIsAppendOnly

_SQLITE = """
CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {VERB} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
"""
_POSTGRES = """
CREATE OR REPLACE FUNCTION clm_append_only() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql;
DROP TRIGGER IF EXISTS {table}_no_change ON {table};
CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION clm_append_only();
DROP TRIGGER IF EXISTS {table}_no_truncate ON {table};
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION clm_append_only();
"""


def install_triggers(table: str, *, using: str = "default") -> None:
    """Make the database refuse update and delete on `table`; running it twice changes nothing."""
    connection = connections[using]
    with connection.cursor() as cursor:
        for statement in _install(connection, table):
            cursor.execute(statement)


def remove_triggers(table: str, *, using: str = "default") -> None:
    """Take the triggers off again, for a migration backwards and for the tests' own clean-up."""
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for verb in ("update", "delete"):
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
        else:
            for verb in ("change", "truncate"):
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb} ON {table}")


def _install(connection: BaseDatabaseWrapper, table: str) -> list[str]:
    if connection.vendor == "sqlite":
        return [_SQLITE.format(table=table, verb=verb, VERB=verb.upper()) for verb in ("update", "delete")]
    return [_POSTGRES.format(table=table)]


_Row = TypeVar("_Row", bound=models.Model, covariant=True)


class AppendOnlyQuerySet(models.QuerySet[_Row]):
    """Reads, and refuses every bulk change."""

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse: history is not changed."""
        raise LogIsAppendOnly

    def delete(self) -> NoReturn:
        """Refuse: history is not deleted."""
        raise LogIsAppendOnly

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a bulk insert sends no `post_save`, so nobody would hear of the rows."""
        raise LogIsAppendOnly

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: history is not changed."""
        raise LogIsAppendOnly


class AppendOnlyModel(models.Model):
    """A row that is saved once."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the row; a second save is refused."""
        if not self._state.adding:
            raise LogIsAppendOnly
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: history is not deleted."""
        raise LogIsAppendOnly
