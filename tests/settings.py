"""Settings of the test suite: the product's own, with a data directory of its own per process."""

from __future__ import annotations

import os
import tempfile

if "CLM_DATA_DIR" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["CLM_DATA_DIR"] = tempfile.mkdtemp(prefix="clm-tests-")
os.environ.setdefault("CLM_SECRET_KEY", "tests-only")

from clm_site import settings as product
from clm_site.settings import *  # noqa: F403 - the product's own, all of them

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CLM_POLL_SECONDS = 0.05
# Each test's client loads the middleware anew, which would look at every static file each time.
WHITENOISE_AUTOREFRESH = True

# The threads of a test end with it; a pool's would hold connections to the test database beyond its end.
product.DATABASES["default"].get("OPTIONS", {}).pop("pool", None)

if product.REDIS_URL:
    # Whoever else uses that Redis, such as another process of this suite, is not to be heard: its numbered databases
    # keep keys apart, not channels.
    product.CHANNEL_LAYERS["default"]["CONFIG"]["prefix"] = f"clm-tests-{os.getpid()}"

if not product.DATABASE_URL:
    # A file: threads that share an in-memory SQLite lock whole tables against each other without waiting.
    product.DATABASES["default"]["TEST"] = {"NAME": str(product.CLM_DATA_DIR / "test.sqlite3")}
