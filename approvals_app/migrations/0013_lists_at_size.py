from __future__ import annotations

from django.db import migrations, models

from sessions_app.concurrent_index import AddIndexConcurrently


class Migration(migrations.Migration):
    """Indexes for lists that are long; made beside whoever writes meanwhile."""

    atomic = False
    dependencies = [("approvals_app", "0012_insight_days")]

    operations = [
        AddIndexConcurrently(
            model_name="gate",
            index=models.Index(
                condition=models.Q(("decided_at__isnull", False)),
                fields=["-created_at", "-id"],
                name="gate_ended_newest",
            ),
        ),
        AddIndexConcurrently(
            model_name="repaircard",
            index=models.Index(
                condition=models.Q(("closed_at__isnull", True)), fields=["opened_at", "id"], name="repair_open"
            ),
        ),
        AddIndexConcurrently(model_name="repaircard", index=models.Index(fields=["-closed_at"], name="repair_closed")),
    ]
