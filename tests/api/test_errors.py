"""Every error has the contract's shape, whoever raises it, and nothing is half-written."""

from __future__ import annotations

import base64
import json

import pytest
from django.test import Client

from sessions_app import api as sessions_api
from sessions_app.agents import config
from sessions_app.exceptions import TooMany
from sessions_app.models import Session
from sessions_app.models import session as session_models
from tests.api.conftest import Caller, error_of

pytestmark = pytest.mark.django_db

GOOD = {"query": "q", "environment": "dev"}
UNREADABLE = {
    "cut off": '{"query": "q"',
    "no JSON": "query=q&environment=dev",
    "not a number": '{"query": "q", "environment": "dev", "state_overrides": {"a": NaN}}',
    "infinite": '{"query": "q", "environment": "dev", "state_overrides": {"a": 1e999}}',
    "NUL": '{"query": "a\\u0000b", "environment": "dev"}',
    "half a character": '{"query": "a\\ud83d", "environment": "dev"}',
    "NUL in a key": '{"query": "q", "environment": "dev", "state_overrides": {"\\u0000": 1}}',
    "deep": '{"query": "q", "environment": "dev", "state_overrides": {"a": ' + "[" * 99 + "]" * 99 + "}}",
    "endless": "[" * 100_000,
    "no UTF-8": b'{"query": "\xff", "environment": "dev"}',
    "a huge number": '{"query": "q", "environment": "dev", "state_overrides": {"a": ' + "9" * 5000 + "}}",
}
UNFIT = {
    "nothing": ("", "body"),
    "a list": ("[]", "body"),
    "a word": ('"q"', "body"),
    "null": ("null", "body"),
    "no query": ('{"environment": "dev"}', "query"),
    "a query that is a number": ('{"query": 5, "environment": "dev"}', "query"),
    "a query that is null": ('{"query": null, "environment": "dev"}', "query"),
    "an empty query": ('{"query": "  ", "environment": "dev"}', "query"),
    "an unknown environment": ('{"query": "q", "environment": "mars"}', "environment"),
    "an unknown graph": ('{"query": "q", "environment": "dev", "graph": "x"}', "graph"),
    "a submitter that is a word": ('{"query": "q", "environment": "dev", "submitter": "t"}', "submitter"),
    "a submitter without id": ('{"query": "q", "environment": "dev", "submitter": {}}', "submitter.id"),
    "overrides that are a list": (
        '{"query": "q", "environment": "dev", "state_overrides": []}',
        "state_overrides",
    ),
    "a query of 1 MB": (json.dumps({"query": "x" * 1024 * 1024, "environment": "dev"}), "query"),
}


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_a_body_that_cannot_be_read_is_400(local, raw):
    error_of(local.post("/sessions", raw=raw), 400, "bad_request")
    assert not Session.objects.exists()


@pytest.mark.parametrize(("raw", "field"), UNFIT.values(), ids=UNFIT)
def test_values_that_do_not_fit_are_422_and_named(local, raw, field):
    error = error_of(local.post("/sessions", raw=raw), 422, "unprocessable_entity")
    assert field in error["details"]["fields"], error
    assert len(json.dumps(error)) < 2000
    assert not Session.objects.exists()


def test_the_error_of_a_cut_off_body_says_where(local):
    error = error_of(local.post("/sessions", raw='{"query": "q",}'), 400, "bad_request")
    assert "line 1" in error["message"]


def test_a_body_over_two_megabytes_is_413(local, settings):
    body = {"query": "x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1), "environment": "dev"}
    error = error_of(local.post("/sessions", body), 413, "bad_request")
    assert "2 MB" in error["message"]


def test_an_upload_is_no_body(db):
    client = Client(raise_request_exception=False, headers={"host": "localhost"})
    response = client.post("/api/v1/sessions", data={"query": "q", "environment": "dev"})
    error_of(response, 400, "bad_request")


@pytest.mark.parametrize(
    "path",
    [
        "/sessions/INC-20200101-001",
        "/sessions/nothing/full",
        "/sessions/a%00b",
        "/sessions/nothing/approvals",
        "/sessions/nothing/lessons",
        "/sessions/nothing/retry/preview",
        "/sessions/recent/full",
        "/gates/1",
        "/nothing",
        "/sessions/",
        "/",
        "/api/v2/sessions",
        "/api/",
    ],
)
def test_what_is_not_there_is_404(as_bob, path):
    error_of(as_bob.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("delete", "/sessions", {"GET", "POST"}),
        ("post", "/sessions/recent", {"GET"}),
        ("delete", "/gates/1/decisions", {"POST"}),
        ("post", "/environments", {"GET"}),
        ("post", "/readyz", {"GET"}),
    ],
)
def test_a_wrong_method_is_405_and_told_which_are_right(as_bob, method, path, allowed):
    response = getattr(as_bob, method)(path)
    error_of(response, 405, "bad_request")
    assert set(response["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        ("/sessions", {"limit": 201}, "limit"),
        ("/sessions", {"limit": 0}, "limit"),
        ("/sessions", {"limit": "many"}, "limit"),
        ("/sessions/recent", {"limit": 10_000}, "limit"),
        ("/gates", {"limit": 201}, "limit"),
        ("/sessions", {"status": "new,lost"}, "status"),
        ("/gates", {"status": "open"}, "status"),
        ("/sessions", {"since": "yesterday"}, "since"),
        ("/sessions", {"q": "x" * 201}, "q"),
    ],
)
def test_a_filter_that_does_not_fit_is_422(as_bob, path, asked, field):
    error = error_of(as_bob.get(path, data=asked), 422, "unprocessable_entity")
    assert field in error["details"]["fields"]


