"""An embedded installation as a whole: who uses it, its backup, and its way into PostgreSQL.

It is its data directory, and these are the files in there.
"""

from __future__ import annotations

RECORDS = "clm.sqlite3"
CHECKPOINTS = "checkpoints.sqlite3"
KEY = "secret_key"
#: What is locked by whoever uses the directory. The lock goes with its process, so the file means nothing by itself.
LOCK = "in_use"
#: Says that the records have gone to PostgreSQL, and when (clm.E015).
MOVED = "moved_to_postgres"
