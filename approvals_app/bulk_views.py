"""The page that lists the picked gates and asks once more, and what became of each."""

from __future__ import annotations

from http import HTTPStatus

from django import forms
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from approvals_app import bulk
from approvals_app.states import Channel
from sessions_app.decorators import PersonRequest, page, status_of
from sessions_app.exceptions import BadRequest, ClmError


class BulkForm(forms.Form):
    """One decision for several gates: each `gate` is an id, and once it was shown its digest (`12:ab…`)."""

    type = forms.ChoiceField(choices=[(kind, kind.label) for kind in bulk.BULK])
    message = forms.CharField(max_length=4000, required=False)


@require_http_methods(["GET", "HEAD", "POST"])
@page("approvals_app.decide_gate")
def bulk_decisions(request: PersonRequest) -> HttpResponse:
    """List the picked gates and ask (GET decides nothing), or decide those that were still ticked."""
    sent = request.POST if request.method == "POST" else request.GET
    form, picked = BulkForm(sent), _picked(sent)
    if not form.is_valid():
        raise BadRequest("Say whether these gates are approved or rejected, in at most 4000 letters.")
    kind = form.cleaned_data["type"]
    if request.method != "POST":
        return _ask(request, form, picked)
    try:
        results = bulk.decide_all(
            picked, kind, actor=request.user, channel=Channel.PAGE, message=form.cleaned_data["message"]
        )
    except ClmError as refused:
        return _ask(request, form, picked, refused=refused, status=status_of(refused))
    decided = [result for result in results if result.decision]
    context = {"results": results, "decided": decided, "type": kind, "said": form.cleaned_data["message"]}
    return render(request, "approvals/bulk_done.html", context)


def _ask(
    request: PersonRequest,
    form: BulkForm,
    picked: dict[int, str],
    *,
    refused: ClmError | None = None,
    status: int = HTTPStatus.OK,
) -> HttpResponse:
    kind = form.cleaned_data["type"]
    gates = bulk.found(list(picked)[: bulk.MOST + 1])
    open_gates = [(gate, gate.refusal_for(request.user)) for gate in gates if gate.pending]
    context = {
        "form": form,
        "type": kind,
        "gates": open_gates,
        "late": [gate for gate in gates if not gate.pending],
        "why_not": bulk.unfit([gate for gate, _ in open_gates], kind),
        "refused": refused,
    }
    return render(request, "approvals/bulk.html", context, status=status)


def _picked(sent: QueryDict) -> dict[int, str]:
    """Return the digest that was shown of each picked gate, by id; empty where it was not shown yet."""
    picked = {}
    for value in sent.getlist("gate"):
        number, _, digest = value.partition(":")
        # Longer than any id of ours is no id, and a database would choke on it.
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            raise BadRequest(f"{value[:40]!r} is no gate.")
        picked[int(number)] = digest
    return picked
