from __future__ import annotations

from typing import Any

from django.db import migrations

from sessions_app.append_only import install_triggers, remove_triggers

TABLE = "sessions_app_sessionevent"


def install(apps: Any, schema_editor: Any) -> None:
    install_triggers(TABLE, using=schema_editor.connection.alias)


def remove(apps: Any, schema_editor: Any) -> None:
    remove_triggers(TABLE, using=schema_editor.connection.alias)


class Migration(migrations.Migration):
    """The database itself refuses to change or delete an event."""

    dependencies = [("sessions_app", "0001_initial")]
    operations = [migrations.RunPython(install, remove)]
