from __future__ import annotations

from django.db import migrations, models

from sessions_app.concurrent_index import AddIndexConcurrently


class Migration(migrations.Migration):
    """Which gate of an identical call stands first, and which gates a call has, is read from an index alone."""

    atomic = False
    dependencies = [("approvals_app", "0013_lists_at_size")]

    operations = [
        AddIndexConcurrently(
            model_name="gate",
            index=models.Index(fields=["call_digest", "status", "-weight", "expires_at", "id"], name="gate_same_call"),
        ),
        migrations.RemoveIndex(model_name="gate", name="gate_alike"),
        AddIndexConcurrently(model_name="gatecall", index=models.Index(fields=["call", "gate"], name="gate_call_gate")),
    ]
