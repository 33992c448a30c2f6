"""One module's figures, on a database of their own and, unless asked otherwise, in the embedded profile."""

from __future__ import annotations

import importlib
import logging
import os
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.figure import Figure


def measure(module: str, given: Namespace | None) -> list[Figure]:
    """Measure the figures of one module of this package on a fresh database, or on the one that is given for it."""
    with TemporaryDirectory(prefix="clm-bench-") as directory:
        _prepare(Path(directory), given.database if given else "")
        found = importlib.import_module(module).figures
        figures: list[Figure] = found(given) if given else found()
    return figures


def _prepare(directory: Path, database: str) -> None:
    """Set Django up on a database of its own: the embedded profile, unless asked for another, whatever is set."""
    for name in [name for name in os.environ if name.startswith("CLM_")] + ["DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "clm_site.settings",
        "CLM_DATA_DIR": str(directory),
        "CLM_SECRET_KEY": "benchmarks",
        "LANGSMITH_TRACING": "false",
        **({"DATABASE_URL": database} if database else {}),
    }
    import django

    django.setup()
    from django.core.management import call_command

    if not database:
        call_command("migrate", verbosity=0, skip_checks=True)
    logging.getLogger("clm").setLevel(logging.WARNING)
