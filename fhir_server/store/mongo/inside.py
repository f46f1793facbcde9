"""Contained resources: https://hl7.org/fhir/R4/references.html#contained

A document says which types its resource contains; what a scan asks of them is judged on its
values.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import assert_never

from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.plan import Predicate, Scan
from fhir_server.search.values import ContainedValue, IndexValues
from fhir_server.search.words import contained_body
from fhir_server.store.mongo.documents import Row
from fhir_server.store.mongo.joining import Join, joins

Contained = Callable[[str, str], Awaitable[bool]]
"""(type, type): does some resource of the first contain one of the second?"""


class InnerRow(Row):
    """A contained resource as a row."""

    __slots__ = ("_inner", "container")

    def __init__(self, container: Row, number: int, inner: ContainedValue) -> None:
        super().__init__(container.document, container._codec)
        self.container = container
        self.key = Key(inner.type, inner.id)
        self._values = inner.values
        self._inner = contained_body(container.body, number)

    @property
    def body(self) -> bytes:
        return self._inner


def contained(row: Row) -> list[InnerRow]:
    """What a resource contains; for what is contained itself, that and what lies beside it."""
    top = row.container if isinstance(row, InnerRow) else row
    return [InnerRow(top, number, one) for number, one in enumerate(top.values.contained)]


def led(row: Row, values: IndexValues, param: str) -> list[InnerRow]:
    """The contained resources that a row, or one of its elements, refers to by ``param``."""
    named = {r.url for r in values.references if r.param == param and r.url[:1] == "#"}
    return [inner for inner in contained(row) if f"#{inner.key.id}" in named] if named else []


async def narrowed(predicate: Predicate, type_: str, some: Contained) -> Predicate:
    """The predicate of a scan without the contained resources that there are none of."""
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
            return replace(predicate, inside=tuple(there))
        case plan.Contains(scan):
            return predicate if await some(type_, scan.type) else plan.FALSE
        case _:
            return predicate


def asked(predicate: Predicate) -> Iterator[tuple[str, Join]]:
    """The joins that are asked of contained resources and of what contains them, with the type
    that each is asked of."""
    match predicate:
        case plan.All(parts) | plan.Any(parts) | plan.Composite(_, parts):
            for part in parts:
                yield from asked(part)
        case plan.Not(part):
            yield from asked(part)
        case plan.Chain(inside=scans):
            for scan in scans:
                yield from _asked_inside(scan)
        case plan.Contains(scan):
            yield from _asked_inside(scan)
        case _:
            return


def _asked_inside(scan: Scan) -> Iterator[tuple[str, Join]]:
    yield from asked(scan.where)
    for node in joins(scan.where):
        match node:
            case plan.Chain():
                yield scan.type, node
            case plan.Has(source):
                # Only the container can refer to what it contains.
                yield from ((source.type, inner) for inner in joins(source.where))
                yield from asked(source.where)
            case _:
                assert_never(node)
