"""Conditional creates of one change set beside each other.

The conditions of https://hl7.org/fhir/R4/http.html#trules are decided before anything is
written, so two of them, however they are spelled, may both find nothing and mean the same
resource to come: "if any resource identities (including resolved identities from conditional
update/delete) overlap, then the transaction SHALL fail".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fhir_server.model.problem import BadRequest
from fhir_server.search.match import matches
from fhir_server.search.plan import (
    All,
    Any,
    Chain,
    Coded,
    Contains,
    Has,
    Not,
    Predicate,
    Scan,
    TextHas,
    TokenIs,
)
from fhir_server.search.values import IndexValues


class Coming(NamedTuple):
    """A resource to come. ``alone``: no other one may be found by this."""

    type: str
    id: str
    values: IndexValues
    alone: Scan | None
    place: str


def require_alone(coming: Iterable[Coming]) -> None:
    """BadRequest if the condition of one create finds what another entry writes.

    Conditions that look at further resources (chains, ``_has``) are compared as plans.
    """
    everything = list(coming)
    asking = [one for one in everything if one.alone is not None]
    known = _Index(one for one in everything if one.type in {a.type for a in asking})
    seen: dict[Predicate, Coming] = {}
    for one in asking:
        assert one.alone is not None
        where = one.alone.where
        other = seen.setdefault(_ordered(where), one)
        if other is one:
            other = next(known.found(one, where), one)
        if other is not one:
            problem = BadRequest(f"the same resource as {other.place}", code="duplicate")
            raise problem.under(one.place)


class _Index:
    """What is to come, by its codes: a condition looks at few, not at all."""

    def __init__(self, coming: Iterable[Coming]) -> None:
        self._types: dict[str, list[Coming]] = {}
        self._codes: dict[tuple[str, str, str | None], list[Coming]] = {}
        for one in coming:
            self._types.setdefault(one.type, []).append(one)
            for code in {(one.type, token.param, token.code) for token in one.values.tokens}:
                self._codes.setdefault(code, []).append(one)

    def found(self, asking: Coming, where: Predicate) -> Iterator[Coming]:
        if _joins(where):
            return
        for other in self._candidates(asking.type, where):
            if other is not asking and matches(where, other.id, other.values):
                yield other

    def _candidates(self, type_: str, where: Predicate) -> list[Coming]:
        for part in where.parts if isinstance(where, All) else (where,):
            codes = [_code(one) for one in (part.parts if isinstance(part, Any) else (part,))]
            if all(codes):
                return [one for c in codes if c for one in self._codes.get((type_, *c), ())]
        return self._types.get(type_, [])


def _code(part: Predicate) -> tuple[str, str] | None:
    match part:
        case TokenIs(param, _, str() as code):
            return param, code
        case _:
            return None


def _joins(where: Predicate) -> bool:
    match where:
        case Chain() | Has() | Contains() | Coded():
            return True
        case TextHas():
            return where.of_body
        case Not(part):
            return _joins(part)
        case All(parts) | Any(parts):
            return any(_joins(part) for part in parts)
        case _:
            return False


def _ordered(where: Predicate) -> Predicate:
    """The same, its parts in one order however they were written."""
    match where:
        case All(parts):
            return All(tuple(sorted((_ordered(part) for part in parts), key=repr)))
        case Any(parts):
            return Any(tuple(sorted((_ordered(part) for part in parts), key=repr)))
        case _:
            return where
