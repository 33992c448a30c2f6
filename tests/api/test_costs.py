"""What a list costs does not grow with its length, and each query has its reason."""

from __future__ import annotations

import pytest

from tests.conftest import question_interrupt

pytestmark = pytest.mark.django_db

#: The token with its person; what they may do.
ACCESS = 2


@pytest.fixture
def crowded(make_gate, make_session, as_bob):
    """Sessions that wait for a call, for an answer and for nobody, some of them answered."""
    for _ in range(8):
        make_session()
        make_gate()
        gate = make_gate(interrupts=[question_interrupt()])
        as_bob.post(f"/sessions/{gate.session_id}/resume", {"decision": "resume_with_input", "user_input": "go"})
        make_gate(interrupts=[question_interrupt()])


@pytest.mark.parametrize("limit", [1, 30])
def test_the_list_of_sessions(as_bob, crowded, limit, django_assert_num_queries):
    # the count; the rows; the answers that people gave; the gates that wait
    with django_assert_num_queries(ACCESS + 4):
        as_bob.get("/sessions", data={"limit": limit, "status": "awaiting_input"})


@pytest.mark.parametrize("limit", [4, 30])
def test_the_recent_sessions(as_bob, crowded, limit, django_assert_num_queries):
    # the rows; the answers; the gates that wait
    with django_assert_num_queries(ACCESS + 3):
        as_bob.get("/sessions/recent", data={"limit": limit})


@pytest.mark.parametrize("limit", [1, 30])
def test_the_queue(as_bob, crowded, limit, django_assert_num_queries):
    # the count; the rows with their sessions
    with django_assert_num_queries(ACCESS + 2):
        as_bob.get("/gates", data={"limit": limit})


@pytest.mark.parametrize("limit", [1, 30])
def test_the_decided_gates(as_bob, crowded, limit, django_assert_num_queries):
    # the count; the rows with their sessions; the decisions with their people
    with django_assert_num_queries(ACCESS + 3):
        as_bob.get("/gates", data={"limit": limit, "status": "decided"})


def test_a_whole_session(as_bob, make_gate, django_assert_num_queries):
    gate = make_gate()
    # the session; its turns; its calls; its events; the last seq; its attempts; the answers; the gates that wait
    with django_assert_num_queries(ACCESS + 8):
        as_bob.get(f"/sessions/{gate.session_id}/full")


def test_this_machine_pays_nothing_to_be_let_in(local, crowded, django_assert_num_queries):
    with django_assert_num_queries(3):
        local.get("/sessions/recent")
