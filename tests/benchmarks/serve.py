"""`manage.py serve`, which also writes down when each gate was committed: `<gate> <time>` a line in commits.txt."""

from __future__ import annotations

import os
import time
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clm_site.settings")

if __name__ == "__main__":
    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.db import transaction
    from django.db.models.signals import pre_save

    from approvals_app.models import Gate

    commits = (settings.CLM_DATA_DIR / "commits.txt").open("a", buffering=1)

    def committed(instance: Gate, **_: Any) -> None:
        # Before the row is saved, so that the callback runs before the one that rings.
        transaction.on_commit(lambda: commits.write(f"{instance.pk} {time.time()}\n"), robust=True)

    pre_save.connect(committed, sender=Gate, weak=False)
    call_command("serve")
