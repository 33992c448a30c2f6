"""The page on which a person says how the desk should behave for them."""

from __future__ import annotations

from typing import cast

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.forms.models import model_to_dict
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from approvals_app.models import Preferences


class PreferencesForm(forms.Form):
    """What can be switched; the label says what it does."""

    keys = forms.BooleanField(required=False, label="Single keys move, open and arm things on the desk.")
    go_on = forms.BooleanField(required=False, label="After a decision from the queue, the next gate opens by itself.")
    notices = forms.BooleanField(
        required=False, label="A new gate says so on my desktop while the desk is in the background."
    )


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def preferences(request: HttpRequest) -> HttpResponse:
    """Show one's own preferences, or keep them."""
    if request.method != "POST":
        form = PreferencesForm(initial=model_to_dict(Preferences.of(request.user)))
        return render(request, "approvals/preferences.html", {"form": form})
    form = PreferencesForm(request.POST)
    form.full_clean()
    person = cast(User, request.user)
    Preferences.objects.update_or_create(user=person, defaults=form.cleaned_data)
    messages.success(request, "Kept. Pages that are open already follow when they are loaded again.")
    return redirect("preferences")
