from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """No call waits for an approval that it has; no version ever wrote one that does."""

    dependencies = [("sessions_app", "0005_facts")]

    operations = [
        migrations.AddConstraint(
            model_name="toolcall",
            constraint=models.CheckConstraint(
                condition=models.Q(("status", "pending_approval"), _negated=True) | models.Q(("approved_at", None)),
                name="tool_call_waits_unapproved",
            ),
        ),
    ]
