"""On which line of a TOML file each key stands: what `tomllib` knows while it reads and does not tell."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

#: The way to a value: table and key names, and positions in arrays.
Way = tuple[str | int, ...]

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "e": "\x1b"}


def locate(text: str) -> dict[Way, int]:
    """Return the line of every key, table header and array item of `text`, which `tomllib` has read before.

    It trusts that the text is valid TOML, which is what lets it stay this small.
    """
    reader = _Reader(text)
    reader.document()
    return reader.lines


def line_of(lines: dict[Way, int], way: Way) -> int | None:
    """Return the line of the closest thing on the way that stands in the file."""
    for length in range(len(way), 0, -1):
        if (line := lines.get(way[:length])) is not None:
            return line
    return None


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Way, int] = {}
        self.breaks = [position for position, letter in enumerate(text) if letter == "\n"]
        self.tables: dict[Way, int] = {}

    def mark(self, way: Way, position: int) -> None:
        self.lines.setdefault(way, bisect.bisect_left(self.breaks, position) + 1)

    def peek(self, length: int = 1) -> str:
        return self.text[self.at : self.at + length]

    def skip(self, *, newlines: bool) -> None:
        """Go past blanks and comments, and past line ends where the grammar lets them stand."""
        blanks = " \t\r\n" if newlines else " \t"
        while self.at < len(self.text):
            if self.peek() in blanks:
                self.at += 1
            elif self.peek() == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def document(self) -> None:
        base: Way = ()
        self.skip(newlines=True)
        while self.at < len(self.text):
            start = self.at
            if self.peek(2) == "[[":
                self.at += 2
                base = self.header(tuple(self.key()), start)
                index = self.tables.get(base, -1) + 1
                self.tables[base] = index
                base = (*base, index)
                self.mark(base, start)
                self.at += 2
            elif self.peek() == "[":
                self.at += 1
                base = self.header(tuple(self.key()), start)
                self.at += 1
            else:
                self.pair(base)
            self.skip(newlines=True)

    def header(self, names: Way, start: int) -> Way:
        """Return the way of a header: the latest position is put in wherever it passes an array of tables."""
        way: Way = ()
        for position, name in enumerate(names):
            way = (*way, name)
            self.mark(way, start)
            if way in self.tables and position < len(names) - 1:
                way = (*way, self.tables[way])
        return way

    def pair(self, base: Way) -> None:
        start = self.at
        way = base
        for name in self.key():
            way = (*way, name)
            self.mark(way, start)
        self.at += 1  # the equals sign
        self.skip(newlines=False)
        self.value(way)

    def key(self) -> Iterator[str]:
        """Yield the parts of a dotted key, and stop on what follows it."""
        while True:
            self.skip(newlines=False)
            if self.peek() in {'"', "'"}:
                yield self.string()
            else:
                start = self.at
                while self.peek() and self.peek() in _BARE:
                    self.at += 1
                yield self.text[start : self.at]
            self.skip(newlines=False)
            if self.peek() != ".":
                return
            self.at += 1

    def value(self, way: Way) -> None:
        opening = self.peek()
        if opening in {'"', "'"}:
            self.string()
        elif opening == "[":
            self.at += 1
            self.skip(newlines=True)
            index = 0
            while self.peek() != "]":
                self.mark((*way, index), self.at)
                self.value((*way, index))
                self.comma()
                index += 1
            self.at += 1
        elif opening == "{":
            self.at += 1
            self.skip(newlines=True)
            while self.peek() != "}":
                self.pair(way)
                self.comma()
            self.at += 1
        else:
            while self.peek() and self.peek() not in ",]}#\n":
                self.at += 1

    def comma(self) -> None:
        self.skip(newlines=True)
        if self.peek() == ",":
            self.at += 1
            self.skip(newlines=True)

    def string(self) -> str:
        """Go past a string of any of the four kinds; return its text, which only keys need."""
        quote = self.peek()
        if self.peek(3) == quote * 3:
            self.at += 3
            while self.peek(3) != quote * 3:
                self.at += 2 if quote == '"' and self.peek() == "\\" else 1
            self.at += 3
            while self.peek() == quote:  # up to two more quotes belong to the text
                self.at += 1
            return ""
        self.at += 1
        letters: list[str] = []
        while self.peek() != quote:
            if quote == '"' and self.peek() == "\\":
                letters.append(self.escape())
            else:
                letters.append(self.peek())
                self.at += 1
        self.at += 1
        return "".join(letters)

    def escape(self) -> str:
        letter = self.text[self.at + 1]
        size = {"u": 4, "U": 8, "x": 2}.get(letter, 0)
        digits = self.text[self.at + 2 : self.at + 2 + size]
        self.at += 2 + size
        return chr(int(digits, 16)) if size else _ESCAPES.get(letter, letter)
