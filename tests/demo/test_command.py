from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.demo.conftest import Clinic


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("demo", *arguments, stdout=out)
    return out.getvalue()


def test_it_breaks_heals_and_says_how_the_service_is(clinic: Clinic) -> None:
    broken = said("break", "bad_deploy")
    assert "fault: bad_deploy" in broken
    assert "requests fail" in broken
    healed = said("heal")
    assert "is healthy" in healed
    assert "fault: none" in healed
    assert "is healthy" in said("status")


def test_without_a_running_service_it_says_how_to_start_one(tmp_path: Path, settings: Any) -> None:
    settings.CLM_DATA_DIR = tmp_path
    for arguments in (["status"], ["heal"], ["break", "disk_full"]):
        with pytest.raises(CommandError, match=r"manage\.py serve --demo"):
            said(*arguments)


def test_it_refuses_a_fault_that_it_does_not_know() -> None:
    with pytest.raises(CommandError, match="invalid choice: 'gremlins'"):
        said("break", "gremlins")
