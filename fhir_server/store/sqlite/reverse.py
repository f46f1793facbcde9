"""Reverse joins: which references lead to given rows, as a predicate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_server.search import plan
from fhir_server.search.plan import Predicate, Scan
from fhir_server.search.values import CANONICAL
from fhir_server.store.sqlite.rows import Row


def refers_to(has: plan.Has, to: Sequence[Row]) -> Predicate:
    """By the parameter of ``has`` to one of these rows."""
    leaves = _canonically(has, to) if has.canonical else _literally(has, to)
    refers: Predicate = leaves[0] if len(leaves) == 1 else plan.Any(leaves)
    if not has.canonical or not leaves:
        return refers
    ids: dict[str, list[str]] = {}
    for row in to:
        ids.setdefault(row.key.type, []).append(row.key.id)
    exact = tuple(Scan(type_, plan.IdIn(tuple(some))) for type_, some in ids.items())
    # The lists hold every version of a url; which one is meant is looked up.
    return plan.All((refers, plan.Chain(has.param, exact, canonical=True)))


def _literally(has: plan.Has, to: Iterable[Row]) -> tuple[plan.ReferenceIs, ...]:
    return tuple(plan.ReferenceIs(has.param, row.key.type, row.key.id) for row in to)


def _canonically(has: plan.Has, to: Iterable[Row]) -> tuple[plan.ReferenceIs, ...]:
    urls = {u.uri.partition("|")[0] for r in to for u in r.values.uris if u.param == CANONICAL}
    return tuple(plan.ReferenceIs(has.param, None, None, url) for url in sorted(urls))
