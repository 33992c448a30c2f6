"""What a person fills in on the desk: the filters of the queue, and a decision."""

from __future__ import annotations

from typing import Any, cast

from django import forms

from approvals_app.models import Gate
from approvals_app.states import DecisionType, GateKind, GateStatus
from sessions_app.agents import config
from sessions_app.agents.risk import LEVELS
from sessions_app.agents.tools import CATALOGUE

#: The tabs of the queue, and the statuses that each has.
PENDING, DECIDED = "pending", "decided"
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


class QueueFilter(forms.Form):
    """The queue's filters, as they stand in the address. A value that is none of ours filters nothing."""

    status = forms.ChoiceField(choices=[(PENDING, PENDING), (DECIDED, DECIDED), *GateStatus.choices], required=False)
    tool = forms.ChoiceField(required=False)
    environment = forms.ChoiceField(required=False)
    risk = forms.ChoiceField(choices=_choices("any risk", list(LEVELS)), required=False)
    q = forms.CharField(max_length=200, required=False, strip=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        asked = self.data.get("tool") or ""
        # A graph of one's own may have tools that the catalogue lacks; the address may still name them.
        tools = sorted({*CATALOGUE, *([asked] if asked else [])})
        environments = list(config.current().environments.names)
        cast(forms.ChoiceField, self.fields["tool"]).choices = _choices("any tool", tools)
        cast(forms.ChoiceField, self.fields["environment"]).choices = _choices("any environment", environments)

    @property
    def asked(self) -> dict[str, str]:
        """The filters that fit and are not empty."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    @property
    def tab(self) -> str:
        """Which tab the status belongs to."""
        return PENDING if self.asked.get("status", PENDING) == PENDING else DECIDED

    @property
    def narrowed(self) -> dict[str, str]:
        """Everything asked for beside the tab itself."""
        return {
            name: value for name, value in self.asked.items() if not (name == "status" and value in {PENDING, DECIDED})
        }


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
