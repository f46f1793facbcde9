r"""The language of ``_text``, ``_content`` and ``:text-advanced``.

https://hl7.org/fhir/R4/search.html#text: ``(bone OR liver) and metastases``. Words stand next to
each other for AND; ``"quotation marks"`` make a phrase, ``NOT`` denies, ``metast*`` is the
beginning of a word. A comma is OR as everywhere, ``\,`` is a comma. NOT binds strongest, then
AND, OR and the comma.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from fhir_server.model.problem import BadRequest
from fhir_server.search.plan import All, Any, Not, Predicate
from fhir_server.search.words import split_words

DEEPEST: Final = 20
"""Parentheses and denials in each other."""
MOST_TERMS: Final = 100

Leaf = Callable[[tuple[str, ...], bool], Predicate]
"""(words, prefix) -> what they mean."""

_TOKEN = re.compile(r'\s*(?:([(),])|"((?:[^"\\]|\\.)*)"(\*?)|((?:[^\s(),"\\]|\\.|\\$)+))')
_ESCAPE = re.compile(r"\\(.)")
_OPERATORS: Final = frozenset({"AND", "OR", "NOT"})


class _Token(NamedTuple):
    """``mark``: ``( ) ,`` or an operator, "" for a term of ``text``."""

    mark: str
    text: str = ""
    prefix: bool = False


def parse_text(name: str, query: str, leaf: Leaf) -> Predicate:
    """What a text query means. ``name``: for messages. Raises BadRequest."""
    parser = _Parser(name, _tokens(name, query), leaf)
    found = parser.any_of((",", "OR"), 0)
    parser.end()
    return found


def _tokens(name: str, query: str) -> list[_Token]:
    found: list[_Token] = []
    at, end = 0, len(query.rstrip())
    while at < end:
        match = _TOKEN.match(query, at, end)
        if match is None:
            raise BadRequest(f"{name}: {query[at : at + 30]!r} is not closed")
        mark, phrase, beginning, term = match.groups()
        if mark is not None:
            found.append(_Token(mark))
        elif phrase is not None:
            found.append(_Token("", _ESCAPE.sub(r"\1", phrase), bool(beginning)))
        elif term.upper() in _OPERATORS:
            found.append(_Token(term.upper()))
        else:
            text = term.removesuffix("*")
            if "*" in text:
                raise BadRequest(f"{name}: {term[:100]!r}: '*' stands only at the end of a word")
            found.append(_Token("", _ESCAPE.sub(r"\1", text), text != term))
        at = match.end()
    if sum(token.mark == "" for token in found) > MOST_TERMS:
        raise BadRequest(f"{name}: more than {MOST_TERMS} words", code="too-costly")
    return found


class _Parser:
    def __init__(self, name: str, tokens: list[_Token], leaf: Leaf) -> None:
        self._name = name
        self._tokens = tokens
        self._leaf = leaf
        self._at = 0

    def _next(self) -> str | None:
        """The mark of the next token; None at the end."""
        return self._tokens[self._at].mark if self._at < len(self._tokens) else None

    def _bad(self, wanted: str) -> BadRequest:
        mark = self._next()
        where = "at the end" if mark is None else f"before {mark or self._tokens[self._at].text!r}"
        return BadRequest(f"{self._name}: {wanted} is expected {where}")

    def end(self) -> None:
        if self._next() is not None:
            raise self._bad("the end")

    def any_of(self, words: tuple[str, ...], depth: int) -> Predicate:
        """Alternatives between the first of ``words``, made of those between the others."""
        if not words:
            return self._every(depth)
        parts = [self.any_of(words[1:], depth)]
        while self._next() == words[0]:
            self._at += 1
            parts.append(self.any_of(words[1:], depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _every(self, depth: int) -> Predicate:
        parts = [self._one(depth)]
        while self._next() in ("", "(", "NOT", "AND"):
            if self._next() == "AND":
                self._at += 1
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self, depth: int) -> Predicate:
        if depth > DEEPEST:
            raise BadRequest(f"{self._name}: nested too deeply", code="too-costly")
        mark = self._next()
        if mark not in ("", "(", "NOT"):
            raise self._bad("a word")
        token = self._tokens[self._at]
        self._at += 1
        if mark == "NOT":
            return Not(self._one(depth + 1))
        if mark == "":
            return self._term(token)
        found = self.any_of((",", "OR"), depth + 1)
        if self._next() != ")":
            raise self._bad("')'")
        self._at += 1
        return found

    def _term(self, token: _Token) -> Predicate:
        words = tuple(split_words(token.text))
        if not words:
            raise BadRequest(f"{self._name}: {token.text[:100]!r} has nothing to search for")
        return self._leaf(words, token.prefix)
