"""The form of a call's arguments: types kept, untouched values kept, mistakes said where they are."""

from __future__ import annotations

from typing import Any

import pytest

from approvals_app.arguments import ArgumentsForm, differences, same

ARGS = {
    "text": "one",
    "lines": "set -e\nrun\n",
    "whole": 3,
    "share": 0.50,
    "yes": True,
    "nothing": None,
    "nested": {"team": "pay", "deep": {"tier": 1}},
    "list": ["a", "b"],
    "objects": [{"n": 1}],
    "empty": {},
    "x/y~z": "odd",
}


def form(args: dict[str, Any], data: dict[str, str] | None = None, schema: Any = None) -> ArgumentsForm:
    return ArgumentsForm(args, schema=schema, prefix="edit-0", data=data)


def as_shown(one: ArgumentsForm) -> dict[str, str]:
    """Return what a browser sends of a form that nobody touched."""
    data = {}
    for part in one.top.every():
        if part.path and not part.fields and part.kind not in {"object", "list"}:
            data[part.name] = part.text.replace("\n", "\r\n")
    return data


def errors(one: ArgumentsForm) -> dict[str, str]:
    return {part.name: part.error for part in one.top.every() if part.error}


def test_a_form_that_nobody_touched_gives_back_exactly_what_was_there():
    sent = form(ARGS, as_shown(form(ARGS)))
    assert same(sent.value, ARGS)
    assert sent.valid
    assert not sent.changed


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("text", "", {"text": ""}),
        ("text", "12", {"text": "12"}),
        ("lines", "a\r\nb", {"lines": "a\nb"}),
        ("whole", " -7 ", {"whole": -7}),
        ("share", "2", {"share": 2}),
        ("share", "1e-3", {"share": 0.001}),
        ("yes", "false", {"yes": False}),
        ("nothing", '{"a": [1]}', {"nothing": {"a": [1]}}),
        ("nested/team", "web", {"nested": {"team": "web", "deep": {"tier": 1}}}),
        ("nested/deep/tier", "2", {"nested": {"team": "pay", "deep": {"tier": 2}}}),
        ("list/1", "c", {"list": ["a", "c"]}),
        ("list/2", "c", {"list": ["a", "b", "c"]}),
        ("objects/0/n", "5", {"objects": [{"n": 5}]}),
        ("empty", '{"k": true}', {"empty": {"k": True}}),
        ("x~1y~0z", "even", {"x/y~z": "even"}),
    ],
)
def test_each_value_keeps_its_type_when_it_is_changed(name, text, expected):
    sent = form(ARGS, as_shown(form(ARGS)) | {f"edit-0/{name}": text})
    assert errors(sent) == {}
    assert same(sent.value, {**ARGS, **expected})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("whole", "3.5"),
        ("whole", ""),
        ("whole", "three"),
        ("share", "NaN"),
        ("share", "true"),
        ("share", "1e999"),
        ("yes", "maybe"),
        ("nothing", "{"),
        ("nothing", "Infinity"),
        ("list/0", "a [redacted]"),
    ],
)
def test_what_does_not_fit_is_said_at_its_own_field(name, text):
    sent = form(ARGS, as_shown(form(ARGS)) | {f"edit-0/{name}": text})
    assert list(errors(sent)) == [f"edit-0/{name}"]
    assert not sent.valid


def test_items_of_a_list_are_left_out_and_added_and_the_next_place_appears():
    data = {"drop:edit-0/list/0": "on", "edit-0/list/2": "c", "edit-0/list/3": "d"}
    sent = form(ARGS, data)
    assert sent.value["list"] == ["b", "c", "d"]
    (field,) = [part for part in sent.fields if part.path == ("list",)]
    assert [part.name for part in field.fields if part.slot] == ["edit-0/list/2", "edit-0/list/3", "edit-0/list/4"]


