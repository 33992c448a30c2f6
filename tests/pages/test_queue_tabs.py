"""The tabs of the queue: each gate stands in exactly one, by what became of its call; every surface asks the same."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import IntegrityError
from django.test import Client

from approvals_app.models import Gate
from approvals_app.states import CALLS_IN, GATES_IN, LET_RUN, Channel, GateStatus, QueueTab
from sessions_app.models import ToolCall
from sessions_app.states import CallStatus
from tests.conftest import question_interrupt, tool_interrupt
from tests.laws.test_laws import interrupts_of
from tests.scenarios.conftest import Caller
from tests.scenarios.test_expiry import run_out

pytestmark = pytest.mark.django_db
#: Every tab but the one that holds the ended gates of all the others.
OWN = [tab for tab in QueueTab if tab != QueueTab.DECIDED]
#: Where an approved call can stand; the database refuses that it still waits.
AFTER_APPROVAL = [str(status) for status in CallStatus if status != CallStatus.PENDING_APPROVAL]


@pytest.fixture
def approved(make_session: Any, bob: Any) -> Any:
    """Let a call run that the ledger knows, and set what became of it."""

    def let_run(outcome: str = "", *, kinds: tuple[str, ...] = ("tool",)) -> Gate:
        session = make_session(status="in_progress")
        run = session.runs.get()
        assert run.pause(interrupts_of(run, list(kinds)), checkpoint_id="c")
        gates = list(session.gates.order_by("pk"))
        for gate in gates:
            gate.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)
        if outcome:
            ToolCall.objects.filter(gate_calls__gate=gates[0]).update(status=outcome)
        return Gate.objects.get(pk=gates[0].pk)

    return let_run


@pytest.fixture
def one_in_each(approved: Any, make_gate: Any, bob: Any) -> dict[str, int]:
    """A gate in each tab, by the product's verbs where they lead there; returns their ids by tab."""
    rejected, answered, expired, cancelled = (
        make_gate(),
        make_gate(interrupts=[question_interrupt()]),
        make_gate(),
        make_gate(),
    )
    rejected.decide("reject", actor=bob, channel=Channel.API, digest=rejected.digest, message="no")
    answered.decide("respond", actor=bob, channel=Channel.API, digest=answered.digest, message="yes, that one")
    run_out(expired)
    expired.expire()
    cancelled.session.stop()
    return {
        "pending": make_gate().pk,
        "executing": approved().pk,
        "unknown": approved("unknown").pk,
        "executed": approved("executed").pk,
        "failed": approved("failed").pk,
        "rejected": rejected.pk,
        "answered": answered.pk,
        "expired": expired.pk,
        "cancelled": cancelled.pk,
    }


def listed(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="gate-(\d+)" class="row', html)]


def test_each_gate_stands_in_exactly_one_tab(one_in_each: dict[str, int]) -> None:
    found = {str(tab): list(Gate.objects.in_tab(tab).values_list("pk", flat=True)) for tab in OWN}
    assert found == {tab: [key] for tab, key in one_in_each.items()}
    assert set(Gate.objects.in_tab("decided").values_list("pk", flat=True)) == set(one_in_each.values()) - {
        one_in_each["pending"]
    }


def test_a_long_tab_is_walked_and_holds_the_same(approved: Any, one_in_each: dict[str, int]) -> None:
    for status in AFTER_APPROVAL:
        approved(status)
    for tab in QueueTab:
        found = set(Gate.objects.in_tab(tab))
        assert found
        assert set(Gate.objects.in_tab(tab, walk=True)) == found


def test_page_numbers_and_api_ask_the_same_of_every_tab(one_in_each: dict[str, int], client: Client, bob: Any) -> None:
    client.force_login(bob)
    for tab in QueueTab:
        html = client.get("/approvals/", {"tab": tab}).content.decode()
        answer = Caller(bob).get("/gates", tab=str(tab)).json()
        assert listed(html) == [row["id"] for row in answer["items"]]
        assert answer["total"] == len(answer["items"]) >= 1
        assert f'id="tab-{tab}"' in html
    numbers = dict(re.findall(r'class="count (\w+)-count[^"]*">(\d+)<', html))
    assert numbers == {"pending": "1", "executing": "1", "unknown": "1"}


@pytest.mark.parametrize("status", AFTER_APPROVAL)
@pytest.mark.parametrize("decision", sorted(map(str, LET_RUN)))
def test_every_outcome_of_an_approved_call_has_its_tab(approved: Any, status: str, decision: str) -> None:
    gate = approved(status)
    Gate.objects.filter(pk=gate.pk)._raw_update(status=decision)
    (tab,) = [tab for tab in OWN if Gate.objects.in_tab(tab).exists()]
    assert CallStatus(status) in CALLS_IN[tab]


def test_an_approved_call_cannot_wait(approved: Any) -> None:
    with pytest.raises(IntegrityError, match="tool_call_waits_unapproved"):
        approved(str(CallStatus.PENDING_APPROVAL))


def test_every_status_is_in_the_tables() -> None:
    by_gate = [status for tab, statuses in GATES_IN.items() if tab != QueueTab.DECIDED for status in statuses]
    assert sorted([*by_gate, *LET_RUN]) == sorted(GateStatus)
    assert sorted(status for statuses in CALLS_IN.values() for status in statuses) == sorted(CallStatus)
    assert set(GATES_IN) | set(CALLS_IN) == set(QueueTab)


def test_an_approval_that_the_ledger_does_not_know_counts_as_executed(make_gate: Any, bob: Any) -> None:
    gate = make_gate()
    gate.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)
    assert [tab for tab in OWN if Gate.objects.in_tab(tab).exists()] == ["executed"]