def test_the_largest_page_is_said(as_bob, make_session):
    error = error_of(as_bob.get("/sessions", data={"limit": 10_000}), 422, "unprocessable_entity")
    assert "200" in error["message"]
    session = make_session()
    error = error_of(as_bob.get(f"/sessions/{session.pk}/full", data={"limit": 10_000}), 422, "unprocessable_entity")
    assert "500" in error["message"]


@pytest.mark.parametrize(
    "cursor",
    ["nonsense", "WzEsMl0", "ü", "W10", "bnVsbA"],
)
@pytest.mark.parametrize("path", ["/sessions", "/gates"])
def test_a_cursor_that_was_made_up_is_400(as_bob, path, cursor):
    error_of(as_bob.get(path, data={"cursor": cursor}), 400, "bad_request")


def test_a_cursor_of_another_list_is_400(as_bob):
    cursor = base64.urlsafe_b64encode(b'["2026-01-01T00:00:00+00:00", "INC-20260101-001"]').decode()
    error_of(as_bob.get("/gates", data={"cursor": cursor}), 400, "bad_request")


def test_nul_in_a_filter_is_400(as_bob):
    error_of(as_bob.get("/sessions", data={"q": "a\x00b"}), 400, "bad_request")


@pytest.mark.parametrize("sent", ["last", "-1", "1.5", "9" * 20, "9" * 5000])
def test_a_last_event_id_that_is_none_is_400(local, make_session, sent):
    session = make_session()
    response = local.get(f"/sessions/{session.pk}/events", headers={"Last-Event-ID": sent})
    error_of(response, 400, "bad_request")


def test_a_negative_or_endless_since_is_422(local, make_session):
    session = make_session()
    for since in (-1, 2**63, "x"):
        for path in (f"/sessions/{session.pk}/events", f"/sessions/{session.pk}/full", "/sessions/recent/events"):
            error_of(local.get(path, data={"since": since}), 422, "unprocessable_entity")


def test_a_full_queue_is_429_with_when_to_come_again(local, make_session, monkeypatch):
    full = config.current().limits.model_copy(update={"max_queued_sessions": 1})
    make_session()
    monkeypatch.setattr(session_models, "_limits", lambda: full)
    response = local.post("/sessions", GOOD)
    error_of(response, 429, "rate_limited")
    assert response["Retry-After"] == str(TooMany.retry_after)


def test_an_accident_is_500_and_tells_nothing(local, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(sessions_api, "describe_sessions", fail)
    response = local.get("/sessions")
    error = error_of(response, 500, "internal_error")
    assert b"hunter2" not in response.content
    assert error["details"]["reference"] in caplog.text
    assert "hunter2" in caplog.text


def test_a_host_that_is_not_ours_is_400(db):
    caller = Caller(Client(raise_request_exception=False), Host="evil.example")
    error_of(caller.get("/sessions"), 400, "bad_request")


def test_a_crash_in_front_of_the_api_has_the_shape_too(local, monkeypatch):
    from django.contrib.sessions.middleware import SessionMiddleware

    def fail(self, request):
        raise RuntimeError("no session today")

    monkeypatch.setattr(SessionMiddleware, "process_request", fail)
    response = local.get("/sessions")
    error_of(response, 500, "internal_error")
    assert b"no session today" not in response.content


def test_an_unknown_key_of_a_decision_is_refused_by_name(as_bob, make_gate):
    gate = make_gate()
    error = error_of(
        as_bob.post(f"/gates/{gate.pk}/decisions", {"type": "approve", "digest": gate.digest, "mesage": "x"}),
        422,
        "unprocessable_entity",
    )
    assert "mesage" in error["details"]["fields"]
    gate.refresh_from_db()
    assert gate.pending


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "approve"}, "digest"),
        ({"type": "agree", "digest": "x"}, "type"),
        ({"type": "approve", "digest": 5}, "digest"),
        ({"type": "edit", "digest": "x", "edited_action": {"args": []}}, "edited_action.args"),
        ({"type": "edit", "digest": "x", "edited_action": "restart"}, "edited_action"),
    ],
)
def test_a_decision_that_does_not_fit_is_422(as_bob, make_gate, body, field):
    gate = make_gate()
    error = error_of(as_bob.post(f"/gates/{gate.pk}/decisions", body), 422, "unprocessable_entity")
    assert field in error["details"]["fields"], error


def test_the_pages_keep_their_own_errors(db):
    response = Client(raise_request_exception=False).get("/nothing-here/")
    assert response.status_code == 404
    assert not response["Content-Type"].startswith("application/json")


def test_the_shaping_stands_before_every_other_middleware(settings):
    assert settings.MIDDLEWARE[0] == "clm_site.http.ApiErrors"
