"""Who may do what: tokens and their scopes, the browser's login, and the embedded profile on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from sessions_app.identity import why_not_open
from sessions_app.models import ApiToken, Session
from tests.api.conftest import Caller, error_of

pytestmark = pytest.mark.django_db

GOOD = {"query": "q", "environment": "dev"}
OPEN = ["/sessions", "/sessions/recent", "/agents", "/tools", "/environments", "/config/ui-hints"]
NOT_THIS_MACHINE = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "localhost",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=127.0.0.1",
    "X-Real-IP": "127.0.0.1",
    "Via": "1.1 proxy",
    "Origin": "http://evil.example",
    "Sec-Fetch-Site": "cross-site",
    "Host": "desk.example.org",
}


def browser_of(user, *, csrf: bool) -> Caller:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False, REMOTE_ADDR="203.0.113.9")
    client.force_login(user)
    caller = Caller(client, Host="localhost")
    if csrf:
        client.cookies["clm_csrf"] = "a" * 32
        caller.headers["X-CSRFToken"] = "a" * 32
    return caller


# The embedded profile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OPEN)
def test_this_machine_reads_without_a_token(local, path):
    assert local.get(path).status_code == 200


def test_this_machine_starts_without_a_token(local):
    assert local.post("/sessions", GOOD).status_code == 201


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000"])
def test_every_name_of_this_machine_will_do(local, host):
    assert local.get("/sessions", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("address", ["::1", "127.0.0.2", "::ffff:127.0.0.1"])
def test_every_loopback_address_is_this_machine(db, address):
    caller = Caller(Client(REMOTE_ADDR=address), Host="localhost")
    assert caller.get("/sessions").status_code == 200


@pytest.mark.parametrize(("header", "value"), NOT_THIS_MACHINE.items())
@pytest.mark.parametrize("method", ["get", "post"])
def test_what_another_machine_or_page_may_have_sent_needs_a_token(local, settings, header, value, method):
    settings.ALLOWED_HOSTS = ["*"]
    response = getattr(local, method)(
        "/sessions", **({"body": GOOD} if method == "post" else {}), headers={header: value}
    )
    error_of(response, 401, "unauthorized")
    assert response["WWW-Authenticate"] == "Bearer"
    assert not Session.objects.exists()


@pytest.mark.parametrize("origin", ["null", "http://localhost:3000", "https://127.0.0.1.evil.example", "http://["])
def test_only_our_own_page_counts_as_ours(local, origin):
    error_of(local.post("/sessions", GOOD, headers={"Origin": origin}), 401, "unauthorized")


def test_our_own_page_is_no_other_site(local):
    headers = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    assert local.post("/sessions", GOOD, headers=headers).status_code == 201


@pytest.mark.parametrize("address", ["203.0.113.9", "10.0.0.1", "", "localhost.evil", "::ffff:203.0.113.9"])
def test_another_machine_needs_a_token(db, address):
    caller = Caller(Client(REMOTE_ADDR=address), Host="localhost")
    error_of(caller.get("/sessions"), 401, "unauthorized")


def test_without_the_embedded_profile_everybody_needs_a_token(local, settings):
    settings.CLM_OPEN_LOOPBACK = False
    error_of(local.get("/sessions"), 401, "unauthorized")
    assert "embedded" in why_not_open({}, peer="127.0.0.1")


def test_stopping_rerunning_and_deciding_need_a_person(local, make_gate):
    gate = make_gate()
    session = gate.session_id
    for response in (
        local.delete(f"/sessions/{session}"),
        local.post(f"/sessions/{session}/retry"),
        local.post(f"/sessions/{session}/un-duplicate"),
        local.post(f"/sessions/{session}/resume", {"decision": "stop"}),
        local.post(f"/sessions/{session}/approvals/{gate.tool_call_id}", {"decision": "approve", "approver": "me"}),
        local.post(f"/gates/{gate.pk}/decisions", {"type": "approve", "digest": gate.digest}),
        local.get("/gates"),
        local.get(f"/gates/{gate.pk}"),
    ):
        error_of(response, 401, "unauthorized")
    gate.refresh_from_db()
    assert gate.pending


# Tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["Bearer nonsense", "Bearer", "Bearer ", "Basic YTpi", "nonsense", "Bearer clm_ü"])
def test_a_wrong_token_is_401_even_where_none_is_needed(local, sent):
    error_of(local.get("/sessions", headers={"Authorization": sent}), 401, "unauthorized")
    error_of(local.post("/sessions", GOOD, headers={"Authorization": sent}), 401, "unauthorized")
    assert not Session.objects.exists()


def test_an_expired_token_is_401(alice, remote):
    caller = remote(alice, expires_at=timezone.now() - timedelta(seconds=1))
    error_of(caller.get("/sessions"), 401, "unauthorized")
    assert remote(alice, expires_at=timezone.now() + timedelta(minutes=1)).get("/sessions").status_code == 200


def test_the_token_of_somebody_who_left_is_401(alice, remote):
    caller = remote(alice)
    alice.is_active = False
    alice.save()
    error_of(caller.get("/sessions"), 401, "unauthorized")


def test_a_token_reaches_as_far_as_its_scopes(admin, remote, make_gate):
    gate = make_gate()
    calls: dict[str, Callable[[Caller], Any]] = {
        "sessions:read": lambda caller: caller.get("/sessions"),
        "sessions:write": lambda caller: caller.post("/sessions", GOOD),
        "gates:decide": lambda caller: caller.post(
            f"/gates/{gate.pk}/decisions", {"type": "reject", "digest": gate.digest}
        ),
    }
    for scope, call in calls.items():
        others = [other for other in ApiToken.Scope.values if other != scope]
        error = error_of(call(remote(admin, *others)), 403, "forbidden")
        assert error["details"]["scope"] == scope
        assert call(remote(admin, scope)).status_code in {200, 201}


def test_a_scope_does_not_widen_what_its_person_may_do(as_alice, as_bob, as_charlie, make_gate):
    gate = make_gate()
    session = gate.session_id
    decision = {"type": "approve", "digest": gate.digest}
    for response in (
        as_bob.post("/sessions", GOOD),
        as_bob.delete(f"/sessions/{session}"),
        as_bob.post(f"/sessions/{session}/retry"),
        as_alice.post(f"/gates/{gate.pk}/decisions", decision),
        as_alice.post(f"/sessions/{session}/approvals/{gate.tool_call_id}", {"decision": "approve"}),
        as_charlie.get("/sessions"),
        as_charlie.get("/sessions/recent"),
        as_charlie.get(f"/sessions/{session}"),
        as_charlie.get(f"/sessions/{session}/full"),
        as_charlie.get(f"/sessions/{session}/approvals"),
        as_charlie.get("/agents"),
        as_charlie.get("/gates"),
        as_charlie.get(f"/gates/{gate.pk}"),
        as_charlie.post("/sessions", GOOD),
        as_charlie.post(f"/gates/{gate.pk}/decisions", decision),
    ):
        error_of(response, 403, "forbidden")
    gate.refresh_from_db()
    assert gate.pending
    assert Session.objects.count() == 1


def test_nobody_decides_the_gates_of_their_own_session(admin, remote, make_gate):
    gate = make_gate(requester=admin)
    caller = remote(admin)
    body = {"type": "approve", "digest": gate.digest}
    error = error_of(caller.post(f"/gates/{gate.pk}/decisions", body), 403, "forbidden")
    assert "Four eyes" in error["message"]
    path = f"/sessions/{gate.session_id}/approvals/{gate.tool_call_id}"
    error_of(caller.post(path, {"decision": "approve", "approver": "bob"}), 403, "forbidden")


def test_a_token_beside_a_login_is_the_one_that_counts(alice, bob, remote, make_gate):
    gate = make_gate()
    browser = browser_of(bob, csrf=True)
    browser.headers |= {"Authorization": remote(alice).headers["Authorization"]}
    body = {"type": "approve", "digest": gate.digest}
    error_of(browser.post(f"/gates/{gate.pk}/decisions", body), 403, "forbidden")
    browser.headers |= {"Authorization": "Bearer gone"}
    error_of(browser.post(f"/gates/{gate.pk}/decisions", body), 401, "unauthorized")


# The browser's login --------------------------------------------------------------------------------------------


def test_a_signed_in_browser_reads(bob):
    assert browser_of(bob, csrf=False).get("/gates").status_code == 200


def test_a_signed_in_browser_needs_the_csrf_token_to_change_anything(alice, bob, make_gate):
    gate = make_gate()
    body = {"type": "approve", "digest": gate.digest}
    error_of(browser_of(bob, csrf=False).post(f"/gates/{gate.pk}/decisions", body), 403, "forbidden")
    error_of(browser_of(alice, csrf=False).post("/sessions", GOOD), 403, "forbidden")
    error_of(browser_of(alice, csrf=False).delete(f"/sessions/{gate.session_id}"), 403, "forbidden")
    assert browser_of(bob, csrf=True).post(f"/gates/{gate.pk}/decisions", body).status_code == 201
    assert browser_of(alice, csrf=True).post("/sessions", GOOD).status_code == 201


def test_a_login_without_its_csrf_token_does_not_fall_back_to_the_open_loopback(alice):
    browser = browser_of(alice, csrf=False)
    browser.client.defaults["REMOTE_ADDR"] = "127.0.0.1"
    error_of(browser.post("/sessions", GOOD), 403, "forbidden")
    assert not Session.objects.exists()


def test_a_form_of_another_site_cannot_use_the_login(alice):
    browser = browser_of(alice, csrf=False)
    response = browser.client.post(
        "/api/v1/sessions",
        data=json.dumps(GOOD),
        content_type="text/plain",
        headers={"Host": "localhost", "Origin": "http://evil.example"},
    )
    error_of(response, 403, "forbidden")


def test_an_upload_by_a_signed_in_browser_is_400(alice):
    browser = browser_of(alice, csrf=True)
    response = browser.client.post("/api/v1/sessions", data=GOOD, headers=browser.headers)
    error_of(response, 400, "bad_request")
