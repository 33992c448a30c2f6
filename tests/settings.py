"""Settings of the test suite: the product's own, with a data directory of its own per process."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("CLM_DATA_DIR", tempfile.mkdtemp(prefix="clm-tests-"))
os.environ.setdefault("CLM_SECRET_KEY", "tests-only")

from clm_site.settings import *

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CLM_POLL_SECONDS = 0.05

if not DATABASE_URL:
    # A file: threads that share an in-memory SQLite lock whole tables against each other without waiting.
    DATABASES["default"]["TEST"] = {"NAME": str(CLM_DATA_DIR / "test.sqlite3")}
