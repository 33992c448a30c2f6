from __future__ import annotations

from django.db import migrations, models

from sessions_app.concurrent_index import AddIndexConcurrently


class Migration(migrations.Migration):
    """What became of calls that were let run is found by their grant; a rejected call has its decision's time too."""

    atomic = False
    dependencies = [("sessions_app", "0006_ledger_at_size")]

    operations = [
        AddIndexConcurrently(
            model_name="toolcall",
            index=models.Index(
                condition=models.Q(("grant__isnull", False)), fields=["status", "id"], name="tool_call_let_run"
            ),
        ),
    ]
