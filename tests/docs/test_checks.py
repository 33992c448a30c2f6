"""The system checks: each says what is wrong and what to do, and stands in docs/checks.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from django.conf import settings as live
from django.core.checks import run_checks

from clm_site import checks

DOC = Path(__file__).resolve().parents[2] / "docs" / "checks.md"


def found(*, deploy: bool = False) -> dict[str, str]:
    """Return the numbers that our checks give now, each with its text and hint."""
    messages = run_checks(tags=["clm"], include_deployment_checks=deploy)
    assert all(message.hint for message in messages)
    return {str(message.id): f"{message.msg} | {message.hint}" for message in messages}


@pytest.fixture
def exposed(settings):
    """Settings of a desk that other machines reach, as they should be."""
    settings.CLM_HOST = "0.0.0.0"
    settings.CLM_OPEN_LOOPBACK = False
    settings.DEBUG = False
    settings.SESSION_COOKIE_SECURE = True
    settings.ALLOWED_HOSTS = ["desk.example.org"]
    settings.SECRET_KEY = "s" * 50
    return settings


def test_the_embedded_default_has_nothing_to_complain_of():
    assert found(deploy=True) == {}


def test_a_desk_for_others_that_is_set_up_well_has_nothing_to_complain_of(exposed):
    assert found() == {}


@pytest.mark.parametrize(
    ("setting", "value", "number"),
    [
        ("CLM_OPEN_LOOPBACK", True, "clm.E003"),
        ("DEBUG", True, "clm.E004"),
        ("SESSION_COOKIE_SECURE", False, "clm.W001"),
        ("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"], "clm.W002"),
        ("SECRET_KEY", "short", "clm.W003"),
    ],
)
def test_what_is_meant_for_ones_own_machine_is_noticed_on_an_open_address(exposed, setting, value, number):
    setattr(exposed, setting, value)
    assert list(found()) == [number]
    exposed.CLM_HOST = "127.0.0.2"
    assert found() == {}


def test_e001_names_each_thing_that_is_wrong_with_the_file_and_its_line(settings, tmp_path):
    settings.CLM_CONFIG = tmp_path / "clm.toml"
    settings.CLM_CONFIG.write_text("[limits]\nconcurrent_runs = 0\nspeed = 1\n")
    messages = run_checks(tags=["clm"])
    assert [message.id for message in messages] == ["clm.E001", "clm.E001"]
    assert "clm.toml, line 2: limits.concurrent_runs" in messages[0].msg
    assert "clm.toml, line 3: limits.speed" in messages[1].msg


def test_e001_says_that_the_file_cannot_be_read(settings, tmp_path):
    settings.CLM_CONFIG = tmp_path / "nowhere.toml"
    assert "cannot be read" in found()["clm.E001"]


def test_e002_says_that_the_data_directory_cannot_be_written(settings, tmp_path):
    (tmp_path / "file").touch()
    settings.CLM_DATA_DIR = tmp_path / "file" / "var"
    assert str(settings.CLM_DATA_DIR) in found()["clm.E002"]


def test_a_data_directory_that_is_missing_is_made_and_left_empty(settings, tmp_path):
    settings.CLM_DATA_DIR = tmp_path / "new" / "var"
    assert found() == {}
    assert list(settings.CLM_DATA_DIR.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["localhost:6379", "http://localhost:6379", "redis://", "redis://host:port/0", "redis://host:99999", "unix://"],
)
def test_e005_notices_what_is_no_redis_address_and_never_repeats_it(settings, url):
    settings.REDIS_URL = url
    assert "redis://host:6379/0" in found()["clm.E005"]


@pytest.mark.parametrize("url", ["redis://localhost", "rediss://u:p@host:6380/1", "unix:///run/redis.sock"])
def test_a_redis_address_passes(settings, url):
    settings.REDIS_URL = url
    assert found() == {}


def test_e006_and_e008_notice_packages_that_are_not_installed(settings, monkeypatch):
    settings.REDIS_URL = "redis://localhost"
    monkeypatch.setitem(live.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    monkeypatch.setattr(checks, "_installed", lambda package: False)
    assert "clm[redis]" in found()["clm.E006"]
    assert "Missing: psycopg, psycopg_pool, langgraph.checkpoint.postgres." in found()["clm.E008"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere.graph", "ModuleNotFoundError"),
        ("sessions_app.states.no_such", "ImportError"),
        ("no-dots", "ImportError"),
        ("sessions_app.states.TERMINAL", "is not a function"),
    ],
)
def test_e007_notices_a_graph_that_cannot_be_imported(settings, path, says):
    settings.CLM_GRAPHS = {"billing": path}
    text = found()["clm.E007"]
    assert f"billing={path}" in text
    assert says in text


def test_e007_survives_a_module_that_raises(settings, tmp_path, monkeypatch):
    (tmp_path / "clm_broken_graph.py").write_text("raise RuntimeError('half written')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.CLM_GRAPHS = {"billing": "clm_broken_graph.spec"}
    assert "RuntimeError: half written" in found()["clm.E007"]
    sys.modules.pop("clm_broken_graph", None)


def test_a_graph_that_can_be_imported_passes(settings):
    settings.CLM_GRAPHS = {"billing": "tests.fakes.graph_of"}
    assert found() == {}


@pytest.mark.parametrize(("name", "value"), [("CLM_PORT", 70_000), ("CLM_LEASE_SECONDS", 1), ("CLM_MAX_ATTEMPTS", 0)])
def test_e009_notices_a_number_that_cannot_work(settings, name, value):
    setattr(settings, name, value)
    assert f"{name} is {value}." in found()["clm.E009"]


def test_e010_makes_each_agents_model_only_when_deployment_is_checked(settings, tmp_path, monkeypatch):
    monkeypatch.delenv("CLM_TEST_KEY", raising=False)
    settings.CLM_CONFIG = tmp_path / "clm.toml"
    settings.CLM_CONFIG.write_text('[models]\ndefault = "openai:gpt-5"\napi_key_env = "CLM_TEST_KEY"\n')
    assert found() == {}
    assert "CLM_TEST_KEY is empty" in found(deploy=True)["clm.E010"]


def test_e015_keeps_commands_off_files_whose_records_have_moved(settings, monkeypatch, tmp_path):
    settings.CLM_DATA_DIR = tmp_path
    settings.CLM_ENGINE = "inprocess"
    monkeypatch.setitem(live.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    assert found() == {}
    (tmp_path / "moved_to_postgres").write_text("Moved to PostgreSQL at noon.")
    assert "at noon" in found()["clm.E015"]
    monkeypatch.setitem(live.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    assert found() == {}


def test_every_number_stands_in_the_docs_and_no_other():
    documented = set(re.findall(r"clm\.[EW]\d{3}", DOC.read_text()))
    assert documented == set(checks.IDS)
    source = Path(checks.__file__).read_text()
    used = re.findall(r'(?:error|warning)\(\s*"(clm\.[EW]\d{3})"', source)
    assert set(used) == set(checks.IDS)


def test_the_loopback_names_are_the_settings_own():
    assert "127.0.0.1" in live.LOOPBACK


@pytest.fixture
def scaled(settings, monkeypatch):
    """Settings of an installation with workers, as they should be."""
    settings.CLM_ENGINE = "procrastinate"
    settings.REDIS_URL = "redis://localhost"
    settings.CLM_SECRET_KEY_GIVEN = True
    monkeypatch.setitem(live.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    return settings


def test_an_installation_with_workers_that_is_set_up_well_has_nothing_to_complain_of(scaled):
    assert found() == {}


def test_e011_names_the_engines_that_there_are(settings):
    settings.CLM_ENGINE = "celery"
    assert "inprocess or procrastinate" in found()["clm.E011"]


def test_e012_and_e013_say_what_workers_need(scaled, monkeypatch):
    monkeypatch.setitem(live.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setattr(checks, "_installed", lambda package: package != "procrastinate")
    assert set(found()) == {"clm.E012", "clm.E013"}


@pytest.mark.parametrize(("engine", "wrong"), [("sqlite3", {"CLM_PGBOUNCER": True}), ("postgresql", {})])
def test_e014_notices_a_pooler_that_does_not_fit(settings, monkeypatch, engine, wrong):
    monkeypatch.setitem(live.DATABASES["default"], "ENGINE", f"django.db.backends.{engine}")
    settings.CLM_PGBOUNCER = wrong.get("CLM_PGBOUNCER", False)
    settings.CLM_DIRECT_DATABASE_URL = "" if wrong else "db.internal:5432"
    assert "clm.E014" in found()


@pytest.mark.parametrize(
    ("setting", "value", "number"), [("REDIS_URL", "", "clm.W004"), ("CLM_SECRET_KEY_GIVEN", False, "clm.W005")]
)
def test_what_works_less_well_with_workers_than_it_could_is_a_warning(scaled, setting, value, number):
    setattr(scaled, setting, value)
    assert list(found()) == [number]
