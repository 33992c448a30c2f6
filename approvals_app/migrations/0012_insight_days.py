from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """What insight counted of days that are over; the old version does not know the table."""

    dependencies = [("approvals_app", "0011_decision_verdicts")]

    operations = [
        migrations.CreateModel(
            name="InsightDay",
            fields=[("day", models.DateField(primary_key=True, serialize=False)), ("counts", models.JSONField())],
        ),
    ]
