from __future__ import annotations

import django.core.serializers.json
from django.db import migrations, models


class Migration(migrations.Migration):
    """A call's row keeps the facts that it was proposed on."""

    dependencies = [("sessions_app", "0004_attempts")]
    operations = [
        migrations.AddField(
            model_name="toolcall",
            name="facts",
            field=models.JSONField(
                blank=True,
                encoder=django.core.serializers.json.DjangoJSONEncoder,
                help_text="What it rests on, as read when it was proposed.",
                null=True,
            ),
        ),
    ]
