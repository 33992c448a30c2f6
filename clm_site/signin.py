"""One-time sign-in links: printed once by `serve --demo`, good for one sign-in."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode


class SignInTokenGenerator(PasswordResetTokenGenerator):
    """Makes tokens that the sign-in itself uses up: the person's last sign-in is part of what is signed.

    The salt is its own, so that a sign-in link never resets a password.
    """

    key_salt = "clm_site.signin.SignInTokenGenerator"


_tokens = SignInTokenGenerator()


def make_link(user: User) -> str:
    """Return the path of a link that signs this person in once, within PASSWORD_RESET_TIMEOUT."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return reverse("sign_in_by_link", args=[uid, _tokens.make_token(user)])


def person_of(uid: str, token: str) -> User | None:
    """Return whom the link signs in, or None when it was used, has run out or never was one."""
    try:
        user = User.objects.get(pk=urlsafe_base64_decode(uid).decode(), is_active=True)
    except (User.DoesNotExist, ValueError, OverflowError):
        return None
    return user if _tokens.check_token(user, token) else None
