"""Contained resources: https://hl7.org/fhir/R4/references.html#contained

A document says which types its resource contains; what a scan asks of them is judged on its
values. A search that asks more of them than that is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.plan import Predicate, Scan
from fhir_server.search.values import ContainedValue, IndexValues
from fhir_server.search.words import contained_body
from fhir_server.store.mongo.documents import Row
from fhir_server.store.mongo.joining import joins

Contained = Callable[[str, str], Awaitable[bool]]
"""(type, type): does some resource of the first contain one of the second?"""


class InnerRow(Row):
    """A contained resource as a row."""

    __slots__ = ("_inner",)

    def __init__(self, container: Row, number: int, inner: ContainedValue) -> None:
        super().__init__(container.document, container._codec)
        self.key = Key(inner.type, inner.id)
        self._values = inner.values
        self._inner = contained_body(container.body, number)

    @property
    def body(self) -> bytes:
        return self._inner


def contained(row: Row) -> list[InnerRow]:
    return [InnerRow(row, number, one) for number, one in enumerate(row.values.contained)]


def led(row: Row, values: IndexValues, param: str) -> list[InnerRow]:
    """The contained resources that a row, or one of its elements, refers to by ``param``."""
    named = {r.url for r in values.references if r.param == param and r.url[:1] == "#"}
    return [inner for inner in contained(row) if f"#{inner.key.id}" in named] if named else []


async def narrowed(predicate: Predicate, type_: str, some: Contained) -> Predicate:
    """The predicate of a scan without the contained resources that there are none of.

    Raises BadRequest if it asks what those that there are refer to.
    """
    match predicate:
        case plan.All(parts):
            return plan.All(tuple([await narrowed(part, type_, some) for part in parts]))
        case plan.Any(parts):
            return plan.Any(tuple([await narrowed(part, type_, some) for part in parts]))
        case plan.Composite(param, parts):
            return plan.Composite(
                param, tuple([await narrowed(part, type_, some) for part in parts])
            )
        case plan.Not(part):
            return plan.Not(await narrowed(part, type_, some))
        case plan.Chain(inside=inside) if inside:
            there = [scan for scan in inside if await some(type_, scan.type)]
            return replace(predicate, inside=tuple(map(_judged, there)))
        case plan.Contains(scan):
            return plan.Contains(_judged(scan)) if await some(type_, scan.type) else plan.FALSE
        case _:
            return predicate


def _judged(scan: Scan) -> Scan:
    if any(True for _ in joins(scan.where)) or _contains(scan.where):
        text = "what a contained resource refers to is not searched on MongoDB"
        raise BadRequest(text, code="not-supported")
    return scan


def _contains(predicate: Predicate) -> bool:
    match predicate:
        case plan.All(parts) | plan.Any(parts):
            return any(map(_contains, parts))
        case plan.Not(part):
            return _contains(part)
        case _:
            return isinstance(predicate, plan.Contains)