def test_a_schema_says_what_may_be_left_out_chosen_or_nothing():
    schema = {
        "$defs": {"Zone": {"enum": ["a", "b"]}},
        "properties": {
            "zone": {"$ref": "#/$defs/Zone"},
            "size": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]},
            "note": {"type": "string"},
            "hosts": {"type": "array", "items": {"type": "string", "maxLength": 3}},
        },
        "required": ["zone", "size"],
    }
    args = {"zone": "a", "size": 4}
    shown = form(args, schema=schema)
    assert [field.kind for field in shown.fields] == ["choice", "integer", "text", "list"]
    assert shown.fields[0].options == [('"a"', "a"), ('"b"', "b")]
    assert form(args, {"edit-0/size": ""}, schema).value == {"zone": "a", "size": None}
    assert form(args, {"edit-0/zone": '"b"', "edit-0/hosts/0": "h1"}, schema).value == {
        "zone": "b",
        "size": 4,
        "hosts": ["h1"],
    }
    assert errors(form(args, {"edit-0/size": "10"}, schema)) == {"edit-0/size": "At most 9."}
    assert errors(form(args, {"edit-0/hosts/0": "long"}, schema)) == {"edit-0/hosts/0": "At most 3 letters."}
    assert errors(form(args, {"edit-0/zone": '"c"'}, schema)) == {
        "edit-0/zone": "Choose one of those that are offered."
    }


def test_a_value_of_another_type_than_the_schema_s_is_kept_as_json():
    schema = {"properties": {"size": {"type": "integer"}}}
    shown = form({"size": "many"}, schema=schema)
    assert (shown.fields[0].kind, shown.fields[0].text) == ("json", '"many"')
    assert form({"size": "many"}, {"edit-0/size": "3"}, schema).value == {"size": 3}


def test_what_cannot_be_seen_is_written_as_an_escape_and_comes_back_as_it_was():
    args = {"path": "a\u202eb\u200bc"}
    shown = form(args)
    assert shown.fields[0].text == '"a\\u202eb\\u200bc"'
    assert form(args, as_shown(shown)).value == args


@pytest.mark.parametrize("value", [{"a": {"b": {"c": {"d": {"e": 1}}}}}, list(range(100)), [[1, 2], [3]], [None, {}]])
def test_whatever_the_value_is_there_is_a_form_for_it(value):
    shown = form({"value": value})
    assert same(form({"value": value}, as_shown(shown)).value, {"value": value})


# Secrets -------------------------------------------------------------------------------------------------------

SECRET = {"password": "hunter2", "script": "export TOKEN=abcdef123\nrun", "auth": {"api_key": ["k1", "k2"]}, "n": 1}


def test_a_secret_is_not_in_the_form_and_stays_when_it_is_left_alone():
    shown = form(SECRET)
    sent = as_shown(shown)
    assert not [text for text in sent.values() if "hunter2" in text or "abcdef123" in text or "k1" in text]
    assert form(SECRET, sent | {"edit-0/n": "2"}).value == {**SECRET, "n": 2}


def test_a_secret_can_be_written_anew_and_never_becomes_the_mark():
    sent = as_shown(form(SECRET))
    assert form(SECRET, sent | {"edit-0/password": "better"}).value["password"] == "better"
    wrong = form(SECRET, sent | {"edit-0/script": "export TOKEN=[redacted]\nrun twice"})
    assert "hidden part" in errors(wrong)["edit-0/script"]
    assert form(SECRET, sent | {"edit-0/script": "run twice"}).value["script"] == "run twice"


# What is different ---------------------------------------------------------------------------------------------


def test_differences_name_the_place_and_hide_secrets():
    after = {**ARGS, "whole": 3.0, "nested": {"team": "web", "deep": {}}, "list": ["a"], "more": "x"}
    del after["yes"]
    found = {one.name: (one.before, one.after) for one in differences(ARGS, after)}
    assert found == {
        "whole": ("3", "3.0"),
        "yes": ("true", None),
        "nested.team": ('"pay"', '"web"'),
        "nested.deep.tier": ("1", None),
        "list[2]": ('"b"', None),
        "nested.deep": (None, "{}"),
        "more": (None, '"x"'),
    }
    assert [(one.before, one.after) for one in differences({"token": "abc"}, {"token": "def"})] == [
        ("[redacted]", "[redacted]")
    ]


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), ("1", 1), ([], {}), (None, False), ({"a": 1}, {})])
def test_values_of_different_types_are_not_the_same(one, other):
    assert not same(one, other)
