"""The API's own description: complete, served, and told to people in docs/api.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders

from clm_site.http import PLAIN
from sessions_app.models import ApiToken
from sessions_app.states import CallStatus
from sessions_app.streams import REFUSED

pytestmark = pytest.mark.django_db
PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture
def document(local):
    return local.get("/openapi.json").json()


def test_every_path_and_method_is_in_the_docs(document):
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path.removeprefix('/api/v1')}`" in PAGE, f"docs/api.md lacks {method} {path}"


def test_the_docs_have_no_path_that_is_not_there(document):
    known = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    told = set(re.findall(r"`((?:GET|POST|DELETE) /[^`?]*)`", PAGE))
    assert told - known <= {"GET /healthz", "GET /readyz", "GET /docs", "GET /openapi.json"}


def test_every_field_is_in_the_docs(document):
    for name, schema in document["components"]["schemas"].items():
        for field in schema.get("properties", {}):
            assert f"`{field}`" in PAGE, f"docs/api.md lacks {field} of {name}"


def test_every_parameter_is_in_the_docs(document):
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                assert f"`{parameter['name']}`" in PAGE, f"docs/api.md lacks {parameter['name']} of {path}"


def test_every_code_scope_status_and_close_code_is_in_the_docs():
    codes = {code for code, _ in PLAIN.values()} | {"conflict", "unprocessable_entity", "rate_limited"}
    for word in [*codes, *ApiToken.Scope.values, *CallStatus.values, *map(str, REFUSED.values())]:
        assert f"`{word}`" in PAGE, f"docs/api.md lacks {word}"


def test_every_operation_is_described_and_its_error_too(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), f"{method} {path}"
            assert "ErrorAnswer" in str(operation["responses"]["default"])
    assert "ErrorAnswer" in document["components"]["schemas"]


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(local):
    response = local.get("/docs")
    assert response.status_code == 200
    assert "default-src 'self'" in response["Content-Security-Policy"]
    page = response.content.decode()
    assert "<style" not in page
    assert not re.search(r"\son\w+=", page)
    for script in re.findall(r"<script([^>]*)>", page):
        assert "src=" in script or 'type="application/json"' in script
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert address.startswith("/static/"), address
        assert finders.find(address.removeprefix("/static/")), address
    assert '"/api/v1/openapi.json"' in page
