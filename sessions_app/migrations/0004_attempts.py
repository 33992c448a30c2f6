from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Who asked for a run, from which checkpoint, and where its end left the session."""

    dependencies = [
        ("sessions_app", "0003_ledger_by_outcome"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="asked_by",
            field=models.ForeignKey(
                blank=True,
                help_text="Who asked for it; none where nobody was signed in, or CLM itself went on.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="origin",
            field=models.JSONField(
                blank=True,
                help_text="For a rerun from a checkpoint: {attempt, thread_id, checkpoint_id, next, at, becomes}.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="outcome",
            field=models.CharField(blank=True, help_text="Where its end left the session.", max_length=16),
        ),
        migrations.AddField(
            model_name="run",
            name="resolution",
            field=models.TextField(blank=True, help_text="The same in words; a rerun writes the session's anew."),
        ),
    ]
