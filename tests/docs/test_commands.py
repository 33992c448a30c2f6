"""docs/commands.md has every command of ours with every option of its own."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

DOC = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text()
OURS = {name: app for name, app in get_commands().items() if app in {"sessions_app", "approvals_app", "clm_site"}}


def section_of(command: str) -> str:
    found = re.search(rf"^## `{command}\b.*?(?=^## |\Z)", DOC, re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def own_arguments(command: str) -> list[argparse.Action]:
    parser = load_command_class(OURS[command], command).create_parser("manage.py", command)
    usual = {action.dest for action in BaseCommand().create_parser("manage.py", "x")._actions}
    return [action for action in parser._actions if action.dest not in usual]


@pytest.mark.parametrize("command", sorted(OURS))
def test_a_command_is_documented_with_its_options(command):
    section = section_of(command)
    assert section, f"docs/commands.md has no section `{command}`"
    for argument in own_arguments(command):
        for flag in argument.option_strings:
            assert f"`{flag}" in section, f"{command} {flag} is not documented"
        if isinstance(argument, argparse._SubParsersAction):
            for verb in argument.choices:
                assert f"`{command} {verb}" in section
        elif not argument.option_strings:
            assert str(argument.metavar) in section
        assert argument.help or isinstance(argument, argparse._SubParsersAction)


@pytest.mark.parametrize("command", sorted(OURS))
def test_no_option_is_documented_that_the_command_lacks(command):
    known = {flag for argument in own_arguments(command) for flag in argument.option_strings}
    listed = re.findall(r"^- `(--[\w-]+)", section_of(command), re.MULTILINE)
    assert set(listed) <= known


def test_every_section_is_a_command():
    named = re.findall(r"^## `(\w+)", DOC, re.MULTILINE)
    assert sorted(named) == sorted(OURS)
