from __future__ import annotations

from typing import Any

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from sessions_app.append_only import install_triggers, remove_triggers

TABLES = ("approvals_app_inquiry", "approvals_app_reply")


def install(apps: Any, schema_editor: Any) -> None:
    for table in TABLES:
        install_triggers(table, using=schema_editor.connection.alias)


def remove(apps: Any, schema_editor: Any) -> None:
    for table in TABLES:
        remove_triggers(table, using=schema_editor.connection.alias)


class Migration(migrations.Migration):
    """What people ask the agent at a gate, and its replies; the database refuses to change or delete either."""

    dependencies = [
        ("approvals_app", "0004_queue_backfill"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Inquiry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "channel",
                    models.CharField(
                        choices=[
                            ("page", "the approvals queue"),
                            ("api", "the API"),
                            ("admin", "the admin"),
                            ("system", "CLM itself"),
                        ],
                        max_length=10,
                    ),
                ),
                ("text", models.TextField()),
                ("asked_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "asker",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="gate_inquiries",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "gate",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="inquiries",
                        to="approvals_app.gate",
                    ),
                ),
            ],
            options={"verbose_name_plural": "inquiries", "ordering": ["pk"]},
        ),
        migrations.CreateModel(
            name="Reply",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("text", models.TextField(blank=True)),
                ("error", models.TextField(blank=True, help_text="Why there is no answer.")),
                (
                    "model",
                    models.CharField(blank=True, help_text="Which chat model answered.", max_length=120),
                ),
                (
                    "checkpoint_id",
                    models.CharField(blank=True, help_text="The paused checkpoint that it knew.", max_length=64),
                ),
                ("answered_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "inquiry",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reply",
                        to="approvals_app.inquiry",
                    ),
                ),
            ],
            options={"verbose_name_plural": "replies", "ordering": ["pk"]},
        ),
        migrations.RunPython(install, remove),
    ]
