from __future__ import annotations

from typing import Any

import django.core.serializers.json
from django.db import migrations, models

from sessions_app.append_only import install_triggers

TABLE = "approvals_app_decision"


def install_again(apps: Any, schema_editor: Any) -> None:
    install_triggers(TABLE, using=schema_editor.connection.alias)


class Migration(migrations.Migration):
    """What is decided call by call, and what follows a rejection.

    SQLite adds a column by making the table anew, and its triggers go with the old one: they are installed again.
    """

    dependencies = [
        ("approvals_app", "0010_together"),
        ("sessions_app", "0002_append_only"),
    ]

    operations = [
        migrations.RunPython(migrations.RunPython.noop, install_again),
        migrations.AddField(
            model_name="decision",
            name="next",
            field=models.CharField(
                choices=[
                    ("continue", "the agent tries another way"),
                    ("escalate", "handed over to people"),
                    ("stop", "the session is stopped"),
                ],
                default="continue",
                help_text="What follows a rejection.",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="decision",
            name="verdicts",
            field=models.JSONField(
                blank=True,
                default=list,
                encoder=django.core.serializers.json.DjangoJSONEncoder,
                help_text="Of several calls, each one's: [{tool_call_id, tool, type, message, edited_args}]",
            ),
        ),
        migrations.RunPython(install_again, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name="gate",
            index=models.Index(fields=["tool", "-decided_at"], name="gate_precedents"),
        ),
    ]
