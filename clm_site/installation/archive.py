"""The backup of an embedded installation: one file with records, checkpoints and the secret key of one instant.

The instant is one at which nobody could write to either database, so a restored installation is one whose server was
killed then, and goes on as after every `kill -9` (docs/reliability.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from django.db.migrations.loader import MigrationLoader

from clm_site.installation import CHECKPOINTS, KEY, RECORDS

MANIFEST = "manifest.json"
#: The layout of the file; another number is refused.
LAYOUT = 1
#: Seconds to wait for a writer, as the server itself waits.
PATIENCE = 20


class CannotArchive(Exception):
    """Why there is no backup, or nothing was restored, in a sentence that says what to do."""


# Backup -------------------------------------------------------------------------------------------------------------


def write(directory: Path, file: Path) -> dict[str, Any]:
    """Write the backup of the installation in `directory` into `file`, which is new, and return its manifest.

    A server may go on meanwhile; it waits only for the instant. Raises CannotArchive, and then there is no file.
    """
    if not (directory / RECORDS).is_file():
        raise CannotArchive(f"There is no embedded installation in {directory}: set CLM_DATA_DIR.")
    if file.exists():
        raise CannotArchive(f"{file} exists already: choose another name.")
    partial = file.with_name(file.name + ".part")
    try:
        # Beside the backup, because that is where there must be room for it.
        with tempfile.TemporaryDirectory(prefix=".clm-backup-", dir=file.parent) as work:
            taken = _snapshot(directory, Path(work))
            if (directory / KEY).is_file():
                shutil.copyfile(directory / KEY, Path(work) / KEY)
            manifest = _manifest(Path(work), taken)
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                with tarfile.open(fileobj=out, mode="w:gz", compresslevel=3) as tar:
                    text = json.dumps(manifest, indent=2).encode()
                    entry = tarfile.TarInfo(MANIFEST)
                    entry.size = len(text)
                    tar.addfile(entry, BytesIO(text))
                    for name in manifest["files"]:
                        tar.add(Path(work) / name, arcname=name)
                out.flush()
                os.fsync(out.fileno())
            partial.rename(file)
    except OSError as refused:
        raise CannotArchive(f"{file} cannot be written ({refused.strerror}): choose a place with room.") from None
    except sqlite3.Error as refused:
        raise CannotArchive(f"The databases in {directory} cannot be read: {refused}.") from None
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def _snapshot(directory: Path, into: Path) -> datetime:
    """Copy both databases as they were at one instant, and return it.

    While both are held against writers a reader of each begins; it keeps seeing that instant for as long as it reads.
    """
    names = [name for name in (RECORDS, CHECKPOINTS) if (directory / name).is_file()]
    with ExitStack() as stack:
        readers = {}
        with ExitStack() as holding:
            for name in names:
                writer = holding.enter_context(closing(_open(directory / name)))
                writer.execute("BEGIN IMMEDIATE")
            taken = datetime.now(UTC)
            for name in names:
                readers[name] = stack.enter_context(closing(_open(directory / name)))
                readers[name].execute("BEGIN")
                readers[name].execute("SELECT count(*) FROM sqlite_master").fetchone()
        for name, reader in readers.items():
            with closing(_open(into / name)) as copy:
                reader.backup(copy)
    for name in names:
        _refuse_damaged(into / name)
    return taken


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)


def _refuse_damaged(path: Path) -> None:
    with closing(_open(path)) as copy:
        (said,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise CannotArchive(f"{path.name} is damaged: {said}. Restore the latest backup.")
        # All of it into the one file; a copy has no log beside it.
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _manifest(work: Path, taken: datetime) -> dict[str, Any]:
    with closing(_open(work / RECORDS)) as records:
        applied = records.execute("SELECT app, name FROM django_migrations ORDER BY app, name").fetchall()
        (sessions,) = records.execute("SELECT count(*) FROM sessions_app_session").fetchone()
    found = [name for name in (RECORDS, CHECKPOINTS, KEY) if (work / name).is_file()]
    return {
        "layout": LAYOUT,
        "taken_at": taken.isoformat(),
        "sessions": sessions,
        "migrations": [list(row) for row in applied],
        "files": {name: _sha256(work / name) for name in found},
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Restore ------------------------------------------------------------------------------------------------------------


def restore(file: Path, directory: Path, *, replace: bool) -> dict[str, Any]:
    """Put the installation of a backup into `directory`, and return the backup's manifest.

    With `replace`, what is there goes into a directory beside it, `replaced-…`. Raises CannotArchive, and then
    everything is as it was. The caller sees to it that no server runs there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    there = [name for name in (RECORDS, CHECKPOINTS) if (directory / name).exists()]
    if there and not replace:
        raise CannotArchive(
            f"{directory} has an installation already. With --replace it goes aside; or set CLM_DATA_DIR to another."
        )
    with tempfile.TemporaryDirectory(prefix=".clm-restore-", dir=directory) as work:
        manifest = _unpack(file, Path(work))
        _refuse_newer(manifest)
        for name in (RECORDS, CHECKPOINTS):
            if name in manifest["files"]:
                _refuse_damaged(Path(work) / name)
        if there:
            aside = directory / f"replaced-{datetime.now(UTC):%Y%m%d-%H%M%S}"
            aside.mkdir()
            for old in [KEY, *(f"{name}{end}" for name in (RECORDS, CHECKPOINTS) for end in ("", "-wal", "-shm"))]:
                if (directory / old).exists():
                    (directory / old).rename(aside / old)
        # Records last: a directory without them is none that a server takes for an installation.
        for name in sorted(manifest["files"], key=[KEY, CHECKPOINTS, RECORDS].index):
            (Path(work) / name).rename(directory / name)
    return manifest


def _unpack(file: Path, work: Path) -> dict[str, Any]:
    try:
        with tarfile.open(file, mode="r:gz") as tar:
            members = {member.name: member for member in tar.getmembers() if member.isfile()}
            said = tar.extractfile(members[MANIFEST])
            manifest: dict[str, Any] = json.loads(said.read() if said else b"")
            if manifest["layout"] != LAYOUT:
                raise CannotArchive(f"{file} was made by a newer CLM: update this one, then restore.")
            for name, expected in manifest["files"].items():
                if name not in {RECORDS, CHECKPOINTS, KEY}:
                    raise CannotArchive(f"{file} has a file {name!r}, which no backup has.")
                tar.extract(members[name], work, filter="data")
                if _sha256(work / name) != expected:
                    raise CannotArchive(f"{file} is damaged: {name} is not what was written. Take another backup.")
    except (OSError, tarfile.TarError, EOFError, KeyError, ValueError) as refused:
        raise CannotArchive(f"{file} cannot be read as a backup of CLM: {refused}. Name another file.") from None
    return manifest


def _refuse_newer(manifest: dict[str, Any]) -> None:
    known = set(MigrationLoader(None).disk_migrations)
    unknown = sorted(f"{app}.{name}" for app, name in manifest["migrations"] if (app, name) not in known)
    if unknown:
        raise CannotArchive(f"The backup is of a newer CLM (it has {unknown[0]}): update this one, then restore.")


def is_older(manifest: dict[str, Any]) -> bool:
    """Say whether the restored installation needs `migrate` before it can be served."""
    return bool(set(MigrationLoader(None).disk_migrations) - {(app, name) for app, name in manifest["migrations"]})
