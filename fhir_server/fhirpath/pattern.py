"""Patterns of ``matches()``: text to a small program of instructions.

The syntax is what XML Schema, PCRE and ECMAScript share: literals, ``.`` (any character,
line breaks too), classes, ``\\d \\w \\s``, groups, ``|``, ``* + ? {n,m}`` and their lazy
forms, ``^``, ``$``, ``\\b``. Back-references and look-around have no linear-time matching:
they are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

from fhir_server.fhirpath.errors import FhirPathError, FhirPathNotSupported

MAX_PROGRAM = 5_000
"""Instructions; a counted repetition is written out."""
MAX_NESTING = 40
_MAX_COUNT = 1_000


@dataclass(frozen=True, slots=True)
class Characters:
    """A set of characters."""

    singles: frozenset[str] = frozenset()
    ranges: tuple[tuple[str, str], ...] = ()
    classes: tuple[Callable[[str], bool], ...] = ()
    negated: bool = False

    def __contains__(self, character: str) -> bool:
        found = (
            character in self.singles
            or any(low <= character <= high for low, high in self.ranges)
            or any(holds(character) for holds in self.classes)
        )
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Assertion:
    kind: Literal["^", "$", "b", "B"]


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Group:
    number: int
    inner: Part


@dataclass(frozen=True, slots=True)
class Repeat:
    """``most`` is None when there is no limit."""

    inner: Part
    least: int
    most: int | None
    greedy: bool


Part: TypeAlias = Characters | Assertion | Sequence | Choice | Group | Repeat


@dataclass(frozen=True, slots=True)
class Split:
    """Two ways to go on, the first preferred."""

    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Save:
    """Remember the position: slot 2n is where group n begins, 2n + 1 where it ends."""

    slot: int


@dataclass(frozen=True, slots=True)
class Done:
    pass


Instruction: TypeAlias = Characters | Assertion | Split | Save | Done


def _word(character: str) -> bool:
    return character.isalnum() or character == "_"


_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "w": _word,
    "s": str.isspace,
    "D": lambda c: not c.isdecimal(),
    "W": lambda c: not _word(c),
    "S": lambda c: not c.isspace(),
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_ANY = Characters(negated=True)


def program(pattern: str) -> list[Instruction]:
    """The program of a pattern. Raises FhirPathError (bad pattern), FhirPathNotSupported."""
    parser = _Parser(pattern)
    part = parser.choice()
    if parser.at < len(pattern):
        raise parser.error()
    if _size(part) > MAX_PROGRAM:
        raise FhirPathError("The pattern is too large")
    code: list[Instruction] = []
    _emit(Group(0, part), code)
    code.append(Done())
    return code


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.groups = 0
        self.nesting = 0

    def error(self) -> FhirPathError:
        return FhirPathError(f"Bad pattern at character {self.at + 1}")

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def accept(self, text: str) -> bool:
        if self.pattern.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def take(self) -> str:
        character = self.peek()
        if not character:
            raise self.error()
        self.at += 1
        return character

    def choice(self) -> Part:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise FhirPathError("The pattern is nested too deeply")
        options = [self.sequence()]
        while self.accept("|"):
            options.append(self.sequence())
        self.nesting -= 1
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self) -> Part:
        parts = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated(self.atom()))
        return Sequence(tuple(parts))

    def repeated(self, part: Part) -> Part:
        least, most = self.count()
        if least < 0:
            return part
        if isinstance(part, Assertion):
            raise self.error()
        greedy = not self.accept("?")
        if self.peek() in ("*", "+", "?"):
            raise self.error()
        return Repeat(part, least, most, greedy)

    def count(self) -> tuple[int, int | None]:
        """A quantifier, or (-1, None) when there is none."""
        for symbol, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.accept(symbol):
                return bounds
        if self.peek() != "{":
            return -1, None
        end = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : max(end, 0)].partition(",")
        if not (low.isascii() and low.isdigit() and (high.isdigit() or not high)):
            raise self.error()
        self.at = end + 1
        least = int(low[:9])
        most = int(high[:9]) if high else None if comma else least
        if least > _MAX_COUNT or (most or 0) > _MAX_COUNT or (most is not None and most < least):
            raise self.error()
        return least, most

    def atom(self) -> Part:
        character = self.take()
        match character:
            case ".":
                return _ANY
            case "^" | "$":
                return Assertion(character)
            case "(":
                return self.group()
            case "[":
                return self.set()
            case "\\":
                return self.escape()
            case "*" | "+" | "?" | "{":
                raise self.error()
        return Characters(frozenset(character))

    def group(self) -> Part:
        if self.accept("?:"):
            inner = self.choice()
        elif self.peek() == "?":
            raise FhirPathNotSupported("Patterns with look-around, names or flags")
        else:
            self.groups += 1
            number = self.groups
            inner = Group(number, self.choice())
        if not self.accept(")"):
            raise self.error()
        return inner

    def escape(self) -> Part:
        character = self.peek()
        if character in ("b", "B"):
            self.at += 1
            return Assertion("b" if character == "b" else "B")
        if character in _CLASSES and character:
            self.at += 1
            return Characters(classes=(_CLASSES[character],))
        return Characters(frozenset(self.escaped()))

    def escaped(self) -> str:
        """One character after a backslash."""
        character = self.take()
        if character == "u" or character == "x":
            digits = self.pattern[self.at : self.at + (4 if character == "u" else 2)]
            self.at += len(digits)
            try:
                return chr(int(digits, 16))
            except ValueError:
                raise self.error() from None
        if character in _ESCAPES:
            return _ESCAPES[character]
        if character.isalnum():
            raise FhirPathNotSupported(f"Patterns with \\{character}")
        return character

    def set(self) -> Part:
        negated = self.accept("^")
        singles: set[str] = set()
        ranges: list[tuple[str, str]] = []
        classes: list[Callable[[str], bool]] = []
        first = True
        while first or self.peek() != "]":
            first = False
            low = self.take()
            if low == "\\":
                if self.peek() in _CLASSES and self.peek():
                    classes.append(_CLASSES[self.take()])
                    continue
                low = self.escaped()
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self.take()
                high = self.escaped() if high == "\\" else high
                if high < low:
                    raise self.error()
                ranges.append((low, high))
            else:
                singles.add(low)
        self.at += 1
        return Characters(frozenset(singles), tuple(ranges), tuple(classes), negated)


def _size(part: Part) -> int:
    match part:
        case Sequence(parts) | Choice(parts):
            return 1 + sum(_size(inner) for inner in parts)
        case Group(_, inner):
            return 2 + _size(inner)
        case Repeat(inner, least, most, _):
            return 2 + (1 + _size(inner)) * max(1, least + 1 if most is None else most)
        case _:
            return 1


def _emit(part: Part, code: list[Instruction]) -> None:
    match part:
        case Characters() | Assertion():
            code.append(part)
        case Sequence(parts):
            for inner in parts:
                _emit(inner, code)
        case Group(number, inner):
            code.append(Save(2 * number))
            _emit(inner, code)
            code.append(Save(2 * number + 1))
        case Choice(options):
            _emit_choice(options, code)
        case Repeat(inner, least, most, greedy):
            for _ in range(least):
                _emit(inner, code)
            _emit_optional(inner, None if most is None else most - least, greedy, code)
        case _:
            assert_never(part)


def _emit_choice(options: tuple[Part, ...], code: list[Instruction]) -> None:
    ends = []
    for option in options[:-1]:
        fork = len(code)
        code.append(Done())
        _emit(option, code)
        ends.append(len(code))
        code.append(Done())
        code[fork] = Split(fork + 1, len(code))
    _emit(options[-1], code)
    for end in ends:
        code[end] = Split(len(code), len(code))


def _emit_optional(inner: Part, times: int | None, greedy: bool, code: list[Instruction]) -> None:
    """``inner*`` (times None) or ``(inner(inner(...)?)?)?``."""
    forks = []
    for _ in range(1 if times is None else times):
        forks.append(len(code))
        code.append(Done())
        _emit(inner, code)
    if times is None:
        code.append(Split(forks[0], forks[0]))
    out = len(code)
    for fork in forks:
        code[fork] = Split(fork + 1, out) if greedy else Split(out, fork + 1)
