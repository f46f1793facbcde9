"""Tokens: http://hl7.org/fhirpath/N1/#lexical-elements."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from fhir_server.fhirpath.errors import FhirPathSyntaxError

MAX_LENGTH = 20_000
"""Characters of an expression; the longest of the R4 definitions has about 2,500."""


class Kind(Enum):
    NUMBER = "number"
    STRING = "string"
    WORD = "word"
    DELIMITED = "delimited"
    DATE = "date"
    TIME = "time"
    VARIABLE = "variable"
    SYMBOL = "symbol"
    END = "end"


class Token(NamedTuple):
    kind: Kind
    text: str
    position: int


_CLOCK = r"\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?"
_TOKEN = re.compile(
    r"(?P<skip>\s+|//[^\n]*|/\*.*?\*/)"
    rf"|(?P<time>@T{_CLOCK})"
    rf"|(?P<date>@\d{{4}}(?:-\d\d(?:-\d\d)?)?(?:T(?:{_CLOCK}(?:Z|[+-]\d\d:\d\d)?)?)?)"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<string>'(?:[^'\\]|\\.)*')"
    r"|(?P<delimited>`(?:[^`\\]|\\.)*`)"
    r"|(?P<variable>\$(?:this|index|total)\b)"
    r"|(?P<symbol><=|>=|!=|!~|[-+*/&|<>=~.,()\[\]{}%])",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES = {
    "'": "'", '"': '"', "`": "`", "\\": "\\", "/": "/",
    "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip


def tokenize(text: str) -> list[Token]:
    """The tokens of an expression, the last one of kind END.

    Raises FhirPathSyntaxError on an unknown character, an unfinished string or comment.
    """
    if len(text) > MAX_LENGTH:
        raise FhirPathSyntaxError(f"Expression longer than {MAX_LENGTH} characters", MAX_LENGTH)
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or (text.startswith("/*", position) and match.lastgroup != "skip"):
            raise FhirPathSyntaxError(f"Unexpected {text[position : position + 10]!r}", position)
        if match.lastgroup != "skip":
            tokens.append(_token(Kind(match.lastgroup), match.group(), position))
        position = match.end()
    tokens.append(Token(Kind.END, "", position))
    return tokens


def _token(kind: Kind, text: str, position: int) -> Token:
    if kind in (Kind.STRING, Kind.DELIMITED):
        return Token(kind, _unescape(text[1:-1], position), position)
    return Token(kind, text, position)


def _unescape(text: str, position: int) -> str:
    if "\\" not in text:
        return text

    def character(match: re.Match[str]) -> str:
        escape = match.group(1)
        if len(escape) == 5:
            return chr(int(escape[1:], 16))
        if escape not in _ESCAPES:
            raise FhirPathSyntaxError(f"Unknown escape \\{escape}", position)
        return _ESCAPES[escape]

    return _ESCAPE.sub(character, text)
