"""Issue an API token from a terminal, which is the only place where one is ever shown."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from sessions_app.models import ApiToken

#: A token that should live longer than ten years is one that never expires: leave --days out.
MAX_DAYS = 3650


class Command(BaseCommand):
    """Make a bearer token for one person and print it, once."""

    help = (
        "Issue an API token for a user. The token alone goes to standard output, so `TOKEN=$(manage.py "
        "issue_token bob)` works; everything else goes to standard error. It cannot be shown again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose it is, what it may do and how long."""
        parser.add_argument("username", metavar="USERNAME", help="whose token it is, and who its actions are by")
        parser.add_argument(
            "--scope",
            action="append",
            metavar="SCOPE",
            help=f"what it may do, again for more: {', '.join(ApiToken.Scope.values)} (default: all of them)",
        )
        parser.add_argument("--days", type=int, metavar="N", help="how long it lives (default: until revoked)")
        parser.add_argument("--name", default="", help="what it is for, shown in the admin")

    def handle(self, *args: Any, **options: Any) -> None:
        """Issue it; the hint goes to standard error, so that only the token is captured."""
        scopes = _scopes(options["scope"])
        days = options["days"]
        if days is not None and not 1 <= days <= MAX_DAYS:
            raise CommandError(f"--days {days} does not fit: write 1 to {MAX_DAYS}, or leave it out.")
        length = ApiToken._meta.get_field("name").max_length or 0
        if len(options["name"]) > length:
            raise CommandError(f"--name has {len(options['name'])} characters: write at most {length}.")
        user = _user(options["username"])
        expires_at = timezone.now() + timedelta(days=days) if days else None
        token = ApiToken.issue(user, scopes=scopes, name=options["name"], expires_at=expires_at)
        self.stdout.write(token)
        until = f"until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "until it is deleted in the admin"
        self.stderr.write(
            f"This token acts as {user.get_username()} ({', '.join(scopes)}) {until}. Keep it: it is not "
            'shown again. Send it as "Authorization: Bearer <token>".',
            self.style.WARNING,
        )


def _scopes(wanted: list[str] | None) -> list[str]:
    known: list[str] = list(ApiToken.Scope.values)
    if not wanted:
        return known
    if unknown := [scope for scope in wanted if scope not in known]:
        raise CommandError(f"There is no scope {unknown[0]!r}: write one of {', '.join(known)}.")
    return [scope for scope in known if scope in wanted]


def _user(username: str) -> Any:
    user = get_user_model().objects.filter(**{get_user_model().USERNAME_FIELD: username}).first()
    if user is None:
        raise CommandError(f"There is no user {username!r}: `manage.py createsuperuser` or the admin makes one.")
    if not user.is_active:
        raise CommandError(f"{username} is not active, so a token would open nothing: make them active first.")
    return user
