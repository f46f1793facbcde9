"""``_filter``: https://hl7.org/fhir/R4/search_filter.html

``given eq "Ada" and (birthdate ge 1970 or not (gender eq male))``. ``and`` binds stronger than
``or``. A path follows references: ``subject.name``, ``subject[active eq true].name``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from fhir_server.model.problem import BadRequest

DEEPEST: Final = 20
"""Parentheses and brackets in each other."""

OPERATORS: Final = frozenset(
    {"eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss"}
    | {"sb", "in", "ni", "re"}
)


@dataclass(frozen=True, slots=True)
class Step:
    """A search parameter; ``where``: what the resource that it leads to must be."""

    name: str
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """``quoted``: the value was a string in quotation marks, without which it stands here."""

    path: tuple[Step, ...]
    operator: str
    value: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """All of the parts (``every``) or any of them."""

    every: bool
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Negated:
    part: Filter


Filter: TypeAlias = Compare | Joined | Negated

_SPACE: Final = re.compile(r"[ \t]*")
_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9_\-]*")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORD: Final = re.compile(r'[^\s()\[\]"]+')


def parse_filter(text: str) -> Filter:
    """Raises BadRequest, which names the place."""
    parser = _Parser(text)
    found = parser.either(0)
    parser.space()
    if parser.at < len(text):
        parser.fail("the end or a logical operator")
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def fail(self, wanted: str) -> NoReturn:
        rest = self._text[self.at : self.at + 30]
        raise BadRequest(f"_filter: {wanted} is expected at {rest!r}")

    def space(self) -> None:
        match = _SPACE.match(self._text, self.at)
        assert match is not None
        self.at = match.end()

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[0]

    def _mark(self, mark: str) -> bool:
        self.space()
        if not self._text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def _word(self, word: str) -> bool:
        """A logical operator, which ends at a space or a parenthesis."""
        start = self.at
        self.space()
        if self._take(_NAME) == word and self._text[self.at : self.at + 1] in (" ", "\t", "("):
            return True
        self.at = start
        return False

    def either(self, depth: int) -> Filter:
        return self._list(depth, "or")

    def _list(self, depth: int, word: str) -> Filter:
        parts = [self._item(depth, word)]
        while self._word(word):
            parts.append(self._item(depth, word))
        return parts[0] if len(parts) == 1 else Joined(word == "and", tuple(parts))

    def _item(self, depth: int, word: str) -> Filter:
        return self._list(depth, "and") if word == "or" else self._one(depth)

    def _one(self, depth: int) -> Filter:
        if depth > DEEPEST:
            raise BadRequest("_filter: is nested too deeply", code="too-costly")
        negated = self._word("not")
        if not self._mark("("):
            if negated:
                self.fail("'('")
            return self._compare(depth)
        inner = self.either(depth + 1)
        if not self._mark(")"):
            self.fail("')'")
        return Negated(inner) if negated else inner

    def _compare(self, depth: int) -> Compare:
        path = self._path(depth)
        self.space()
        operator = self._take(_NAME)
        if operator not in OPERATORS:
            self.fail("an operator")
        self.space()
        text = self._take(_STRING)
        if text is not None:
            return Compare(path, operator, self._unquoted(text), True)
        word = self._take(_WORD)
        if word is None:
            self.fail("a value")
        return Compare(path, operator, word, False)

    def _unquoted(self, text: str) -> str:
        try:
            found = json.loads(text)
        except ValueError:
            raise BadRequest(f"_filter: {text[:100]} is not a JSON string") from None
        return str(found)

    def _path(self, depth: int) -> tuple[Step, ...]:
        steps = []
        while True:
            self.space()
            name = self._take(_NAME)
            if name is None:
                self.fail("a parameter")
            where = None
            if self._text.startswith("[", self.at):
                self.at += 1
                where = self.either(depth + 1)
                if not self._mark("]"):
                    self.fail("']'")
            steps.append(Step(name, where))
            if not self._text.startswith(".", self.at):
                break
            self.at += 1
        if steps[-1].where is not None:
            self.fail("'.'")
        return tuple(steps)
