"""What a person fills in about sessions: the list's filters, and a new one."""

from __future__ import annotations

from typing import Any, cast

from django import forms

from sessions_app.agents import config, registry
from sessions_app.states import SessionStatus


class SessionFilter(forms.Form):
    """The list's filters, as they stand in the address. A value that is none of ours filters nothing."""

    status = forms.ChoiceField(choices=[("", "any status"), *SessionStatus.choices], required=False)
    environment = forms.ChoiceField(required=False)
    q = forms.CharField(max_length=200, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _choose(self, "environment", [("", "any environment"), *_pairs(config.current().environments.names)])

    @property
    def asked(self) -> dict[str, str]:
        """The filters that fit and are not empty."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}


class NewSessionForm(forms.Form):
    """What the agents should look into, and where. What fits is decided where every surface asks it."""

    query = forms.CharField(widget=forms.Textarea, error_messages={"required": "Say what the agent should look into."})
    environment = forms.ChoiceField()
    graph = forms.ChoiceField(initial="incident")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _choose(self, "environment", [("", "choose where it is"), *_pairs(config.current().environments.names)])
        _choose(self, "graph", _pairs(registry.names()))
        self.fields["environment"].error_messages = {
            "required": "Choose where the incident is.",
            "invalid_choice": "There is no such environment.",
        }

    @property
    def graphs(self) -> int:
        """How many graphs there are to choose from."""
        return len(registry.names())


def _choose(form: forms.Form, name: str, choices: list[tuple[str, str]]) -> None:
    cast(forms.ChoiceField, form.fields[name]).choices = choices


def _pairs(names: Any) -> list[tuple[str, str]]:
    return [(name, name) for name in names]
