"""`backup` and `restore` say what they cannot do, and then nothing has changed."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from clm_site.installation import CHECKPOINTS, KEY, RECORDS, archive
from clm_site.installation.occupancy import InUse, occupied
from clm_site.management.commands import backup, restore


def make(directory: Path, *, marker: str = "first") -> Path:
    """Make what counts as an installation for the archive, with a word to know it by."""
    directory.mkdir()
    (directory / KEY).write_text(marker)
    for name in (RECORDS, CHECKPOINTS):
        with closing(sqlite3.connect(directory / name, isolation_level=None)) as file:
            file.executescript(
                "PRAGMA journal_mode=WAL; CREATE TABLE django_migrations (app, name);"
                "CREATE TABLE sessions_app_session (id); CREATE TABLE word (word);"
                f"INSERT INTO word VALUES ('{marker}');"
            )
    return directory


def word(directory: Path, name: str = RECORDS) -> str:
    with closing(sqlite3.connect(directory / name)) as file:
        return str(file.execute("SELECT word FROM word").fetchone()[0])


def on(monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    """Let the commands find this database, whichever the suite runs on."""
    for command in (backup, restore):
        monkeypatch.setattr(command, "connection", SimpleNamespace(vendor=vendor))


@pytest.fixture
def data(settings, tmp_path, monkeypatch):
    """The data directory that the commands find."""
    on(monkeypatch, "sqlite")
    settings.CLM_DATA_DIR = make(tmp_path / "data")
    return settings.CLM_DATA_DIR


def test_a_restored_installation_is_the_one_that_was_backed_up(data, settings, tmp_path, capsys):
    call_command("backup", str(tmp_path / "b"))
    settings.CLM_DATA_DIR = tmp_path / "elsewhere"
    call_command("restore", str(tmp_path / "b"))
    assert [word(settings.CLM_DATA_DIR, name) for name in (RECORDS, CHECKPOINTS)] == ["first"] * 2
    assert (settings.CLM_DATA_DIR / KEY).read_text() == "first"
    assert "manage.py migrate" in capsys.readouterr().out


def test_both_databases_are_of_one_instant_whatever_is_written_meanwhile(data, tmp_path, monkeypatch):
    """A write to both between the two copies is in neither."""
    whole = sqlite3.connect
    writers = [whole(data / name, isolation_level=None) for name in (RECORDS, CHECKPOINTS)]
    copied = archive._open

    def then_write(path: Path) -> sqlite3.Connection:
        if path.parent != data:
            for writer in writers:
                writer.execute("UPDATE word SET word = 'later'")
        return copied(path)

    monkeypatch.setattr(archive, "_open", then_write)
    archive.write(data, tmp_path / "b")
    monkeypatch.undo()
    for writer in writers:
        writer.close()
    archive.restore(tmp_path / "b", tmp_path / "elsewhere", replace=False)
    assert [word(tmp_path / "elsewhere", name) for name in (RECORDS, CHECKPOINTS)] == ["first"] * 2
    assert word(data) == "later"


def test_an_installation_that_is_there_is_refused_and_with_replace_goes_aside(data, tmp_path):
    archive.write(make(tmp_path / "other", marker="second"), tmp_path / "b")
    with pytest.raises(CommandError, match=r"--replace.*Nothing was restored"):
        call_command("restore", str(tmp_path / "b"))
    assert word(data) == "first"
    call_command("restore", str(tmp_path / "b"), "--replace")
    assert word(data) == "second"
    (aside,) = data.glob("replaced-*")
    assert word(aside) == "first"
    assert (aside / KEY).read_text() == "first"


def test_nothing_is_restored_under_a_running_server(data, tmp_path):
    call_command("backup", str(tmp_path / "b"))
    with occupied(data), pytest.raises(CommandError, match="A server runs on"):
        call_command("restore", str(tmp_path / "b"), "--replace")


def test_no_server_starts_while_an_installation_is_restored_or_moved(data):
    with occupied(data, alone=True), pytest.raises(InUse, match="start again"), occupied(data):
        pass
    with occupied(data), occupied(data):
        """Servers share one."""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"layout": 2}, "newer CLM"),
        ({"migrations": [["sessions_app", "9999_from_the_future"]]}, "sessions_app.9999_from_the_future"),
        ({"files": {RECORDS: "0" * 64}}, "is damaged"),
        ({"files": {"../escape": "0" * 64}}, "which no backup has"),
    ],
)
def test_a_backup_that_is_newer_or_not_as_it_was_written_is_refused(data, tmp_path, changed, says):
    archive.write(data, tmp_path / "b")
    with tarfile.open(tmp_path / "b") as tar, tarfile.open(tmp_path / "c", "w:gz") as out:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file
            content = file.read()
            if member.name == archive.MANIFEST:
                content = json.dumps({**json.loads(content), **changed}).encode()
                member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    with pytest.raises(archive.CannotArchive, match=says):
        archive.restore(tmp_path / "c", tmp_path / "elsewhere", replace=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_no_backup_is_refused(data, tmp_path):
    (tmp_path / "b").write_text("no archive")
    with pytest.raises(CommandError, match="cannot be read as a backup"):
        call_command("restore", str(tmp_path / "b"), "--replace")
    assert word(data) == "first"


def test_a_backup_never_overwrites_another(data, tmp_path):
    call_command("backup", str(tmp_path / "b"))
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", str(tmp_path / "b"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "data"]


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_on_postgresql_the_commands_name_its_own(data, tmp_path, monkeypatch, command):
    on(monkeypatch, "postgresql")
    with pytest.raises(CommandError, match="pg_"):
        call_command(command, str(tmp_path / "b"))
