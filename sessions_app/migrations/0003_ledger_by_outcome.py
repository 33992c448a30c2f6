from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """From a status to the approved calls that stand at it: what the queue's later tabs ask."""

    dependencies = [("sessions_app", "0002_append_only")]
    operations = [
        migrations.AddIndex(
            model_name="toolcall",
            index=models.Index(fields=["status", "approved_at"], name="tool_call_outcome"),
        ),
    ]
