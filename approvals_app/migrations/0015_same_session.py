from __future__ import annotations

from django.db import migrations, models

from sessions_app.concurrent_index import AddIndexConcurrently


class Migration(migrations.Migration):
    """Which gate of a session stands first is read from an index alone."""

    atomic = False
    dependencies = [("approvals_app", "0014_same_call")]

    operations = [
        AddIndexConcurrently(
            model_name="gate",
            index=models.Index(fields=["session", "status", "-weight", "expires_at", "id"], name="gate_same_session"),
        ),
    ]
