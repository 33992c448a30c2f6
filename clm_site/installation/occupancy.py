"""Who uses an embedded installation: each server holds its data directory; what replaces or moves it needs it alone."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clm_site.installation import LOCK


class InUse(Exception):
    """The installation is in use."""


@contextmanager
def occupied(directory: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the data directory for the block, beside others or `alone`; raise InUse where that cannot be now."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            if alone:
                raise InUse(f"A server runs on {directory}: stop it first, then do this again.") from None
            raise InUse(
                f"{directory} is being restored or moved to PostgreSQL: start again when that is done."
            ) from None
        yield
