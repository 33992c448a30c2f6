"""What is hidden and what is not, by name and by shape; and that an edit never writes the mark back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessions_app import redaction
from sessions_app.agents import config
from sessions_app.agents.consequence import consequence
from sessions_app.redaction import MARK, HiddenPart, restored, shown, shown_text

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWORD", "db_password", "dbPassword", "token", "access_token", "authorization", "api_key"),
        *("apiKey", "X-Api-Key", "aws_secret_access_key", "client_secret", "Set-Cookie", "credentials", "DATABASE_DSN"),
    ],
)
def test_a_secret_s_name_is_known_in_every_spelling(name: str) -> None:
    assert shown({name: "abc"}) == {name: MARK}
    assert shown({"deep": [{name: {"a": 1}}]}) == {"deep": [{name: MARK}]}


@pytest.mark.parametrize(
    "name", ["tokens", "token_usage", "input_tokens", "password_policy", "key", "api_key_env", "secretary", "digest"]
)
def test_a_name_that_only_sounds_like_one_is_shown(name: str) -> None:
    assert shown({name: "abc"}) == {name: "abc"}


@pytest.mark.parametrize("value", [None, "", [], {}, True, False])
def test_that_a_secret_is_missing_is_no_secret(value: Any) -> None:
    assert shown({"password": value}) == {"password": value}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"got {JWT}!", f"got {MARK}!"),
        ("Authorization: Bearer abc", f"Authorization: {MARK}"),
        ("curl -H 'authorization: Basic dXNlcjpwYXNz' x", f"curl -H 'authorization: {MARK}' x"),
        ("sent Bearer 0a1b2c3d4e5f6g7h", f"sent Bearer {MARK}"),
        ("postgres://app:hunter2@db:5432/x?y", f"postgres://app:{MARK}@db:5432/x?y"),
        ("redis://:hunter2@cache/0", f"redis://:{MARK}@cache/0"),
        ("key AKIAIOSFODNN7EXAMPLE used", f"key {MARK} used"),
        (f"a {KEY} b", f"a {MARK} b"),
        (KEY[:50], MARK),
        ("ghp_0123456789abcdef0123456789abcdef0123", MARK),
        ("xoxb-0123456789-abc", MARK),
        ("sk-0123456789abcdefghijk", MARK),
        ("export DB_PASSWORD=hunter2;", f"export DB_PASSWORD={MARK};"),
        ('{"password": "hunter2", "n": 1', f'{{"password": {MARK}, "n": 1'),
        ('{\\"api_key\\": \\"k-1\\"}', f'{{\\"api_key\\": {MARK}}}'),
        ('"password": "cut off in the mid', f'"password": {MARK}'),
        ("token: abcdef", f"token: {MARK}"),
        ("password='a b c' next", f"password={MARK} next"),
    ],
)
def test_a_secret_s_shape_is_found_in_any_text_and_once_is_enough(text: str, expected: str) -> None:
    assert shown_text(text) == expected
    assert shown_text(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The bearer of this letter, bearer authentication and basic troubleshooting.",
        "http://127.0.0.1:8000/path@2x.png",
        "INC-20260516-061 pool 20/20 busy, 41 waiting; token bucket, 12 tokens",
        "a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1",
        "SELECT key FROM secrets WHERE id = 1",
    ],
)
def test_what_only_looks_a_little_like_one_is_shown(text: str) -> None:
    assert shown_text(text) == text


def test_a_named_value_as_in_an_environment_is_hidden_and_a_schema_is_not() -> None:
    env = [{"name": "DB_PASSWORD", "value": "x"}, {"name": "ZONE", "value": "y"}]
    assert shown(env) == [{"name": "DB_PASSWORD", "value": MARK}, {"name": "ZONE", "value": "y"}]
    schema = {"properties": {"password": {"type": "string", "default": "a://b:c@d"}}}
    assert shown(schema) == {"properties": {"password": {"type": "string", "default": f"a://b:{MARK}@d"}}}
    assert shown({"properties": {"password": "x"}}) == {"properties": {"password": MARK}}


def test_what_is_nested_without_end_is_left_out_and_not_recursed_into_for_ever() -> None:
    deep: Any = "password=hunter2"
    for _ in range(5000):
        deep = [deep]
    assert "hunter2" not in str(shown(deep)[0][0])[:200_000]


def test_a_long_text_without_end_is_searched_in_time() -> None:
    for text in ("a://" * 50_000, "password" * 50_000, "eyJ" * 50_000, "Bearer " * 50_000, "-----BEGIN " * 20_000):
        shown_text(text)


def test_a_site_adds_names_and_shapes_of_its_own(tmp_path: Path, settings: Any) -> None:
    path = tmp_path / "clm.toml"
    path.write_text('[redaction]\nnames = ["PIN-Code"]\npatterns = ["ACME-[0-9]{4}"]\n')
    settings.CLM_CONFIG = path
    config.current.cache_clear()
    assert shown({"user_pin_code": "1234", "t": "ACME-1234"}) == {"user_pin_code": MARK, "t": MARK}


@pytest.mark.parametrize("pattern", ["(", ".*", "a?"])
def test_a_pattern_that_is_none_or_hides_everything_is_refused(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "clm.toml"
    path.write_text(f"[redaction]\npatterns = ['{pattern}']\n")
    with pytest.raises(config.ConfigError, match=r"redaction\.patterns"):
        config.load(path)


def test_a_sentence_is_made_without_secrets() -> None:
    said = consequence("lab:open", {"password": "hunter2", "url": "a://b:hunter2@c"}, tools={})
    assert "hunter2" not in said.text


# Putting back ----------------------------------------------------------------------------------------------------

ORIGINAL: dict[str, Any] = {
    "password": "hunter2",
    "script": "TOKEN=abcdef\nrun",
    "hosts": [{"name": "a", "token": "t-a"}, {"name": "b", "token": "t-b"}],
    "n": 1,
}


def test_what_was_left_as_it_was_shown_gets_its_original_back() -> None:
    assert restored(shown(ORIGINAL), ORIGINAL) == ORIGINAL
    edited = {**shown(ORIGINAL), "n": 2}
    assert restored(edited, ORIGINAL) == {**ORIGINAL, "n": 2}


def test_what_was_written_anew_is_taken() -> None:
    edited = {**shown(ORIGINAL), "password": "better", "script": "run"}
    assert restored(edited, ORIGINAL) == {**ORIGINAL, "password": "better", "script": "run"}


def test_an_item_that_moved_keeps_its_own_secret() -> None:
    seen = shown(ORIGINAL)["hosts"]
    assert restored({"hosts": [seen[1]]}, ORIGINAL) == {"hosts": [ORIGINAL["hosts"][1]]}


@pytest.mark.parametrize(
    "edited",
    [
        {"script": f"TOKEN={MARK}\nrun twice"},
        {"new": MARK},
        {"hosts": [{"name": "c", "token": MARK}, {"name": "d", "token": MARK}, {"name": "e", "token": MARK}]},
        {"n": MARK},
    ],
)
def test_a_mark_that_stands_for_nothing_is_refused(edited: dict[str, Any]) -> None:
    with pytest.raises(HiddenPart):
        restored(edited, ORIGINAL)


def test_a_text_that_really_has_the_mark_in_it_stays() -> None:
    assert restored({"t": f"see {MARK}"}, {"t": f"see {MARK}"}) == {"t": f"see {MARK}"}


def test_every_shape_has_a_hint_that_its_own_examples_have() -> None:
    """A hint that is too narrow would hide nothing, and nobody would see it."""
    assert all(hints for hints, _ in redaction._SHAPES)
