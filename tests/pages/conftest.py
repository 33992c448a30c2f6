"""Browsers without a screen, signed in as the people of tests/conftest.py."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

HTMX = {"HX-Request": "true"}


@pytest.fixture
def as_alice(client: Client, alice: User) -> Client:
    """The requester's browser."""
    client.force_login(alice)
    return client


@pytest.fixture
def as_bob(client: Client, bob: User) -> Client:
    """The approver's browser."""
    client.force_login(bob)
    return client
