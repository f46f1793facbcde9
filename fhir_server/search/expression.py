"""The part of FHIRPath that SearchParameter expressions use, as steps.

https://hl7.org/fhir/R4/searchparameter.html. The definitions of R4 need paths, ``|``,
``as``/``ofType``, ``where(x='y')``, ``where(resolve() is T)``, ``[0]``, ``extension(url)``,
``where(hasExtension(url))`` and one ``x.exists() and x != false``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Field:
    name: str


@dataclass(frozen=True, slots=True)
class OfType:
    type: str


@dataclass(frozen=True, slots=True)
class Where:
    """Keeps elements whose child ``name`` equals ``value``."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Resolves:
    """Keeps references to resources of one type."""

    type: str


@dataclass(frozen=True, slots=True)
class First:
    pass


@dataclass(frozen=True, slots=True)
class HasExtension:
    url: str


@dataclass(frozen=True, slots=True)
class NotFalse:
    """``x.exists() and x != false``: always one boolean per resource."""


Step: TypeAlias = Field | OfType | Where | Resolves | First | HasExtension | NotFalse


@dataclass(frozen=True, slots=True)
class Branch:
    """One alternative of an expression. ``root`` "" is the type of the parameter's base."""

    root: str
    steps: tuple[Step, ...]


_AS = re.compile(r"\(?([^()]+(?:\([^()]*\)[^()]*)*) as (\w+)\)?((?:\.\w+)*)")
_NOT_FALSE = re.compile(r"(.+)\.exists\(\) and \1 != false")
_STEP = re.compile(
    r"where\((?P<name>\w+)\s*=\s*'(?P<value>[^']*)'\)"
    r"|where\(resolve\(\) is (?P<resolves>\w+)\)"
    r"|where\(hasExtension\('(?P<has>[^']*)'\)\)"
    r"|(?:as|ofType)\((?P<type>\w+)\)"
    r"|extension\('(?P<extension>[^']*)'\)"
    r"|(?P<field>\w+)(?P<first>\[0\])?(?=\.|$)"
)


@cache
def parse_expression(text: str) -> tuple[Branch, ...]:
    """The branches of an expression. Raises ValueError for FHIRPath outside the subset."""
    return tuple(_branch(part.strip()) for part in text.split("|"))


def _branch(text: str) -> Branch:
    if match := _NOT_FALSE.fullmatch(text):
        return _rooted([*_steps(match[1]), NotFalse()])
    if match := _AS.fullmatch(text):
        rest = _steps(match[3][1:]) if match[3] else []
        return _rooted([*_steps(match[1].strip()), OfType(match[2]), *rest])
    return _rooted(_steps(text))


def _rooted(steps: list[Step]) -> Branch:
    first = steps[0]
    if isinstance(first, Field) and first.name[:1].isupper():
        return Branch(first.name, tuple(steps[1:]))
    return Branch("", tuple(steps))


def _steps(text: str) -> list[Step]:
    steps: list[Step] = []
    at = 0
    while True:
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"not in the subset of search expressions: {text!r}")
        steps += _step(match)
        at = match.end()
        if at == len(text):
            return steps
        if text[at] != ".":
            raise ValueError(f"not in the subset of search expressions: {text!r}")
        at += 1


def _step(match: re.Match[str]) -> list[Step]:
    if match["name"]:
        return [Where(match["name"], match["value"])]
    if match["resolves"]:
        return [Resolves(match["resolves"])]
    if match["has"]:
        return [HasExtension(match["has"])]
    if match["type"]:
        return [OfType(match["type"])]
    if match["extension"]:
        return [Field("extension"), Where("url", match["extension"])]
    return [Field(match["field"]), First()] if match["first"] else [Field(match["field"])]
