"""Carry an embedded installation into PostgreSQL: every record with its id, every checkpoint with its writes.

All of it is one transaction of the target: a move that fails or is cut off leaves nothing there and can be made again.
The source is read, never written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import psycopg
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.core.management.sql import emit_post_migrate_signal
from django.db import DatabaseError, connection, connections, models, transaction
from django.db.migrations.loader import MigrationLoader

from approvals_app.audit import Fault, faults_of
from clm_site.installation import CHECKPOINTS, MOVED, RECORDS
from clm_site.settings import database
from sessions_app.agents.checkpointer import SERDE
from sessions_app.models import Session, log_transaction
from sessions_app.states import TERMINAL

#: Rows between two lines about a long table.
STRIDE = 50_000

#: The alias under which Django reads the source.
_SOURCE = "embedded"
#: What `migrate` fills: the target's own rows give way to the source's, which carry the ids that others refer to.
_MADE_BY_MIGRATE: tuple[type[models.Model], ...] = (
    Group.permissions.through,
    Group,
    Permission,
    ContentType,
)
_Saying = Callable[[str], None]


class CannotMove(Exception):
    """Why nothing was moved, in a sentence that says what to do."""


def move(source: Path, *, say: _Saying, despite_faults: bool = False) -> None:
    """Copy the installation in `source` into the default database, which is a migrated, empty PostgreSQL.

    `say` hears how far it is. A row that is not as it was written stops it, unless `despite_faults`. Raises CannotMove,
    and then nothing was written.
    """
    mark = source / MOVED
    if mark.exists():
        raise CannotMove(f"{mark.read_text().strip()} To move it once more, delete {mark}.")
    with _reading(source):
        _refuse_other_schema()
        try:
            # The log's lock first, as everybody who writes it: two moves at once, or a server on the target, wait here.
            with log_transaction():
                _refuse_filled()
                tables = _tables()
                _copy_records(tables, say)
                _copy_checkpoints(source / CHECKPOINTS, say)
                _verify(say, despite_faults=despite_faults)
                # Before the commit: were the process to die in between, no server may go on with the old files.
                mark.write_text(f"Moved to PostgreSQL at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC.\n")
        except BaseException:
            mark.unlink(missing_ok=True)
            raise


# The source ---------------------------------------------------------------------------------------------------------


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Give Django the embedded records under their alias, in a transaction that keeps every writer out."""
    path = source / RECORDS
    if not path.exists():
        raise CannotMove(f"There is no embedded installation in {source}: {path} is missing. Set CLM_DATA_DIR.")
    entries = {"default": dict(connections.settings["default"]), _SOURCE: database("", source)}
    connections.settings[_SOURCE] = connections.configure_settings(entries)[_SOURCE]
    try:
        with transaction.atomic(using=_SOURCE):
            yield
    finally:
        connections[_SOURCE].close()
        del connections[_SOURCE]
        del connections.settings[_SOURCE]


def _refuse_other_schema() -> None:
    there = set(MigrationLoader(connections[_SOURCE]).applied_migrations)
    here = MigrationLoader(connection)
    known = {key for key in here.disk_migrations if key[0] in {app for app, _ in there}}
    if there - set(here.disk_migrations):
        raise CannotMove("The embedded installation was last used by a newer CLM: update this one first.")
    if known - there:
        raise CannotMove(
            "The embedded installation is of an older CLM. Unset DATABASE_URL, run manage.py migrate, then move it."
        )
    if set(here.disk_migrations) - set(here.applied_migrations):
        raise CannotMove("The PostgreSQL database is not up to date: run manage.py migrate, then move.")


def _tables() -> list[type[models.Model]]:
    """Return the models whose tables the source has; PostgreSQL looks at references at the end, so any order does."""
    names = set(connections[_SOURCE].introspection.table_names())
    every = apps.get_models(include_auto_created=True)
    return [model for model in every if model._meta.managed and model._meta.db_table in names]


# The target ---------------------------------------------------------------------------------------------------------


def _refuse_filled() -> None:
    for model in _tables():
        if model not in _MADE_BY_MIGRATE and model._base_manager.using("default").exists():
            raise CannotMove(
                f"The PostgreSQL database has {model._meta.verbose_name_plural} already; a move needs an empty one. "
                "A move that was cut off leaves nothing behind, so either one ended here or CLM was used here. "
                "Give DATABASE_URL an empty database."
            )
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM checkpoints)")
        if cursor.fetchone()[0]:
            raise CannotMove("The PostgreSQL database has checkpoints already: give DATABASE_URL an empty one.")


def _copy_records(tables: list[type[models.Model]], say: _Saying) -> None:
    for made in _MADE_BY_MIGRATE:
        made._base_manager.using("default").all()._raw_delete("default")
    for model in tables:
        count = _copy_table(model, say)
        if count:
            say(f"  {count:>9,} {model._meta.verbose_name_plural}")
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), tables):
            cursor.execute(statement)
    ContentType.objects.clear_cache()
    # What this installation has beside the source's applications gets its types and permissions now.
    emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


