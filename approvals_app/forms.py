"""What a person fills in on the desk: the filters of the queue, and a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django import forms
from django.http import QueryDict
from django.utils.crypto import salted_hmac
from django.utils.functional import cached_property
from django.utils.http import urlencode
from jsonschema.exceptions import best_match

from approvals_app.arguments import ArgumentsForm, Difference, Wrong, differences, read_json
from approvals_app.models import Gate, SavedView
from approvals_app.models.saved_view import MOST_VIEWS
from approvals_app.requests import NOTHING, Verdict, complaints
from approvals_app.states import GROUPS, DecisionType, GateKind, Grouping, Next, QueueTab
from sessions_app import chain
from sessions_app.agents import config, registry
from sessions_app.agents.risk import LEVELS
from sessions_app.agents.tools import CATALOGUE

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from approvals_app.querysets import GateQuerySet

#: A way to answer a question that offers it: let the on-call engineers take over instead of going on.
HAND_OVER = "hand_over"
#: A rejection after which the session ends: stopped, or handed over to people.
STOP, ESCALATE = str(Next.STOP), str(Next.ESCALATE)
#: Show what an edit changes, and decide nothing yet.
PREVIEW = "preview"
#: Decide each of several calls as it is marked.
EACH = "each"
#: One word for all calls, which must not go over marks that say otherwise.
_WHOLE = frozenset({DecisionType.APPROVE, DecisionType.REJECT})
#: What lets a call run.
_RUN = frozenset({DecisionType.APPROVE, DecisionType.EDIT})
_HANDED_OVER = "Handed over to the on-call engineer."


def hands_over(gate: Gate) -> bool:
    """Whether the question's own schema lets the answer hand the incident over."""
    schema = gate.response_schema if isinstance(gate.response_schema, dict) else {}
    action = (schema.get("properties") or {}).get("action")
    return isinstance(action, dict) and "escalate" in (action.get("enum") or ())


def _choices(first: str, values: list[str]) -> list[tuple[str, str]]:
    return [("", first), *((value, value) for value in values)]


class Chip(NamedTuple):
    """One thing that narrows the list: in words, and the address without it."""

    words: str
    without: str


