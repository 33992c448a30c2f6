"""Several gates at once: what may go together, one decision each, and a page that asks before anything is decided."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from approvals_app.models import Decision, Gate
from approvals_app.states import Channel
from sessions_app.agents.context import Judgement
from sessions_app.models import ToolCall
from tests.conftest import driven, question_interrupt, tool_interrupt

pytestmark = pytest.mark.django_db


@pytest.fixture
def make_risky(make_session, make_gate):
    """Pause a session at a gate whose call was judged so."""

    def make(risk: str, tool: str = "local_remediation__apply_fix", **fields) -> Gate:
        session = make_session(status="in_progress", **fields)
        asked = tool_interrupt(tool)
        run = session.runs.get()
        with driven(run):
            ToolCall.enter(
                session_id=session.pk,
                run_id=run.pk,
                attempt=run.attempt,
                agent="resolution",
                tool_call_id=asked["value"]["tool_call_id"],
                tool=tool.replace("__", ":"),
                args=asked["value"]["args"],
                reasoning="",
                idempotent=False,
                judge=lambda: Judgement(level=risk, reason="gated_environment", rule="r", rule_version="1"),
            )
        gate: Gate = make_gate(session, interrupts=[asked])
        assert gate.risk == risk
        return gate

    return make


def ask(client: Client, kind: str, *gates: Gate):
    return client.get("/approvals/bulk/", {"type": kind, "gate": [str(gate.pk) for gate in gates]})


def confirm(client: Client, asked, **fields):
    """Send the form of the page that asked, as a browser would."""
    ticked = re.findall(r'name="gate" value="([^"]+)"[^>]*checked', asked.content.decode())
    kind = re.findall(r'name="type" value="(\w+)"', asked.content.decode())[0]
    return client.post("/approvals/bulk/", {"type": kind, "gate": ticked, **fields})


def statuses() -> list[str]:
    return list(Gate.objects.order_by("pk").values_list("status", flat=True))


def test_every_open_tool_call_can_be_picked_and_leads_to_a_page_that_asks(as_bob, make_gate):
    gate, question = make_gate(), make_gate(interrupts=[question_interrupt()])
    text = as_bob.get("/approvals/").content.decode()
    assert f'name="gate" value="{gate.pk}" form="bulk"' in text
    assert f'name="gate" value="{question.pk}"' not in text
    assert '<form id="bulk" class="bulk" method="get" action="/approvals/bulk/"' in text
    assert 'id="bulk"' not in as_bob.get("/approvals/?status=decided").content.decode()


def test_an_operator_is_offered_nothing_to_decide_with(client, alice, make_gate):
    gate = make_gate()
    client.force_login(alice)
    assert 'id="bulk"' not in client.get("/approvals/").content.decode()
    assert ask(client, "reject", gate).status_code == 403
    response = client.post("/approvals/bulk/", {"type": "reject", "gate": f"{gate.pk}:{gate.digest}", "message": "x"})
    assert response.status_code == 403
    assert statuses() == ["pending"]


def test_the_page_lists_each_sentence_with_its_digest_and_decides_nothing(as_bob, make_risky):
    first, second = make_risky("medium"), make_risky("low")
    response = ask(as_bob, "approve", first, second)
    text = " ".join(response.content.decode().split())
    for gate in (first, second):
        assert f'value="{gate.pk}:{gate.digest}"' in text
        assert f"gate {gate.pk}" in text
    assert text.count("wants to restart <strong>checkout</strong> in dev") == 2
    assert statuses() == ["pending", "pending"]


def test_each_gate_gets_a_decision_of_its_own(as_bob, bob, make_risky):
    gates = [make_risky("medium"), make_risky("low")]
    response = confirm(as_bob, ask(as_bob, "approve", *gates), message="all well known")
    assert response.status_code == 200
    assert "Approved 2 of 2 gates." in response.content.decode()
    assert statuses() == ["approved", "approved"]
    decisions = Decision.objects.order_by("pk")
    assert [(d.gate_id, d.digest, d.actor, d.message, d.channel) for d in decisions] == [
        (gate.pk, gate.digest, bob, "all well known", Channel.PAGE) for gate in gates
    ]


def test_one_that_fails_keeps_no_other_from_being_decided(as_bob, admin, make_risky):
    taken, changed, open_one = make_risky("low"), make_risky("low"), make_risky("low")
    asked = ask(as_bob, "approve", taken, changed, open_one)
    taken.decide("reject", actor=admin, channel=Channel.API, digest=taken.digest, message="wrong")
    text = asked.content.decode().replace(changed.digest, "0" * 64)
    ticked = re.findall(r'name="gate" value="([^"]+)"', text)
    response = as_bob.post("/approvals/bulk/", {"type": "approve", "gate": ticked})
    text = response.content.decode()
    assert "Approved 1 of 3 gates." in text
    assert "admin rejected this" in text
    assert "look again" in text
    assert statuses() == ["rejected", "pending", "approved"]


def test_high_risk_is_never_approved_together_but_rejected_with_one_reason(as_bob, make_gate):
    gates = [make_gate(), make_gate()]
    assert "High risk is approved one at a time" in ask(as_bob, "approve", *gates).content.decode()
    sent = {"type": "approve", "gate": [f"{gate.pk}:{gate.digest}" for gate in gates]}
    response = as_bob.post("/approvals/bulk/", sent)
    assert response.status_code == 422
    assert "Nothing was decided." in response.content.decode()
    assert statuses() == ["pending", "pending"]

    asked = ask(as_bob, "reject", *gates)
    empty = confirm(as_bob, asked)
    assert empty.status_code == 422
    assert "Say why" in empty.content.decode()
    assert statuses() == ["pending", "pending"]
    assert confirm(as_bob, empty, message="maintenance until six").status_code == 200
    assert statuses() == ["rejected", "rejected"]
    assert set(Decision.objects.values_list("message", flat=True)) == {"maintenance until six"}


def test_only_gates_of_one_tool_go_together(as_bob, make_risky, make_gate):
    gates = [make_risky("low"), make_risky("low", "local_remediation__notify_oncall")]
    text = ask(as_bob, "approve", *gates).content.decode()
    assert "Only gates of one tool go together" in text
    assert 'method="post" action="/approvals/bulk/"' not in text
    question = make_gate(interrupts=[question_interrupt()])
    assert "A question is answered on its own" in ask(as_bob, "reject", gates[0], question).content.decode()


def test_four_eyes_hold_for_each_of_them(client, admin, make_gate):
    own, other = make_gate(requester=admin), make_gate()
    client.force_login(admin)
    asked = ask(client, "reject", own, other)
    assert "Four eyes: admin requested this session" in asked.content.decode()
    assert f'value="{own.pk}:{own.digest}" id="take-{own.pk}" disabled' in " ".join(asked.content.decode().split())
    sent = {"type": "reject", "gate": [f"{gate.pk}:{gate.digest}" for gate in (own, other)], "message": "no"}
    response = client.post("/approvals/bulk/", sent)
    assert "Rejected 1 of 2 gates." in response.content.decode()
    assert statuses() == ["pending", "rejected"]


def test_fifty_at_once_is_the_most(as_bob, make_gate):
    gate = make_gate()
    sent = {"type": "reject", "message": "x", "gate": [f"{gate.pk + number}:d" for number in range(51)]}
    response = as_bob.post("/approvals/bulk/", sent)
    assert response.status_code == 422
    assert "50 gates at once is the most; these are 51" in response.content.decode()
    assert statuses() == ["pending"]


@pytest.mark.parametrize("values", [["x"], ["-1"], ["9" * 40], ["1:a", "²"]])
def test_what_is_no_gate_is_refused_in_words(as_bob, values):
    response = as_bob.get("/approvals/bulk/", {"type": "reject", "gate": values})
    assert response.status_code == 400
    assert "is no gate" in response.content.decode()


def test_nothing_picked_and_what_is_decided_already_is_said(as_bob, bob, make_gate):
    assert "Pick at least one gate" in as_bob.get("/approvals/bulk/?type=reject").content.decode()
    assert as_bob.get("/approvals/bulk/?type=wave&gate=1").status_code == 400
    gate = make_gate()
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message="no")
    text = " ".join(ask(as_bob, "reject", gate).content.decode().split())
    assert "Left out, because it has reached an end meanwhile" in text


def test_the_page_that_asks_takes_as_many_queries_for_twenty_as_for_two(
    as_bob, make_gate, django_assert_max_num_queries
):
    gates = [make_gate() for _ in range(20)]
    # Browser session, person, permissions; the gates; badge, strip and preferences: 8.
    with django_assert_max_num_queries(8):
        ask(as_bob, "reject", *gates)