def _copy_table(model: type[models.Model], say: _Saying) -> int:
    """Copy one table as it is: no signal, no `save`, and every value in the spelling of the target."""
    fields = model._meta.concrete_fields
    names = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    table = connection.ops.quote_name(model._meta.db_table)
    rows = model._base_manager.using(_SOURCE).order_by("pk").values_list(*(field.attname for field in fields))
    count = 0
    try:
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows.iterator(chunk_size=2_000):
                    copy.write_row([_value(field, value) for field, value in zip(fields, row, strict=True)])
                    count += 1
                    if count % STRIDE == 0:
                        say(f"  {count:>9,} {model._meta.verbose_name_plural} so far")
            cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - the model's own name
            arrived = cursor.fetchone()[0]
    except (DatabaseError, psycopg.Error) as refused:
        raise CannotMove(f"PostgreSQL refuses a row of {model._meta.label}: {refused}") from refused
    if arrived != count:
        raise CannotMove(f"Of {count} rows of {model._meta.label}, {arrived} arrived.")
    return count


def _value(field: models.Field[Any, Any], value: Any) -> Any:
    if value is None and isinstance(field, models.JSONField) and not field.null:
        return connection.ops.adapt_json_value(None, field.encoder)
    return field.get_db_prep_save(value, connection)


# Checkpoints --------------------------------------------------------------------------------------------------------


def _copy_checkpoints(path: Path, say: _Saying) -> None:
    """Put each checkpoint by LangGraph's own saver, and its writes as rows.

    The savers hold a checkpoint differently, so theirs is the way to read and to write one. Writes are alike in both,
    and the savers' own reading of them drops the path and the index that they are ordered by.
    """
    from langgraph.checkpoint.postgres import PostgresSaver
    from langgraph.checkpoint.sqlite import SqliteSaver

    if not path.exists():
        return
    raw = _raw_connection()
    factory, raw.cursor_factory = raw.cursor_factory, psycopg.Cursor
    try:
        with closing(sqlite3.connect(path)) as file:
            source, target = SqliteSaver(file, serde=SERDE), PostgresSaver(raw, serde=SERDE)
            source.setup()
            threads = [row[0] for row in file.execute("SELECT DISTINCT thread_id FROM checkpoints")]
            count = 0
            for thread_id in threads:
                try:
                    for found in source.list({"configurable": {"thread_id": thread_id}}):
                        _put(target, found)
                        count += 1
                except psycopg.Error as refused:
                    raise CannotMove(f"PostgreSQL refuses a checkpoint of thread {thread_id}: {refused}") from refused
            say(f"  {count:>9,} checkpoints of {len(threads):,} threads")
            writes = _copy_writes(file, raw)
            say(f"  {writes:>9,} checkpoint writes")
            _compare(source, target, file, raw)
    finally:
        raw.cursor_factory = factory


def _raw_connection() -> psycopg.Connection[Any]:
    connection.ensure_connection()
    return cast("psycopg.Connection[Any]", connection.connection)


def _put(target: Any, found: Any) -> None:
    parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
    here = {key: value for key, value in found.config["configurable"].items() if key != "checkpoint_id"}
    if parent:
        here["checkpoint_id"] = parent
    target.put({"configurable": here}, found.checkpoint, found.metadata, found.checkpoint["channel_versions"])


def _copy_writes(file: sqlite3.Connection, raw: psycopg.Connection[Any]) -> int:
    names = "thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type"
    count = 0
    with (
        raw.cursor() as cursor,
        cursor.copy(f"COPY checkpoint_writes ({names}, blob) FROM STDIN") as copy,
    ):
        for row in file.execute(f"SELECT {names}, value FROM writes"):  # noqa: S608 - names of our own
            copy.write_row(row)
            count += 1
    return count


def _compare(source: Any, target: Any, file: sqlite3.Connection, raw: psycopg.Connection[Any]) -> None:
    """Read where each graph stands that goes on from here, from both, and hold them against each other."""
    with raw.cursor() as cursor:
        for theirs, ours in (("checkpoints", "checkpoints"), ("writes", "checkpoint_writes")):
            (there,) = file.execute(f"SELECT count(*) FROM {theirs}").fetchone()  # noqa: S608 - names of our own
            (here,) = cursor.execute(f"SELECT count(*) FROM {ours}").fetchone() or (0,)  # noqa: S608 - as above
            if here != there:
                raise CannotMove(f"Of {there} rows of {theirs}, {here} arrived.")
    unended = Session.objects.exclude(status__in=TERMINAL).values_list("runs__thread_id", flat=True).distinct()
    for thread_id in unended:
        spaces = file.execute("SELECT DISTINCT checkpoint_ns FROM checkpoints WHERE thread_id = ?", [thread_id])
        for (space,) in spaces.fetchall():
            at: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": space}}
            if _standing(source.get_tuple(at)) != _standing(target.get_tuple(at)):
                raise CannotMove(f"Thread {thread_id} would not stand where it stood.")


def _standing(found: Any) -> Any:
    """Return what a graph goes on from. Empty channels are left out: only one of the savers mentions them."""
    return found.config, found.parent_config, found.checkpoint, found.metadata, found.pending_writes


# The end ------------------------------------------------------------------------------------------------------------


def _verify(say: _Saying, *, despite_faults: bool) -> None:
    checked = 0
    found: list[Fault] = []
    for session in Session.objects.order_by("pk").iterator(chunk_size=200):
        checked += 1
        found += faults_of(session)
    if found and not despite_faults:
        raise CannotMove(
            f"Once it is in PostgreSQL, {found[0]} ({len(found)} in all). Unset DATABASE_URL and see what manage.py "
            "verify_audit says of the embedded installation; or move it as it is, with --despite-faults."
        )
    for fault in found:
        say(f"  {fault}")
    as_written = "" if found else ": every event, decision and gate is as it was written"
    say(f"  {checked:>9,} sessions verified{as_written}")
