"""A full disk, whoever says so: SQLite, PostgreSQL, or the operating system."""

from __future__ import annotations

import errno

_WORDS = ("database or disk is full", "disk i/o error")
_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: PostgreSQL's disk_full.
_SQLSTATE = "53100"


def is_full(error: BaseException | None) -> bool:
    """Say whether an error, or what it came from, means that nothing more can be written for want of space."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NUMBERS:
            return True
        if getattr(error, "sqlstate", None) == _SQLSTATE or str(error).lower().startswith(_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False
