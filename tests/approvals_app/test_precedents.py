"""What the card tells of earlier decisions: what is alike, what differs, how it went, at the cost of one query."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from approvals_app import precedents
from approvals_app.models import Gate
from approvals_app.states import Channel
from sessions_app.agents.registry import Outcome
from sessions_app.states import SessionStatus
from tests.conftest import tool_interrupt

pytestmark = pytest.mark.django_db
RESTART = {"service": "checkout", "action": "restart"}


@pytest.fixture
def earlier(make_gate, bob):
    """Make a decided gate of some days ago, whose session then ended."""

    def make(decision="approve", *, days=1, outcome=SessionStatus.RESOLVED, seconds=40, environment="dev", **args):
        gate = make_gate(interrupts=[tool_interrupt(**{**RESTART, **args})], environment=environment)
        gate.decide(decision, actor=bob, channel=Channel.PAGE, digest=gate.digest, message="because")
        if decision == "approve":
            run = gate.session.runs.get(status="pending")
            assert run.claim("test:0:0")
            run.finish(Outcome(status=outcome, resolution=""))
        then = timezone.now() - timedelta(days=days)
        Gate.objects.filter(pk=gate.pk)._raw_update(created_at=then - timedelta(seconds=seconds), decided_at=then)
        return gate

    return make


def test_the_same_call_is_counted_with_how_it_went(earlier, make_gate, django_assert_num_queries):
    earlier(days=3, seconds=30, reason="full")
    earlier(days=2, seconds=40, outcome=SessionStatus.NEEDS_REVIEW)
    earlier("reject", days=1, seconds=50)
    gate = make_gate(interrupts=[tool_interrupt(**RESTART, reason="An agent words it anew each time.")])
    gate = Gate.objects.select_related("session").get(pk=gate.pk)
    with django_assert_num_queries(1):
        found = precedents.of(gate)
    assert found
    assert (len(found.alike), found.others) == (3, [])
    assert (found.ran, found.healed, found.rejected, found.took) == (2, 1, 1, 40_000)
    assert [one.status for one in found.listed] == ["rejected", "approved", "approved"]


def test_what_differs_is_named_and_the_closest_come_first(earlier, make_gate):
    earlier(service="search", action="clean_up")
    earlier(service="search", environment="staging")
    near = earlier(days=9, service="search")
    found = precedents.of(make_gate())
    assert found
    assert found.alike == []
    assert found.listed[0].gate_id == near.pk
    assert [{one.name for one in row.differs} for row in found.listed] == [
        {"service"},
        {"service", "environment"},
        {"service", "action"},
    ]


def test_an_edited_call_counts_as_what_ran(make_gate, bob):
    gate = make_gate(interrupts=[tool_interrupt(**RESTART)])
    gate.decide(
        "edit", actor=bob, channel=Channel.PAGE, digest=gate.digest, edited_args={**RESTART, "service": "search"}
    )
    found = precedents.of(make_gate(interrupts=[tool_interrupt(service="search", action="restart")]))
    assert found
    assert [one.status for one in found.alike] == ["edited"]


def test_old_cancelled_and_other_tools_do_not_count(earlier, make_gate):
    earlier(days=31)
    make_gate().session.stop()
    assert precedents.of(make_gate()) is None
    earlier()
    assert precedents.of(make_gate(interrupts=[tool_interrupt("lab__other", x=1)])) is None


def test_at_most_five_are_listed_and_none_of_them_is_a_button(earlier, make_gate, client, bob):
    for _ in range(7):
        earlier()
    gate = make_gate()
    client.force_login(bob)
    text = client.get(gate.get_absolute_url()).content.decode()
    before = " ".join(text.partition('id="h-before"')[2].partition("</section>")[0].split())
    assert "The same call 7 times in 30 days, 7 healed, median 40.0 s to decide." in before
    assert before.count("<li>") == precedents.LISTED
    assert "<button" not in before
    assert "<form" not in before


def test_the_query_goes_by_its_index(make_gate):
    if connection.vendor != "sqlite":
        pytest.skip("the planner of a small PostgreSQL table scans it")
    gate = make_gate()
    query = Gate.objects.filter(tool=gate.tool, kind=gate.kind, decided_at__gte=timezone.now()).order_by("-decided_at")
    assert "gate_precedents" in query.explain()


def test_the_arguments_say_where_their_values_were_seen(make_session, make_gate, client, bob):
    from sessions_app.agents.context import Judgement
    from sessions_app.models import ToolCall

    session = make_session(status="in_progress", query="checkout answers slowly")
    run = session.runs.get()
    for number, (tool, args, result) in enumerate(
        [
            ("local_observability:get_logs", {"service": "checkout"}, "pool-7 of node-12 is full"),
            ("local_remediation:propose_fix", {"service": "checkout"}, "restart node-99"),
        ]
    ):
        row, _ = ToolCall.enter(
            session_id=session.pk,
            run_id=run.pk,
            attempt=run.attempt,
            agent="triage",
            tool_call_id=f"reading-{number}",
            tool=tool,
            args=args,
            reasoning="",
            idempotent=True,
            judge=lambda: Judgement(level="low", reason="low_risk", rule="r", rule_version="1"),
        )
        row.settle(result=result, result_kind="text", latency_ms=1)
    asked = tool_interrupt(service="checkout", node="node-12", other="node-1", third="node-99", force=True, n=7)
    gate = make_gate(session, interrupts=[asked])
    seq = session.events.get(kind="tool_invoked", payload__tool="local_observability:get_logs").pk
    assert gate.evidence["seen"] == [
        {"service": {"tool": "", "seq": None}, "node": {"tool": "local_observability:get_logs", "seq": seq}}
    ]
    client.force_login(bob)
    text = client.get(gate.get_absolute_url()).content.decode()
    assert f'← from <a href="/sessions/{session.pk}/?at={seq}#e-{seq}">get_logs</a>' in text
    assert f'id="e-{seq}"' in client.get(f"/sessions/{session.pk}/?at={seq}").content.decode()
    assert "← from the request" in text