class QueueFilter(forms.Form):
    """The queue's tab, filters and grouping, as they stand in the address. A value that is none of ours does nothing.

    To add a filter: a field here, its words in `_CHIPS`, and what it keeps in `kept`.
    """

    tab = forms.ChoiceField(choices=QueueTab.choices, required=False)
    #: What the tabs were called in addresses that people may have kept.
    status = forms.ChoiceField(choices=QueueTab.choices, required=False)
    tool = forms.ChoiceField(required=False)
    environment = forms.ChoiceField(required=False)
    risk = forms.ChoiceField(choices=_choices("any risk", list(LEVELS)), required=False)
    graph = forms.ChoiceField(required=False)
    agent = forms.CharField(max_length=60, required=False, strip=True)
    requester = forms.CharField(max_length=150, required=False, strip=True)
    mine = forms.BooleanField(required=False)
    claimed = forms.ChoiceField(
        choices=[("", "claimed or not"), ("me", "claimed by me"), ("nobody", "claimed by nobody")], required=False
    )
    q = forms.CharField(max_length=200, required=False, strip=True)
    call = forms.CharField(max_length=64, required=False, strip=True)
    group = forms.ChoiceField(
        choices=[("", "one by one"), *((name, how.words) for name, how in GROUPS.items())], required=False
    )

    _CHIPS: dict[str, str] = {
        "tool": "tool {}",
        "environment": "in {}",
        "risk": "{} risk",
        "graph": "graph {}",
        "agent": "agent {}",
        "requester": "requested by {}",
        "mine": "requested by me",
        "claimed": "claimed by {}",
        "q": "“{}”",
        "call": "call {:.8}",
        "group": "grouped {}",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        asked = self.data.get("tool") or ""
        # A graph of one's own may have tools that the catalogue lacks; the address may still name them.
        tools = sorted({*CATALOGUE, *([asked] if asked else [])})
        self._offer("tool", "any tool", tools)
        self._offer("environment", "any environment", list(config.current().environments.names))
        self._offer("graph", "any graph", registry.names())

    def _offer(self, name: str, first: str, values: list[str]) -> None:
        cast(forms.ChoiceField, self.fields[name]).choices = _choices(first, values)

    @cached_property
    def tab_asked(self) -> QueueTab:
        """The tab; the pending gates where the address says nothing that is one."""
        self.is_valid()
        named = self.cleaned_data.get("tab") or self.cleaned_data.get("status")
        return QueueTab(named) if named else QueueTab.PENDING

    @cached_property
    def narrowed(self) -> dict[str, str]:
        """The filters that fit and are not empty, as they go into an address."""
        self.is_valid()
        values = {name: self.cleaned_data.get(name) for name in self._CHIPS if name != "group"}
        return {name: "1" if value is True else str(value) for name, value in values.items() if value}

    @cached_property
    def grouped(self) -> Grouping | None:
        """How gates that belong together stand together. Only those that wait do."""
        self.is_valid()
        return GROUPS.get(self.cleaned_data.get("group", "")) if self.tab_asked == QueueTab.PENDING else None

    def under(self, tab: QueueTab) -> str:
        """Return the address's query with the same filters in another tab."""
        where = {"tab": str(tab)} if tab != QueueTab.PENDING else {}
        return urlencode({**where, **{name: value for name, value in self.asked.items() if name != "tab"}})

    @cached_property
    def asked(self) -> dict[str, str]:
        """All of it, as it goes into an address."""
        tab = {"tab": str(self.tab_asked)} if self.tab_asked != QueueTab.PENDING else {}
        group = {"group": self.cleaned_data["group"]} if self.cleaned_data.get("group") else {}
        return {**tab, **self.narrowed, **group}

    @property
    def unnarrowed(self) -> str:
        """The address's query without any filter."""
        return urlencode({name: value for name, value in self.asked.items() if name in {"tab", "group"}})

    @property
    def chips(self) -> list[Chip]:
        """What narrows or groups the list, each with the query that leaves it out."""
        return [
            Chip(
                self._CHIPS[name].format(GROUPS[value].words if name == "group" else value),
                urlencode({other: kept for other, kept in self.asked.items() if other != name}),
            )
            for name, value in self.asked.items()
            if name in self._CHIPS and (name != "group" or self.grouped)
        ]

    def kept(self, rows: GateQuerySet, viewer: User) -> GateQuerySet:
        """Return of `rows` what fits every filter."""
        asked = dict(self.narrowed)
        if asked.pop("mine", ""):
            rows = rows.requested_by(viewer)
        if claimed := asked.pop("claimed", ""):
            rows = rows.claimed_by(viewer) if claimed == "me" else rows.unclaimed()
        return rows.matching(**asked)


class SavedViewForm(forms.Form):
    """A name for the filters as they are; `query` is what stands in the address."""

    name = forms.CharField(max_length=40, error_messages={"required": "Give the view a name."})
    query = forms.CharField(max_length=600)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def save(self) -> SavedView:
        """Keep the view."""
        return SavedView.objects.create(user=self.user, **self.cleaned_data)

    def clean_name(self) -> str:
        """Refuse a name that this person uses already: it would not say which of the two is meant."""
        name: str = self.cleaned_data["name"]
        views = SavedView.objects.filter(user=self.user)
        if views.filter(name__iexact=name).exists():
            raise forms.ValidationError(
                f"You have a view called {name} already: choose another name, or delete that one."
            )
        if views.count() >= MOST_VIEWS:
            raise forms.ValidationError(f"You have {MOST_VIEWS} views already: delete one first.")
        return name

    def clean_query(self) -> str:
        """Keep of the query what the queue understands, and refuse to keep nothing."""
        asked = QueueFilter(QueryDict(self.cleaned_data["query"])).asked
        if not asked:
            raise forms.ValidationError("Nothing is filtered here: choose what the view should show first.")
        return urlencode(asked)


class CallForm:
    """One call of a gate as its form shows it: its verdict, where each has its own, and its arguments to edit."""

    def __init__(self, gate: Gate, position: int, data: Mapping[str, Any] | None) -> None:
        self.call: dict[str, Any] = gate.calls[position]
        self.position = position
        self.allowed = gate.allowed_for(position)
        self.type = str((data or {}).get(f"verdict-{position}") or "")
        self.said = str((data or {}).get(f"reason-{position}") or "").strip()
        self.error = ""
        self.args: ArgumentsForm | None = None
        if DecisionType.EDIT in self.allowed and gate.kind != GateKind.UNKNOWN_OUTCOME:
            schema = gate.args_schema(position)
            self.args = ArgumentsForm(self.call["args"], schema=schema, prefix=f"edit-{position}", data=data)

    @property
    def edited(self) -> bool:
        """Whether its arguments were changed, rightly or not."""
        return self.args is not None and (self.args.changed or not self.args.valid)

    @property
    def differences(self) -> list[Difference]:
        """What the changes come to."""
        return differences(self.call["args"], self.args.value) if self.args and self.args.valid else []


class DecisionForm(forms.Form):
    """One decision on the gate that was shown: `digest` names what was shown, `message` is the reason or answer.

    A reason that is offered ready-made (`preset`) and one's own words go together. A changed call is shown beside
    the original before it can be approved: `previewed` names the changes that were.
    """

    decision = forms.ChoiceField(
        choices=[*DecisionType.choices, *((value, value) for value in (PREVIEW, EACH, HAND_OVER, STOP, ESCALATE))],
        error_messages={"required": "Say what you decide: press one of the buttons."},
    )
    digest = forms.CharField(max_length=64)
    preset = forms.CharField(max_length=500, required=False)
    message = forms.CharField(max_length=4000, required=False, widget=forms.Textarea)
    answer = forms.CharField(max_length=100_000, required=False, strip=False, widget=forms.Textarea)
    previewed = forms.CharField(max_length=64, required=False)

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gate = gate
        data = self.data if self.is_bound else None
        self.calls = [CallForm(gate, position, data) for position in range(len(gate.calls))]
        self.shows_changes = False
        self._value: Any = NOTHING

    @property
    def presets(self) -> tuple[str, ...]:
        """The ready-made texts that fit this gate."""
        ui = config.current().ui
        match self.gate.kind:
            case GateKind.QUESTION:
                return (
                    ()
                    if self.gate.takes_json
                    else words_of_schema(self.gate.response_schema) or ui.hitl_question_templates
                )
            case GateKind.UNKNOWN_OUTCOME:
                return ()
        return ui.approval_rationale_templates

    @property
    def said(self) -> str:
        """What the person said, ready-made and own words together."""
        parts = (self.data.get("preset", ""), self.data.get("message", ""))
        return "\n".join(part.strip() for part in parts if part.strip())

    @property
    def unsure(self) -> bool:
        """Whether the page asks for a second step before this runs something, and it was not taken there.

        A page whose scripts run takes it on the button itself; without them, or before they have arrived, the server
        asks. So the form says which it was, and what decides without a page is not asked.
        """
        decision = self.cleaned_data["decision"]
        runs = decision in _RUN or (decision == EACH and any(call.type in _RUN for call in self.calls))
        return runs and self.data.get("confirm") == "ask"

    @property
    def typed(self) -> str:
        """What the person wrote themselves, to be given back to somebody who came too late."""
        return "\n".join(part for part in (self.said, str(self.data.get("answer") or "")) if part.strip())

    @property
    def edited(self) -> bool:
        """Whether any call's arguments were changed."""
        return any(call.edited for call in self.calls)

    @property
    def changes(self) -> str:
        """Return what names the changes as they are now, so that nothing is approved that was not shown."""
        written = [(call.call["tool"], call.args.value) for call in self.calls if call.args and call.edited]
        # Salted: a hash of a short secret would give it away.
        return salted_hmac("approvals.previewed", chain.digest(chain.as_stored(written))).hexdigest()

    @property
    def verdict(self) -> dict[str, Any]:
        """What `Gate.decide` takes of the form."""
        decision, digest = self.cleaned_data["decision"], self.cleaned_data["digest"]
        given: dict[str, Any] = {"decision": decision, "digest": digest, "message": self.said}
        match decision:
            case "hand_over":
                extra = {"action": "escalate"}
                return {
                    **given,
                    "decision": DecisionType.RESPOND,
                    "message": self.said or _HANDED_OVER,
                    "extra": extra,
                }
            case "stop" | "escalate":
                return {**given, "decision": DecisionType.REJECT, "then": decision}
            case "each":
                return {**given, "decision": [self._verdict_on(call) for call in self.calls]}
            case DecisionType.EDIT:
                (call,) = self.calls
                return {**given, "edited_args": call.args.value if call.args else None}
        return {**given, "value": self._value} if self._value is not NOTHING else given

    def _verdict_on(self, call: CallForm) -> Verdict:
        kind = DecisionType(call.type)
        said = call.said or (self.said if kind == DecisionType.REJECT else "")
        args = call.args.value if kind == DecisionType.EDIT and call.args else None
        return Verdict(type=kind, message=said, args=args)

    def clean(self) -> dict[str, Any]:
        """Ask for what is missing, and show the changes of an edit before they can be approved."""
        values: dict[str, Any] = super().clean() or {}
        decision = values.get("decision")
        if decision in {DecisionType.EDIT, PREVIEW, EACH}:
            self._clean_calls(decision)
        elif decision == DecisionType.APPROVE and self.edited:
            self.add_error(None, "You changed the call: look at the changes first, or take them back.")
        elif decision in _WHOLE and any(call.type not in {"", decision} for call in self.calls):
            self.add_error(None, "You marked some calls otherwise: decide them as marked, or take the marks back.")
        if "message" not in self.errors:
            self._clean_words(decision)
        if decision == DecisionType.RESPOND and self.gate.takes_json:
            self._clean_answer()
        return values

    def _clean_words(self, decision: str | None) -> None:
        if decision == HAND_OVER and not hands_over(self.gate):
            self.add_error("decision", "This gate cannot hand the incident over.")
        if decision in {DecisionType.REJECT, STOP, ESCALATE} and not self.said:
            reads = "the agent reads it before it tries another way"
            self.add_error("message", f"Say why: {reads if decision == DecisionType.REJECT else 'it goes on record'}.")
        if decision == DecisionType.RESPOND and not self.said and not self.gate.takes_json:
            self.add_error("message", "Write the answer that the agent should get.")

    def _clean_answer(self) -> None:
        text = self.data.get("answer") or ""
        if not text.strip():
            self.add_error("answer", "Write the answer as JSON; a text goes in quotes.")
            return
        try:
            self._value = read_json(text)
        except Wrong as wrong:
            self.add_error("answer", str(wrong))
            return
        if error := best_match(complaints(self._value, self.gate.response_schema)):
            where = ".".join(str(part) for part in error.absolute_path)
            self.add_error("answer", f"The agent cannot take this: {where + ': ' if where else ''}{error.message}.")

    def _clean_calls(self, decision: str) -> None:
        if decision == EACH:
            for call in self.calls:
                self._clean_mark(call)
        if any(call.args and not call.args.valid for call in self.calls):
            self.add_error(None, "The changed call cannot run like this: see what is said at its fields.")
        elif decision != EACH and not self.edited:
            self.add_error(None, "Nothing was changed: approve the call as it is, or change an argument.")
        elif decision != EACH and len(self.calls) > 1:
            self.add_error(None, "There are several calls here: mark each, then decide them as marked.")
        elif not self.errors and (decision == PREVIEW or (self.edited and self.data.get("previewed") != self.changes)):
            self.shows_changes = True

    def _clean_mark(self, call: CallForm) -> None:
        if call.type not in call.allowed:
            call.error = "Say what shall become of this call."
        elif call.type == DecisionType.EDIT and not call.edited:
            call.error = "Nothing was changed: change an argument, or approve it as it is."
        elif call.type != DecisionType.EDIT and call.edited:
            call.error = "You changed its arguments: mark it as edited, or take the changes back."
        elif call.type == DecisionType.REJECT and not (call.said or self.said):
            call.error = "Say why it is rejected: here, or once for all."
        elif call.type == DecisionType.RESPOND and not call.said:
            call.error = "Write what the agent gets instead of a result."
        if call.error:
            self.add_error(None, f"Call {call.position + 1}: {call.error}")


def words_of_schema(schema: Any) -> tuple[str, ...]:
    """Return the texts that an answer may be, where its schema lists them."""
    listed = schema.get("enum") if isinstance(schema, dict) else None
    return tuple(one for one in listed or () if isinstance(one, str)) if isinstance(listed, list) else ()
