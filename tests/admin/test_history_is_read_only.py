"""Nobody adds, changes or deletes history through the admin, superusers included."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from approvals_app import asking
from approvals_app.models import AuditCheck, Comment, Decision, FactsAcknowledgement, Gate, Inquiry, Reply
from approvals_app.states import Channel
from sessions_app.models import ApiToken, Session, SessionEvent

SAID = (Inquiry, Reply, Comment, FactsAcknowledgement)
HISTORY = (Session, SessionEvent, Gate, Decision, *SAID, AuditCheck)


@pytest.fixture
def discussed(make_resting_gate, world, bob, monkeypatch):
    """Gates at which was asked, answered, commented and acknowledged; each call makes one more."""
    monkeypatch.setattr(asking, "begin", lambda key: None)

    def discuss():
        gate = make_resting_gate()
        Reply.give(Inquiry.ask(gate, "What fills the pool?", actor=bob, channel=Channel.PAGE), text="Slow queries.")
        Comment.write(gate, author=bob, channel=Channel.PAGE, text="token=hunter2hunter2 is in the log")
        world.facts = {**world.facts, "pool size": world.facts["pool size"] + 1}
        gate.look_again(max_age=0)
        gate.acknowledge(actor=bob, channel=Channel.PAGE, fingerprint=gate.fingerprint_now)
        return gate

    return discuss


@pytest.fixture
def decided(discussed, bob):
    """A gate that bob rejected, with all its rows and what was said about it."""
    gate = discussed()
    AuditCheck.objects.create(sessions=1, faults=0)
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message="not now")
    gate.refresh_from_db()
    return gate


def base_of(model: Any) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


@pytest.mark.parametrize("model", HISTORY)
def test_a_superuser_can_read_the_list_and_a_row_and_no_more(superuser, decided, model):
    row = model.objects.order_by("pk").first()
    assert superuser.get(base_of(model)).status_code == 200
    assert superuser.get(f"{base_of(model)}{row.pk}/change/").status_code == 200
    assert superuser.get(f"{base_of(model)}add/").status_code == 403
    assert superuser.post(f"{base_of(model)}add/", {}).status_code == 403
    assert superuser.post(f"{base_of(model)}{row.pk}/change/", {}).status_code == 403
    assert superuser.post(f"{base_of(model)}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert model.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", HISTORY)
def test_permissions_say_no_to_a_superuser(admin_request, model):
    page = admin.site._registry[model]
    assert page.has_view_permission(admin_request)
    assert not page.has_add_permission(admin_request)
    assert not page.has_change_permission(admin_request)
    assert not page.has_delete_permission(admin_request)
    assert "delete_selected" not in page.get_actions(admin_request)
    for inline in page.get_inline_instances(admin_request):
        assert inline.has_view_permission(admin_request)
        assert not inline.has_add_permission(admin_request, None)
        assert not inline.has_change_permission(admin_request)
        assert not inline.has_delete_permission(admin_request)


def test_every_model_of_ours_in_the_admin_is_history_or_a_token():
    apps = {"sessions_app", "approvals_app", "clm_site"}
    ours = {model for model in admin.site._registry if model._meta.app_label in apps}
    assert ours == {*HISTORY, ApiToken}


@pytest.mark.parametrize("model", HISTORY)
def test_somebody_without_a_role_sees_none_of_it(client, charlie, decided, model):
    type(charlie).objects.filter(pk=charlie.pk).update(is_staff=True)
    client.force_login(charlie)
    assert client.get(base_of(model)).status_code == 403
    assert model._meta.verbose_name_plural.capitalize() not in client.get("/admin/").content.decode()


@pytest.mark.parametrize("model", SAID)
def test_a_list_of_what_was_said_costs_the_same_however_long_it_is(superuser, discussed, model):
    discussed()
    with CaptureQueriesContext(connection) as few:
        superuser.get(base_of(model))
    for _ in range(3):
        discussed()
    with CaptureQueriesContext(connection) as many:
        text = superuser.get(base_of(model)).content.decode()
    assert len(many) == len(few) <= 6
    assert "hunter2hunter2" not in text


@pytest.fixture
def admin_request(rf: RequestFactory, admin):
    """A request by a superuser."""
    request = rf.get("/admin/")
    request.user = admin
    return request
