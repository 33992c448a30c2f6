"""Migrations are safe while the version before them still runs: every one since that was promised is held to it."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django_migration_linter import MigrationLinter

from tests.serving.server import ROOT

#: The last migration of each app from before the promise (docs/upgrading.md); never moved forward.
BEFORE = {"sessions_app": "0005_facts", "approvals_app": "0011_decision_verdicts"}


def bound() -> list[tuple[str, str]]:
    """Return the migrations that the promise is about."""
    found = MigrationLoader(None).disk_migrations
    return sorted((app, name) for app, name in found if app in {*BEFORE, "clm_site"} and name > BEFORE.get(app, ""))


def lint(app: str, name: str) -> list[str]:
    """Return what the linter has against a migration, by its SQL."""
    linter = MigrationLinter(str(ROOT), no_cache=True, no_output=True, include_apps=[app], include_name=[name])
    said: list[str] = []
    linter.print_errors = lambda errors: said.extend(error.code for error in errors)  # type: ignore[method-assign]
    linter.lint_all_migrations(app_label=app)
    assert linter.nb_total - linter.nb_ignored == 1
    return said


#: The suite runs on both databases; two versions side by side are PostgreSQL's.
on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL's SQL is what is read.")


@on_postgresql
@pytest.mark.django_db
def test_a_migration_is_safe_while_the_old_version_still_runs():
    said = {f"{app} {name}": found for app, name in bound() if (found := lint(app, name))}
    assert said == {}, "docs/upgrading.md says what a migration may do"


@on_postgresql
@pytest.mark.django_db
def test_the_linter_sees_a_column_that_the_old_version_cannot_fill():
    """It must be able to fail: a migration from before the promise adds such a column."""
    assert lint("approvals_app", "0011_decision_verdicts") == ["NOT_NULL"]


def test_the_promise_begins_at_migrations_that_exist():
    assert set(BEFORE.items()) <= set(MigrationLoader(None).disk_migrations)
    assert "tests/deploy/test_migrations.py" in (ROOT / "docs" / "upgrading.md").read_text()
