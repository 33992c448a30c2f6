"""S26: an idempotency key is dead after a failed start."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.exceptions import Conflict, Invalid
from sessions_app.models import IdempotencyKey, Run, Session, SessionEvent

pytestmark = pytest.mark.django_db


def _submit(**fields: Any) -> Session:
    return Session.submit(**{"query": "q", "environment": "dev", "idempotency_key": "delivery-1", **fields})


@pytest.mark.parametrize("broken", [(SessionEvent, "append"), (Session, "_add_run"), (IdempotencyKey, "keep")])
def test_s26_whatever_breaks_the_start_the_redelivery_works(
    alice: Any, monkeypatch: pytest.MonkeyPatch, broken: tuple[Any, str]
) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(*broken, away)
        with pytest.raises(OSError, match="disk is full"):
            _submit(requester=alice)
    assert not IdempotencyKey.objects.exists()
    assert not Session.objects.exists()
    session = _submit(requester=alice)
    assert session.runs.count() == 1


def test_s26_a_refused_request_does_not_use_up_its_key(alice: Any) -> None:
    with pytest.raises(Invalid):
        _submit(requester=alice, environment="nowhere")
    assert _submit(requester=alice).environment == "dev"


def test_s26_the_same_delivery_twice_is_one_session(alice: Any) -> None:
    assert _submit(requester=alice).pk == _submit(requester=alice).pk
    assert Run.objects.count() == 1


def test_s26_a_key_used_for_something_else_is_refused_with_the_session_that_has_it(alice: Any) -> None:
    first = _submit(requester=alice)
    with pytest.raises(Conflict) as refused:
        _submit(requester=alice, query="something else")
    assert refused.value.details["session_id"] == first.pk


def test_s26_two_people_may_use_the_same_key(alice: Any, bob: Any) -> None:
    assert _submit(requester=alice).pk != _submit(requester=bob).pk