def test_a_batch_stands_where_the_worst_of_its_calls_stands(make_session: Any, bob: Any) -> None:
    session = make_session(status="in_progress")
    run = session.runs.get()
    asked = interrupts_of(run, ["tool", "tool", "tool"])
    assert run.pause(asked, checkpoint_id="c")
    gates = list(session.gates.order_by("pk"))
    for gate in gates:
        gate.decide("approve", actor=bob, channel=Channel.API, digest=gate.digest)
    whole = gates[0]
    for position, other in enumerate(gates[1:], start=1):
        for link in list(other.gate_calls.all()):
            type(link)(gate=whole, call=link.call, position=position).save()
    calls = list(ToolCall.objects.filter(gate_calls__gate=whole).order_by("pk"))
    for statuses, tab in [
        (("executed", "executed", "executed"), "executed"),
        (("executed", "failed", "executed"), "failed"),
        (("executed", "failed", "executing"), "executing"),
        (("unknown", "failed", "executing"), "unknown"),
    ]:
        for call, status in zip(calls, statuses, strict=True):
            ToolCall.objects.filter(pk=call.pk).update(status=status)
        where = [one for one in OWN if Gate.objects.in_tab(one).filter(pk=whole.pk).exists()]
        assert where == [tab]
        shown = {"executed": 0, "failed": 1, "executing": 2, "unknown": 0}[tab]
        row = vars(Gate.objects.with_outcome().get(pk=whole.pk))
        assert (row["outcome"], row["decided_by"]) == (statuses[shown], "bob")


def test_a_row_says_what_became_of_its_call_and_who_decided(
    one_in_each: dict[str, int], client: Client, bob: Any
) -> None:
    client.force_login(bob)
    for tab, words in {
        "executed": "executed",
        "failed": "failed",
        "rejected": "rejected",
        "unknown": "unknown",
    }.items():
        html = client.get("/approvals/", {"tab": tab}).content.decode()
        assert f'class="status status-{words}"' in html
        assert "by bob" in html


def test_an_approved_call_that_was_not_run_says_so(approved: Any, client: Client, bob: Any) -> None:
    approved("expired")
    client.force_login(bob)
    assert "approved, not run" in client.get("/approvals/?tab=failed").content.decode()


def test_ended_gates_stand_the_last_decided_first(make_gate: Any, client: Client, bob: Any) -> None:
    first, second = make_gate(), make_gate()
    for gate in (second, first):
        gate.decide("reject", actor=bob, channel=Channel.API, digest=gate.digest, message="no")
    client.force_login(bob)
    assert listed(client.get("/approvals/?tab=rejected").content.decode()) == [first.pk, second.pk]
    assert listed(client.get("/approvals/?tab=decided").content.decode()) == [first.pk, second.pk]


def test_an_old_address_still_leads_to_its_tab(make_gate: Any, client: Client, bob: Any) -> None:
    gate = make_gate()
    gate.decide("reject", actor=bob, channel=Channel.API, digest=gate.digest, message="no")
    client.force_login(bob)
    html = client.get("/approvals/?status=decided").content.decode()
    assert listed(html) == [gate.pk]
    assert re.search(r'id="tab-decided"[^>]*aria-current="page"', html)


@pytest.mark.parametrize("tab", QueueTab.values)
def test_an_empty_tab_says_what_would_be_here(client: Client, bob: Any, tab: str) -> None:
    client.force_login(bob)
    html = client.get("/approvals/", {"tab": tab}).content.decode()
    (said,) = re.findall(r'<div class="empty">\s*<p>(.+?)</p>', html)
    assert said.endswith(".")
    assert "fits" not in said


def test_a_tab_counts_to_a_thousand_and_says_so(
    make_gate: Any, client: Client, bob: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approvals_app.views.COUNTED_TO", 2)
    monkeypatch.setattr("approvals_app.views.PAGE_SIZE", 1)
    for _ in range(3):
        gate = make_gate()
        gate.decide("reject", actor=bob, channel=Channel.API, digest=gate.digest, message="no")
    client.force_login(bob)
    assert "2+ in all" in client.get("/approvals/?tab=rejected").content.decode()
    assert Caller(bob).get("/gates", tab="rejected").json()["total"] == 3
    several = make_gate(interrupts=[tool_interrupt() for _ in range(4)])
    assert several.pending
    assert "4 in all" in client.get("/approvals/").content.decode()
