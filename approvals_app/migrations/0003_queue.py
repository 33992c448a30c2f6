from __future__ import annotations

from typing import Any

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from sessions_app.append_only import install_triggers, remove_triggers

TABLE = "approvals_app_gatecall"


def install(apps: Any, schema_editor: Any) -> None:
    install_triggers(TABLE, using=schema_editor.connection.alias)


def remove(apps: Any, schema_editor: Any) -> None:
    remove_triggers(TABLE, using=schema_editor.connection.alias)


class Migration(migrations.Migration):
    """What the queue's order, tabs, groups and saved views need."""

    dependencies = [
        ("approvals_app", "0002_append_only"),
        ("sessions_app", "0003_ledger_by_outcome"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.AddField(
            model_name="gate",
            name="weight",
            field=models.PositiveSmallIntegerField(
                default=4, help_text="How urgent it was when it opened (urgency.py)."
            ),
        ),
        migrations.AddField(
            model_name="gate",
            name="call_digest",
            field=models.CharField(
                blank=True,
                help_text="Over its calls and where they run: the same on gates that ask the same.",
                max_length=64,
            ),
        ),
        migrations.AddIndex(
            model_name="gate",
            index=models.Index(fields=["status", "-weight", "expires_at", "id"], name="gate_urgency"),
        ),
        migrations.AddIndex(
            model_name="gate",
            index=models.Index(fields=["status", "decided_at", "id"], name="gate_by_end"),
        ),
        migrations.AddIndex(
            model_name="gate",
            index=models.Index(fields=["decided_at", "id"], name="gate_ended"),
        ),
        migrations.AddIndex(
            model_name="gate",
            index=models.Index(fields=["call_digest", "status"], name="gate_alike"),
        ),
        migrations.CreateModel(
            name="GateCall",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveSmallIntegerField(help_text="Its place among the gate's calls: 0, 1, 2 …")),
                (
                    "gate",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="gate_calls",
                        to="approvals_app.gate",
                    ),
                ),
                (
                    "call",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="gate_calls",
                        to="sessions_app.toolcall",
                    ),
                ),
            ],
            options={
                "ordering": ["gate", "position"],
                "constraints": [models.UniqueConstraint(fields=["gate", "call"], name="gate_call_once")],
            },
        ),
        migrations.RunPython(install, remove),
        migrations.CreateModel(
            name="SavedView",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=40)),
                (
                    "query",
                    models.CharField(help_text="What stands after the ? of the queue's address.", max_length=600),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="saved_views",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["name", "pk"],
                "constraints": [models.UniqueConstraint(fields=["user", "name"], name="saved_view_name_once")],
            },
        ),
    ]
