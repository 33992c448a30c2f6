"""What a person fills in on the desk: the filters of the queue, and a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django import forms
from django.http import QueryDict
from django.utils.functional import cached_property
from django.utils.http import urlencode

from approvals_app.models import Gate, SavedView
from approvals_app.models.saved_view import MOST_VIEWS
from approvals_app.states import GROUPS, DecisionType, GateKind, Grouping, QueueTab
from sessions_app.agents import config, registry
from sessions_app.agents.risk import LEVELS
from sessions_app.agents.tools import CATALOGUE

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from approvals_app.querysets import GateQuerySet

#: A way to answer a question that offers it: let the on-call engineers take over instead of going on.
HAND_OVER = "hand_over"
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


class DecisionForm(forms.Form):
    """One decision on the gate that was shown: `digest` names what was shown, `message` is the reason or answer.

    A reason that is offered ready-made (`preset`) and one's own words go together.
    """

    decision = forms.ChoiceField(
        choices=[*DecisionType.choices, (HAND_OVER, "hand over")],
        error_messages={"required": "Say what you decide: press one of the buttons."},
    )
    digest = forms.CharField(max_length=64)
    preset = forms.CharField(max_length=500, required=False)
    message = forms.CharField(max_length=4000, required=False, widget=forms.Textarea)

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gate = gate

    @property
    def presets(self) -> tuple[str, ...]:
        """The ready-made texts that fit this gate."""
        ui = config.current().ui
        match self.gate.kind:
            case GateKind.QUESTION:
                return ui.hitl_question_templates
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
        runs = self.cleaned_data["decision"] in {DecisionType.APPROVE, DecisionType.EDIT}
        return runs and self.data.get("confirm") == "ask"

    @property
    def verdict(self) -> dict[str, Any]:
        """What `Gate.decide` takes of the form."""
        decision, digest = self.cleaned_data["decision"], self.cleaned_data["digest"]
        if decision == HAND_OVER:
            return {
                "decision": DecisionType.RESPOND,
                "digest": digest,
                "message": self.said or _HANDED_OVER,
                "extra": {"action": "escalate"},
            }
        return {"decision": decision, "digest": digest, "message": self.said}

    def clean(self) -> dict[str, Any]:
        """Ask for the words without which the agent could not go on well."""
        values: dict[str, Any] = super().clean() or {}
        if "message" in self.errors:
            return values
        if values.get("decision") == HAND_OVER and not hands_over(self.gate):
            self.add_error("decision", "This gate cannot hand the incident over.")
        if values.get("decision") == DecisionType.REJECT and not self.said:
            self.add_error("message", "Say why: the agent reads it before it tries another way.")
        if values.get("decision") == DecisionType.RESPOND and not self.said:
            self.add_error("message", "Write the answer that the agent should get.")
        return values
