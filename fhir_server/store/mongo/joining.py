"""Chains, ``_has`` and includes: what refers to what, by name.

A resource is named ``Type/id``; for a canonical reference, by what the reference may say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.plan import Predicate, Scan
from fhir_server.search.values import CANONICAL, IndexValues
from fhir_server.store.mongo.documents import Row

Join: TypeAlias = plan.Chain | plan.Has
T = TypeVar("T")
CHUNK: Final = 500
"""Names that one query looks for."""


def joins(predicate: Predicate) -> Iterator[Join]:
    """The chains and ``_has`` of a predicate, not those inside them."""
    match predicate:
        case plan.All(parts) | plan.Any(parts) | plan.Composite(_, parts):
            for part in parts:
                yield from joins(part)
        case plan.Not(part):
            yield from joins(part)
        case plan.Chain() | plan.Has():
            yield predicate
        case _:
            return


def key_of(named: str) -> Key:
    type_, _, id_ = named.partition("/")
    return Key(type_, id_)


def urls(row: Row) -> list[str]:
    """What canonical references to a row may say."""
    return [u.uri for u in row.values.uris if u.param == CANONICAL]


def leads(values: IndexValues, chain: plan.Chain, *, nested: bool = False) -> set[str]:
    """Where these values lead by a chain, those of their elements too if ``nested``."""
    mine = [r for r in values.references if r.param == chain.param]
    found = {r.canonical for r in mine if r.url} if chain.canonical else set()
    if not chain.canonical:
        found = {f"{r.type}/{r.id}" for r in mine if r.id}
    for group in values.groups if nested else ():
        found |= leads(group.values, chain, nested=True)
    return found


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def scans_of(keys: Iterable[Key], where: Predicate) -> Iterator[list[Scan]]:
    """What finds these resources if ``where`` holds: scans of different types, set by set."""
    types: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        types.setdefault(key.type, []).append(key.id)
    while types:
        some = {type_: tuple(ids[:CHUNK]) for type_, ids in types.items()}
        yield [Scan(t, plan.both(plan.IdIn(ids), where)) for t, ids in some.items()]
        types = {t: ids[CHUNK:] for t, ids in types.items() if len(ids) > CHUNK}


def literally(has: plan.Has, to: Iterable[Row]) -> Predicate:
    return plan.Any(tuple(plan.ReferenceIs(has.param, row.key.type, row.key.id) for row in to))


def canonically(has: plan.Has, to: Iterable[Row]) -> Predicate:
    """Which version of a url is meant is looked up by the chain."""
    rows = list(to)
    named = {url.partition("|")[0] for row in rows for url in urls(row)}
    ids: dict[str, list[str]] = {}
    for row in rows:
        ids.setdefault(row.key.type, []).append(row.key.id)
    exact = tuple(Scan(type_, plan.IdIn(tuple(some))) for type_, some in ids.items())
    refers = plan.Any(tuple(plan.ReferenceIs(has.param, None, None, url) for url in sorted(named)))
    return plan.All((refers, plan.Chain(has.param, exact, canonical=True)))
