"""The call edited on the page: typed fields, messages where they belong, the changes shown before and after."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from approvals_app.models import Decision, Gate
from tests.conftest import tool_interrupt
from tests.pages.conftest import HTMX

pytestmark = pytest.mark.django_db


def post(client: Client, gate: Gate, decision: str, *, headers=None, **fields):
    data = {"decision": decision, "digest": gate.digest, **fields}
    return client.post(f"/approvals/{gate.pk}/decide/", data, headers=headers or {})


def previewed(response) -> str:
    found = re.search(r'name="previewed" value="(\w+)"', response.content.decode())
    assert found, response.content.decode()
    return found[1]


def flat(response) -> str:
    return " ".join(response.content.decode().split())


@pytest.fixture
def gate(make_gate) -> Gate:
    made: Gate = make_gate(
        interrupts=[tool_interrupt(service="checkout", action="resize_pool", size=20, reason="The pool is full.")]
    )
    return made


def test_the_changes_are_shown_beside_the_original_before_anything_is_decided(as_bob, gate):
    response = post(as_bob, gate, "preview", **{"edit-0/size": "40"}, headers=HTMX)
    assert response.status_code == 200
    text = flat(response)
    assert "Not decided yet." in text
    assert "<del>20</del>" in text
    assert "<ins>40</ins>" in text
    assert "Approve and run as changed" in text
    gate.refresh_from_db()
    assert gate.pending


def test_what_was_shown_is_approved_and_the_decided_gate_keeps_both(as_bob, gate):
    shown = previewed(post(as_bob, gate, "preview", **{"edit-0/size": "40"}))
    assert post(as_bob, gate, "edit", previewed=shown, **{"edit-0/size": "40"}).status_code == 302
    taken = Decision.objects.get()
    assert taken.edited_args == {
        "service": "checkout",
        "action": "resize_pool",
        "size": 40,
        "reason": "The pool is full.",
    }
    text = flat(as_bob.get(f"/approvals/{gate.pk}/"))
    assert "What the approver changed" in text
    assert "<del>20</del>" in text
    assert "<ins>40</ins>" in text


@pytest.mark.parametrize("shown", ["", "0" * 64, "of another change"])
def test_a_change_that_was_not_shown_is_shown_and_not_approved(as_bob, gate, shown):
    if shown == "of another change":
        shown = previewed(post(as_bob, gate, "preview", **{"edit-0/size": "50"}))
    response = post(as_bob, gate, "edit", previewed=shown, **{"edit-0/size": "40"})
    assert response.status_code == 200
    assert "Not decided yet." in flat(response)
    assert not Decision.objects.exists()


def test_approving_a_call_that_was_changed_in_the_form_does_not_run_the_original(as_bob, gate):
    response = post(as_bob, gate, "approve", **{"edit-0/size": "40"})
    assert response.status_code == 422
    assert "You changed the call" in flat(response)
    assert not Decision.objects.exists()


def test_an_edit_that_changes_nothing_is_no_edit(as_bob, gate):
    response = post(as_bob, gate, "preview", **{"edit-0/size": "20"})
    assert response.status_code == 422
    assert "Nothing was changed" in flat(response)


@pytest.mark.parametrize(
    ("sent", "says"),
    [("forty", "A whole number is needed"), ("99", "At most 64."), ("0", "At least 1."), ("4.5", "A whole number")],
)
def test_what_does_not_fit_is_said_at_its_field_and_stays_typed(as_bob, gate, sent, says):
    response = post(as_bob, gate, "preview", **{"edit-0/size": sent, "edit-0/service": "cart"}, headers=HTMX)
    assert response.status_code == 422
    text = flat(response)
    field = text.partition('name="edit-0/size"')[2].partition("</div>")[0]
    assert says in field
    assert 'aria-invalid="true"' in field
    assert f'value="{sent}"' in field
    assert 'value="cart"' in text
    assert not Decision.objects.exists()


def test_a_choice_takes_what_is_offered_and_nothing_else(as_bob, gate):
    assert "Choose one of those" in flat(post(as_bob, gate, "preview", **{"edit-0/action": '"wipe"'}))
    assert "Not decided yet." in flat(post(as_bob, gate, "preview", **{"edit-0/action": '"restart"'}))


def test_an_edit_into_a_forbidden_call_is_refused(as_bob, gate):
    shown = previewed(post(as_bob, gate, "preview", **{"edit-0/service": "all"}))
    response = post(as_bob, gate, "edit", previewed=shown, **{"edit-0/service": "all"})
    assert response.status_code == 422
    assert "Rule fix_everything forbids the call as you edited it." in flat(response)
    assert not Decision.objects.exists()


def test_an_edit_cannot_name_another_tool(as_bob, gate):
    fields = {"edit-0/size": "40", "tool": "local_remediation:notify_oncall", "edit-0/name": "notify_oncall"}
    shown = previewed(post(as_bob, gate, "preview", **fields))
    post(as_bob, gate, "edit", previewed=shown, **fields)
    gate.refresh_from_db()
    assert gate.answer["edited_action"]["name"] == "local_remediation__apply_fix"
    assert set(gate.answer["edited_action"]["args"]) == {"service", "action", "size", "reason"}


def test_the_page_has_the_form_open_where_it_was_asked_for(as_bob, gate):
    closed = flat(as_bob.get(f"/approvals/{gate.pk}/"))
    assert re.search(r'<details class="fold edit" id="edit" ?>', closed)
    opened = flat(as_bob.get(f"/approvals/{gate.pk}/?edit=1"))
    assert re.search(r'<details class="fold edit" id="edit" open>', opened)


def test_a_card_that_answers_says_so_for_the_page_to_keep_what_it_says(as_bob, gate):
    """What the page does with it is in `tests/e2e/test_edit.py`."""
    assert b"data-answered" not in as_bob.get(f"/approvals/{gate.pk}/").content
    for response in (
        post(as_bob, gate, "preview", **{"edit-0/size": "40"}, headers=HTMX),
        post(as_bob, gate, "reject", headers=HTMX),
    ):
        assert b"data-answered" in response.content
        assert b"desk:session" in response.content
    gate.cancel(cause="over")
    assert b"data-answered" not in post(as_bob, gate, "reject", headers=HTMX).content


@pytest.mark.parametrize(("then", "status"), [("stop", "stopped"), ("escalate", "escalated")])
def test_a_rejection_can_end_the_session_and_asks_why(as_bob, gate, then, status):
    page = flat(as_bob.get(f"/approvals/{gate.pk}/"))
    assert f'value="{then}"' in page
    assert "Say why: it goes on record" in flat(post(as_bob, gate, then))
    assert post(as_bob, gate, then, message="A person must look.").status_code == 302
    gate.session.refresh_from_db()
    assert gate.session.status == status
    assert "After the rejection:" in flat(as_bob.get(f"/approvals/{gate.pk}/"))


# Several calls -------------------------------------------------------------------------------------------------


@pytest.fixture
def batch(make_gate) -> Gate:
    actions = [{"name": "fix", "args": {"target": name}} for name in ("one", "two")]
    value = {"action_requests": actions, "review_configs": []}
    made: Gate = make_gate(interrupts=[{"id": "batch", "value": value, "response_schema": None}])
    return made


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"verdict-0": "approve"}, "Call 2: Say what shall become of this call."),
        ({"verdict-0": "approve", "verdict-1": "reject"}, "Call 2: Say why it is rejected"),
        ({"verdict-0": "edit", "verdict-1": "approve"}, "Call 1: Nothing was changed"),
        ({"verdict-0": "approve", "verdict-1": "approve", "edit-0/target": "x"}, "Call 1: You changed its arguments"),
        ({"verdict-0": "approve", "verdict-1": "respond"}, "Call 2: Write what the agent gets"),
        ({"verdict-0": "approve", "verdict-1": "wave"}, "Call 2: Say what shall become of this call."),
    ],
)
def test_each_call_of_a_batch_must_be_marked_with_what_it_needs(as_bob, batch, fields, says):
    response = post(as_bob, batch, "each", **fields)
    assert response.status_code == 422
    assert says in flat(response)
    assert not Decision.objects.exists()


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_one_word_for_all_does_not_go_over_a_mark_that_says_otherwise(as_bob, batch, decision):
    marks = {"verdict-0": "reject" if decision == "approve" else "approve", "message": "why"}
    response = post(as_bob, batch, decision, **marks)
    assert response.status_code == 422
    assert "You marked some calls otherwise" in flat(response)


def test_the_decided_batch_says_what_was_decided_on_each_call(as_bob, batch):
    post(as_bob, batch, "each", **{"verdict-0": "approve", "verdict-1": "reject", "reason-1": "not the second"})
    text = flat(as_bob.get(f"/approvals/{batch.pk}/"))
    assert "fix</span> approved as it was" in text
    assert "fix</span> rejected: “not the second”" in text


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_marks_and_changes_survive_the_second_step_before_danger(as_bob, batch, headers):
    marks = {"verdict-0": "edit", "edit-0/target": "three", "verdict-1": "approve", "confirm": "ask"}
    shown = previewed(post(as_bob, batch, "each", **marks))
    asked = post(as_bob, batch, "each", headers=headers, previewed=shown, **marks)
    assert asked.status_code == 422
    text = flat(asked)
    assert "Nothing is decided yet." in text
    assert "<ins>&quot;three&quot;</ins>" in text
    # Where htmx answers, it takes the card out of the page by its id.
    assert 'id="gate"' in text
    assert not Decision.objects.exists()
    sent = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', asked.content.decode()))
    assert "confirm" not in sent
    assert as_bob.post(f"/approvals/{batch.pk}/decide/", sent).status_code == 302
    assert [one["type"] for one in Decision.objects.get().verdicts] == ["edit", "approve"]


def test_marks_that_run_nothing_take_no_second_step(as_bob, batch):
    marks = {"verdict-0": "reject", "verdict-1": "reject", "message": "neither", "confirm": "ask"}
    assert post(as_bob, batch, "each", **marks).status_code == 302


# JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ("", "Write the answer as JSON"),
        ("{", "This is no JSON"),
        ("NaN", "This is no JSON"),
        ('{"n": "x"}', "The agent cannot take this: n: "),
    ],
)
def test_an_answer_in_json_is_checked_before_it_is_taken(as_bob, make_gate, sent, says):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    gate = make_gate(interrupts=[{"id": "raw", "value": {"pick": 1}, "response_schema": schema}])
    response = post(as_bob, gate, "respond", answer=sent, headers=HTMX)
    assert response.status_code == 422
    text = flat(response)
    assert says in text.partition('id="answer-wrong"')[2].partition("</p>")[0]
    assert not Decision.objects.exists()
