"""`manage.py issue_token`: the token alone on standard output, once; everything else beside it."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from sessions_app.models import ApiToken


def issue(*args: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("issue_token", *args, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_only_the_token_goes_to_standard_output_so_that_a_script_can_take_it(bob):
    out, err = issue("bob")
    token = out.strip()
    assert out == f"{token}\n"
    found = ApiToken.find(token)
    assert found is not None
    assert found.user == bob
    assert token not in err
    assert "acts as bob (sessions:write, sessions:read, gates:decide) until it is deleted in the admin." in err


def test_it_is_kept_as_a_hash_only(bob):
    out, _ = issue("bob")
    row = ApiToken.objects.values().get()
    assert out.strip() not in str(row)
    assert row["digest"] == ApiToken.digest_of(out.strip())


def test_scopes_days_and_name_are_kept(bob):
    _, err = issue("bob", "--scope", "gates:decide", "--scope", "sessions:read", "--days", "7", "--name", "pager")
    row = ApiToken.objects.get()
    assert (row.scopes, row.name) == (["sessions:read", "gates:decide"], "pager")
    assert row.expires_at is not None
    assert timedelta(days=6, hours=23) < row.expires_at - timezone.now() <= timedelta(days=7)
    assert f"until {row.expires_at:%Y-%m-%d}" in err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nobody"], "There is no user 'nobody': `manage.py createsuperuser` or the admin makes one."),
        (["bob", "--scope", "all"], "There is no scope 'all': write one of sessions:write, sessions:read"),
        (["bob", "--days", "0"], "--days 0 does not fit: write 1 to 3650, or leave it out."),
        (["bob", "--days", "-1"], "--days -1 does not fit"),
        (["bob", "--days", "999999999999"], "does not fit"),
        (["bob", "--name", "n" * 101], "--name has 101 characters: write at most 100."),
    ],
)
def test_bad_input_is_refused_with_what_to_write_and_no_token_is_made(bob, args, says):
    with pytest.raises(CommandError, match=r".") as raised:
        issue(*args)
    assert says in str(raised.value)
    assert not ApiToken.objects.exists()


def test_somebody_who_is_not_active_gets_none(bob):
    type(bob).objects.filter(pk=bob.pk).update(is_active=False)
    with pytest.raises(CommandError, match="bob is not active"):
        issue("bob")
