"""Triggers: another system's webhook starts a session, in the words of the site's file, when it proves who it is."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from sessions_app import triggers
from sessions_app.agents import config
from sessions_app.models import Session
from tests.api.conftest import Caller, error_of

pytestmark = pytest.mark.django_db

FILE = """
[triggers.alerts]
query = "{commonLabels.alertname} on {commonLabels.service}: {alerts.0.annotations.summary}"
environment = "{commonLabels.env}"
when = { status = "firing" }
key = "{groupKey}"
secret_env = "CLM_TRIGGER_ALERTS"

[triggers.anything]
query = "Look at this: {}"
environment = "dev"
"""
SECRET = "correct horse battery staple"
ALERT: dict[str, Any] = {
    "status": "firing",
    "groupKey": "{}:{service=checkout}",
    "commonLabels": {"alertname": "HighLatency", "service": "checkout", "env": "staging"},
    "alerts": [{"annotations": {"summary": "p95 is 2 s"}}],
}


@pytest.fixture(autouse=True)
def _configured(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clm.toml"
    path.write_text(FILE)
    settings.CLM_CONFIG = path
    monkeypatch.setenv("CLM_TRIGGER_ALERTS", SECRET)


@pytest.fixture
def stranger(db: None) -> Caller:
    """Another machine, without a token."""
    return Caller(Client(raise_request_exception=False, REMOTE_ADDR="203.0.113.9"), Host="localhost")


def signed(body: Any, *, secret: str = SECRET, prefix: str = "sha256=") -> dict[str, Any]:
    raw = json.dumps(body)
    digest = hmac.new(secret.encode(), raw.encode(), hashlib.sha256).hexdigest()
    return {"raw": raw, "headers": {"X-Hub-Signature-256": prefix + digest}}


@pytest.mark.parametrize("prefix", ["sha256=", ""])
def test_a_signed_alert_starts_a_session_in_the_words_of_the_file(stranger, prefix):
    answer = stranger.post("/triggers/alerts", **signed(ALERT, prefix=prefix))
    assert answer.status_code == 202
    session = Session.objects.get(pk=answer.json()["session_id"])
    assert (session.query, session.environment) == ("HighLatency on checkout: p95 is 2 s", "staging")
    assert (session.submitter_id, session.requester) == ("trigger:alerts", None)
    assert session.extra_fields == {"trigger": "alerts", "payload": ALERT}
    assert session.runs.get().kind == "start"


def test_the_root_answers_as_the_contract_s_path_does(stranger):
    sent = signed(ALERT)
    answer = stranger.client.post(
        "/triggers/alerts", data=sent["raw"], content_type="application/json", headers=sent["headers"]
    )
    assert (answer.status_code, list(answer.json())) == (202, ["session_id"])
    error_of(stranger.client.post("/triggers/alerts", data="{}", content_type="application/json"), 401, "unauthorized")
    error_of(stranger.client.get("/triggers/alerts"), 405, "bad_request")
    error_of(stranger.client.post("/triggers/alerts/more"), 404, "not_found")


def test_a_token_s_person_is_the_requester(as_alice, alice):
    answer = as_alice.post("/triggers/anything", ["a", {"b": 1}])
    session = Session.objects.get(pk=answer.json()["session_id"])
    assert (session.requester, session.query) == (alice, 'Look at this: ["a", {"b": 1}]')


@pytest.mark.parametrize("body", [{}, [], "text", 7, None, True])
def test_any_json_will_do(as_alice, body):
    assert as_alice.post("/triggers/anything", raw=json.dumps(body)).status_code == 202


@pytest.mark.parametrize(
    "sent",
    [
        {"raw": json.dumps(ALERT), "headers": {}},
        signed(ALERT, secret="another"),
        {**signed(ALERT), "raw": json.dumps({**ALERT, "more": 1})},
        {"raw": json.dumps(ALERT), "headers": {"X-Hub-Signature-256": "sha256="}},
        {"raw": json.dumps(ALERT), "headers": {"X-Hub-Signature-256": "sha256=ä"}},
        {**signed(ALERT), "headers": {**signed(ALERT)["headers"], "Authorization": "Bearer nonsense"}},
    ],
    ids=["unsigned", "another secret", "another body", "empty", "no hex", "a bad token beside it"],
)
def test_who_proves_nothing_starts_nothing(stranger, local, sent):
    for caller in (stranger, local):
        error_of(caller.post("/triggers/alerts", **sent), 401, "unauthorized")
    assert not Session.objects.exists()


def test_a_secret_that_is_not_set_or_not_named_lets_nobody_in(stranger, monkeypatch, caplog):
    error_of(stranger.post("/triggers/anything", **signed(ALERT)), 401, "unauthorized")
    for empty in ("", "  "):
        monkeypatch.setenv("CLM_TRIGGER_ALERTS", empty)
        error_of(stranger.post("/triggers/alerts", **signed(ALERT, secret=empty)), 401, "unauthorized")
    assert "CLM_TRIGGER_ALERTS is not set" in caplog.text


def test_somebody_who_may_not_start_sessions_may_not_by_a_trigger(as_charlie, remote, alice):
    error_of(as_charlie.post("/triggers/anything", {}), 403, "forbidden")
    error_of(remote(alice, "sessions:read").post("/triggers/anything", {}), 403, "forbidden")


def test_a_trigger_that_there_is_not_is_named_to_those_who_may_know(as_alice, stranger):
    error = error_of(as_alice.post("/triggers/alert", {}), 404, "not_found")
    assert error["message"] == "There is no trigger 'alert'; there are alerts, anything."
    error_of(stranger.post("/triggers/alert", **signed({})), 401, "unauthorized")


def test_what_the_trigger_does_not_want_is_told_so_and_starts_nothing(stranger):
    answer = stranger.post("/triggers/alerts", **signed({**ALERT, "status": "resolved"}))
    assert answer.status_code == 200
    assert answer.json() == {"session_id": None, "ignored": "status is 'resolved' and not 'firing'."}
    assert not Session.objects.exists()


def test_what_comes_twice_starts_one_session_and_a_failed_start_frees_the_key(stranger, as_alice):
    nowhere = {**ALERT, "commonLabels": {**ALERT["commonLabels"], "env": "nowhere"}}
    error = error_of(stranger.post("/triggers/alerts", **signed(nowhere)), 422, "unprocessable_entity")
    assert "environment" in error["details"]["fields"]
    first, again = (stranger.post("/triggers/alerts", **signed(ALERT)).json() for _ in range(2))
    assert first == again
    # The header wins over the file's key.
    keyed = signed(ALERT)
    keyed["headers"]["Idempotency-Key"] = "other"
    assert stranger.post("/triggers/alerts", **keyed).json() != first
    assert Session.objects.count() == 2


def test_what_is_missing_is_named_and_what_is_long_is_cut(stranger, as_alice):
    bare = {"status": "firing", "commonLabels": {"env": "dev"}, "groupKey": "k" * 500}
    session = Session.objects.get(pk=stranger.post("/triggers/alerts", **signed(bare)).json()["session_id"])
    assert session.query == (
        "(no commonLabels.alertname) on (no commonLabels.service): (no alerts.0.annotations.summary)"
    )
    long = Session.objects.get(pk=as_alice.post("/triggers/anything", "x" * 20_000).json()["session_id"])
    assert len(long.query) == config.current().limits.max_query_chars
    assert long.query.endswith("…")


@pytest.mark.parametrize("raw", ["{", "NaN", '{"a": "\\u0000"}', "a=b"])
def test_what_is_no_json_is_refused(as_alice, raw):
    error_of(as_alice.post("/triggers/anything", raw=raw), 400, "bad_request")
    error_of(as_alice.post("/triggers/anything", raw=""), 422, "unprocessable_entity")
    assert not Session.objects.exists()


def test_nothing_of_the_body_is_a_place_in_the_text():
    assert triggers.filled("{a}", {"a": "{b}", "b": "secret"}) == "{b}"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ('environment = "nowhere"', "'nowhere' is no environment"),
        ('environment = "dev"\nsecret_env = "hunter2"', "must be the name of an environment variable"),
        ('environment = "dev"\nsecret = "hunter2"', "there is no such key"),
        ('environment = "dev"\nsignature_header = "X Y"', "must be the name of a header"),
        ('environment = "{a"', "has a brace that is alone"),
        ("", "environment: is missing"),
    ],
)
def test_a_trigger_that_cannot_work_is_refused_with_its_line_and_never_its_secret(tmp_path, wrong, says):
    path = tmp_path / "wrong.toml"
    path.write_text(f'[triggers.one]\nquery = "q"\n{wrong}\n')
    with pytest.raises(config.ConfigError) as refused:
        config.load(path)
    assert says in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert f"{path}, line" in str(refused.value)


def test_a_name_that_no_address_can_have_is_refused(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text('[triggers."a/b"]\nquery = "q"\nenvironment = "dev"\n')
    with pytest.raises(config.ConfigError, match="it stands in an address"):
        config.load(path)
