"""Every store finds what the specification of search says, row by row."""

from __future__ import annotations

from fhir_server.model.problem import BadRequest
from fhir_server.search.plan import Scan, Search
from fhir_server.store.mongo.store import MongoStore
from tests.search.semantics import PEOPLE, PEOPLE_ROWS, VALUE_ROWS, VALUES
from tests.search.test_contained import CONTAINED, CONTAINED_ROWS
from tests.search.test_words import TEXT_ROWS, TEXTS
from tests.search.world import World, parse
from tests.store.building import Bench

MOST_REFUSED = 8
"""Rows that ask what a contained resource refers to."""


def wrong(bench: Bench, world: World, rows: list[tuple[str, list[str]]]) -> list[str]:
    bench.apply(
        *(
            bench.change(f"{type}/{id}", found, body=world.bodies[type, id])
            for (type, id), found in world.values.items()
        )
    )
    answers = []
    for query, expected in rows:
        type, _, rest = query.partition("?")
        search = parse(type, rest, strict=True).search
        try:
            found = bench.found(Search(search.scans, count=100))
        except BadRequest as refusal:
            answers.append(f"{query}: {refusal}")
            continue
        wanted = [id if "/" in id else f"{type}/{id}" for id in expected]
        if sorted(found) != sorted(wanted):
            answers.append(f"{query}: {found} instead of {expected}")
    return answers


def test_people(backend: Bench) -> None:
    assert wrong(backend, PEOPLE, PEOPLE_ROWS) == []


def test_values(backend: Bench) -> None:
    assert wrong(backend, VALUES, VALUE_ROWS) == []


def test_contained(backend: Bench) -> None:
    answers = wrong(backend, CONTAINED, CONTAINED_ROWS)
    if isinstance(backend.store, MongoStore):
        refused = [one for one in answers if one.endswith("is not searched on MongoDB")]
        assert answers == refused and len(refused) <= MOST_REFUSED
        return
    assert answers == []


def test_texts(backend: Bench) -> None:
    rows = [(f"Condition?{query}", ids) for query, ids in TEXT_ROWS]
    assert wrong(backend, TEXTS, [(query, sorted(ids)) for query, ids in rows]) == []


def test_a_store_that_finds_everything_is_noticed(backend: Bench) -> None:
    bench_found = backend.found

    def everything(search: Search) -> list[str]:
        return bench_found(Search(tuple(Scan(s.type) for s in search.scans), count=100))

    backend.found = everything  # type: ignore[method-assign]
    assert len(wrong(backend, PEOPLE, PEOPLE_ROWS)) > 50
