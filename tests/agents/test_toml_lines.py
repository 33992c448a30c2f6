"""Every key of a TOML file is found on the line where it stands."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sessions_app.agents.config import SHIPPED
from sessions_app.agents.toml_lines import Way, line_of, locate

TEXT = '''# a comment with [a.table] in it
top = 1

[a]
plain = "x = [not a table]" # another = comment
dotted.key = 2
"quoted \\"key\\" \\u00e9" = 3
many = [
  "one",   # with a ] in it
  { inside = 1, deeper = { still = [1, 2] } },
]
text = """
[looks.like]
a = "table" \\"""
"""
raw = \'\'\'
[[me]]
too = 1\'\'\'
after = 1979-05-27T07:32:00Z

[[a.items]]
name = "first"
  [[a.items.below]]
  x = 1
[[a.items]]
name = "second"
[a.items.sub]
y = [ [ 1 ],
  [ 2 ] ]
'''


def ways(value: Any, way: Way = ()) -> list[Way]:
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [found for key, below in items for found in ((*way, key), *ways(below, (*way, key)))]


def test_each_key_is_on_its_line() -> None:
    lines = locate(TEXT)
    expected = {
        ("top",): 2,
        ("a",): 4,
        ("a", "plain"): 5,
        ("a", "dotted", "key"): 6,
        ("a", 'quoted "key" é'): 7,
        ("a", "many"): 8,
        ("a", "many", 0): 9,
        ("a", "many", 1, "deeper", "still", 1): 10,
        ("a", "text"): 12,
        ("a", "raw"): 16,
        ("a", "after"): 19,
        ("a", "items", 0): 21,
        ("a", "items", 0, "name"): 22,
        ("a", "items", 0, "below", 0): 23,
        ("a", "items", 0, "below", 0, "x"): 24,
        ("a", "items", 1, "name"): 26,
        ("a", "items", 1, "sub"): 27,
        ("a", "items", 1, "sub", "y", 1, 0): 29,
    }
    assert {way: lines.get(way) for way in expected} == expected


def test_it_knows_every_key_that_the_reader_of_toml_knows() -> None:
    for text in (TEXT, SHIPPED.read_text(encoding="utf-8")):
        assert sorted(map(str, ways(tomllib.loads(text)))) == sorted(map(str, locate(text)))


def test_what_is_missing_is_blamed_on_the_closest_thing_above() -> None:
    assert line_of(locate(TEXT), ("a", "items", 1, "gone", "further")) == 25
    assert line_of(locate(TEXT), ("nowhere",)) is None


@given(st.text(st.sampled_from("ab.=\"'[]{}#,\\ \n\t1u{")))
def test_no_valid_file_is_too_odd_for_it(text: str) -> None:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(ways(tables)) <= set(locate(text))
