from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from sessions_app.exceptions import Conflict

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from sessions_app.models.session import Session


class ApiToken(models.Model):
    """A bearer token of one person, kept as a hash and shown once."""

    class Scope(models.TextChoices):
        WRITE = "sessions:write", "start and stop sessions"
        READ = "sessions:read", "read sessions"
        DECIDE = "gates:decide", "decide gates"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100, blank=True)
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the token.")
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name or 'token'} of {self.user}"

    @classmethod
    def issue(
        cls,
        user: User,
        *,
        scopes: list[str] | None = None,
        name: str = "",
        expires_at: datetime | None = None,
    ) -> str:
        """Keep a new token's hash and return the token; nobody can read it again."""
        token = f"clm_{secrets.token_urlsafe(32)}"
        cls.objects.create(
            user=user,
            name=name,
            digest=cls.digest_of(token),
            scopes=scopes if scopes is not None else list(cls.Scope.values),
            expires_at=expires_at,
        )
        return token

    @classmethod
    def find(cls, token: str) -> ApiToken | None:
        """Return the live token that `token` is, with its active user, or None."""
        found = cls.objects.select_related("user").filter(digest=cls.digest_of(token)).first()
        if found is None or not found.user.is_active:
            return None
        return found if found.expires_at is None or found.expires_at > timezone.now() else None

    @staticmethod
    def digest_of(token: str) -> str:
        """Return the hash under which a token is kept: 256 random bits need no slow hash."""
        return hashlib.sha256(token.encode()).hexdigest()


class IdempotencyKey(models.Model):
    """A client's own name for one submission, so that sending it twice starts one session."""

    scope = models.CharField(max_length=200, help_text="Whose key it is; two people may use the same.")
    key = models.CharField(max_length=200)
    request_digest = models.CharField(max_length=64)
    session = models.ForeignKey("sessions_app.Session", on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return f"{self.scope} {self.key}"

    @classmethod
    def find(cls, scope: str, key: str) -> IdempotencyKey | None:
        """Return the earlier use of the key, if there is one."""
        return cls.objects.select_related("session").filter(scope=scope, key=key).first()

    @classmethod
    def keep(cls, scope: str, key: str, session: Session, asked: dict[str, Any]) -> None:
        """Tie the key to the session that it started."""
        cls.objects.create(scope=scope, key=key, session=session, request_digest=_digest(asked))

    def session_for(self, asked: dict[str, Any]) -> Session:
        """Return the session of the first use, or raise Conflict when that asked for something else."""
        if self.request_digest != _digest(asked):
            raise Conflict(
                "That Idempotency-Key was used for another request: use a new key, or send the same body.",
                session_id=self.session_id,
            )
        return self.session


def _digest(asked: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
