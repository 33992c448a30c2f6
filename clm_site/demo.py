"""What `serve --demo` adds: the cast, the sick service, and the first incident."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import Group, User

from approvals_app.models import Gate
from clm_site.signin import make_link
from sessions_app.models import Session

#: Name, groups, and whether it is the administrator.
CAST = (
    ("alice", ("operator",), False),
    ("bob", ("approver",), False),
    ("charlie", (), False),
    ("admin", ("operator", "approver"), True),
)
FIRST_INCIDENT = "checkout answers slowly and some requests time out; find out why and put it right"


@dataclass(frozen=True)
class Greeting:
    """What the person who started the demo is told."""

    password: str
    link: str
    session: Session
    new_people: bool
    new_session: bool
    waiting: int


def prepare() -> Greeting:
    """Make what is missing of the cast and the first incident; everything that is there stays as it is."""
    password = settings.CLM_DEMO_PASSWORD or secrets.token_urlsafe(9)
    made = [_ensure(name, groups, admin=admin, password=password) for name, groups, admin in CAST]
    session = Session.objects.newest_first().first()
    fresh = session is None
    session = session or Session.submit(
        query=FIRST_INCIDENT, environment="dev", requester=User.objects.get(username="alice")
    )
    return Greeting(
        password=password,
        link=make_link(User.objects.get(username="bob")),
        session=session,
        new_people=any(made),
        new_session=fresh,
        waiting=Gate.objects.pending().count(),
    )


def _ensure(name: str, groups: tuple[str, ...], *, admin: bool, password: str) -> bool:
    """Create one person; a password from CLM_DEMO_PASSWORD is set again, so that it always works."""
    person, new = User.objects.get_or_create(username=name, defaults={"is_staff": admin, "is_superuser": admin})
    if new:
        person.groups.set(Group.objects.filter(name__in=groups))
    if new or (settings.CLM_DEMO_PASSWORD and not person.check_password(password)):
        person.set_password(password)
        person.save()
    return new
