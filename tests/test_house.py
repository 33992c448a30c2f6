"""The house: the import direction, and the names that no module has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Each app and what it must never know.
BANNED = {"sessions_app": ("approvals_app", "clm_site"), "approvals_app": ("clm_site",)}
#: Calls that import, or find a model, by a name in quotes.
BY_NAME = {"__import__", "import_module", "import_string", "get_model", "get_app_config", "include", "find_spec"}
WORDS_WITHOUT_MEANING = {"services", "utils", "util", "helpers", "helper", "managers", "misc", "common"}


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every name that a module imports, at its top or inside a function, by statement or in quotes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            named = [*node.args, *(keyword.value for keyword in node.keywords)]
            if called in BY_NAME or called.endswith(("ForeignKey", "OneToOneField", "ManyToManyField")):
                for value in named:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield node.lineno, value.value


def against_the_direction(app: str, source: str) -> list[tuple[int, str]]:
    """Return the imports of `source`, a module of `app`, that go the wrong way."""
    return [(line, name) for line, name in imported(ast.parse(source)) if name.partition(".")[0] in BANNED.get(app, ())]


@pytest.mark.parametrize("app", BANNED)
def test_no_app_imports_what_stands_above_it(app):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / app).rglob("*.py"))
        for line, name in against_the_direction(app, path.read_text())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "import approvals_app",
        "from approvals_app.models import Gate",
        "def later():\n    from approvals_app import models",
        "import importlib\nimportlib.import_module('approvals_app.models')",
        "gates = apps.get_model('approvals_app', 'Gate')",
        "gate = models.ForeignKey('approvals_app.Gate', on_delete=models.CASCADE)",
        "from clm_site.settings import LOOPBACK",
    ],
)
def test_every_way_to_import_against_the_direction_is_seen(source):
    assert against_the_direction("sessions_app", source)


def test_the_allowed_direction_is_left_alone():
    assert not against_the_direction("approvals_app", "from sessions_app.models import Session")
    assert not against_the_direction("clm_site", "from approvals_app.models import Gate")


def test_no_module_is_named_for_what_it_is_instead_of_what_it_does():
    apps = ("clm_site", "approvals_app", "sessions_app")
    named = [path for app in apps for path in (ROOT / app).rglob("*.py") if path.stem in WORDS_WITHOUT_MEANING]
    assert not named
