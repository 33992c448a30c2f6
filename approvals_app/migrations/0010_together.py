from __future__ import annotations

from typing import Any

import django.core.serializers.json
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from sessions_app.append_only import install_triggers, remove_triggers

TABLES = ("approvals_app_comment", "approvals_app_factsacknowledgement")


def install(apps: Any, schema_editor: Any) -> None:
    for table in TABLES:
        install_triggers(table, using=schema_editor.connection.alias)


def remove(apps: Any, schema_editor: Any) -> None:
    for table in TABLES:
        remove_triggers(table, using=schema_editor.connection.alias)


class Migration(migrations.Migration):
    """Facts and claims on gates; comments, acknowledgements and who is there. The first two are never changed."""

    dependencies = [
        ("approvals_app", "0009_preferences"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="gate",
            name="claimed_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="gate",
            name="claimer",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="claims",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="gate",
            name="facts",
            field=models.JSONField(blank=True, default=list, encoder=django.core.serializers.json.DjangoJSONEncoder),
        ),
        migrations.AddField(
            model_name="gate",
            name="facts_known",
            field=models.JSONField(blank=True, default=list, encoder=django.core.serializers.json.DjangoJSONEncoder),
        ),
        migrations.AddField(
            model_name="gate",
            name="facts_now",
            field=models.JSONField(blank=True, default=list, encoder=django.core.serializers.json.DjangoJSONEncoder),
        ),
        migrations.AddField(
            model_name="gate",
            name="fingerprint",
            field=models.CharField(blank=True, help_text="Of the facts that the digest stands for.", max_length=64),
        ),
        migrations.AddField(
            model_name="gate",
            name="fingerprint_now",
            field=models.CharField(blank=True, help_text="Of the facts as last read.", max_length=64),
        ),
        migrations.CreateModel(
            name="Comment",
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
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "author",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="gate_comments",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "gate",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="comments", to="approvals_app.gate"
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
            },
        ),
        migrations.CreateModel(
            name="FactsAcknowledgement",
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
                (
                    "facts",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        help_text="The facts that they were shown.",
                    ),
                ),
                (
                    "changes",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder, help_text="[{name, was, now}]"
                    ),
                ),
                ("digest", models.CharField(help_text="Over the gate's digest before and these facts.", max_length=64)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "actor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "gate",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="acknowledgements",
                        to="approvals_app.gate",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
            },
        ),
        migrations.CreateModel(
            name="Presence",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "doing",
                    models.CharField(
                        choices=[
                            ("reading", "is reading"),
                            ("rejecting", "is writing a rejection"),
                            ("answering", "is writing an answer"),
                            ("commenting", "is writing a comment"),
                        ],
                        default="reading",
                        max_length=12,
                    ),
                ),
                ("seen_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "gate",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="presences", to="approvals_app.gate"
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "ordering": ["person__username"],
                "indexes": [models.Index(fields=["seen_at"], name="presence_seen")],
                "constraints": [models.UniqueConstraint(fields=("gate", "person"), name="present_once_a_gate")],
            },
        ),
        migrations.RunPython(install, remove),
    ]
