"""Predicates as queries of Elasticsearch.

A query is a necessary condition: what it finds is tested by the store (all of it), what it does
not find can never match. So what only the store can say is left out here, and what a policy
conjoins is compiled like everything else: what is hidden does not come.

Query language: https://www.elastic.co/guide/en/elasticsearch/reference/8.19/query-dsl.html
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple, assert_never

from fhir_server.model.exchange import Json
from fhir_server.search import plan
from fhir_server.search.plan import Predicate
from fhir_server.search.words import TEXT
from fhir_server.store.elastic.documents import LONGEST, SECURITY, coded

MOST_TERMS: Final = 10_000
"""Terms of one condition; the engine's own limit is 65,536."""
NOTHING: Final[Json] = {"match_none": {}}

Indexed = Callable[[str], Collection[str]]
"""Resource type -> names of the indexes that documents of it hold."""


class Query(NamedTuple):
    """``query`` None: no condition is known. ``exact``: it finds no more than what is meant.
    ``worded``: nothing is found by it without a word that is searched for."""

    query: Json | None
    exact: bool
    worded: bool = False


UNKNOWN: Final = Query(None, exact=False)
ALWAYS: Final = Query(None, exact=True)
NEVER: Final = Query(NOTHING, exact=True, worded=True)


def compiled(type_: str, predicate: Predicate, known: Collection[str]) -> Query:
    """A condition for a predicate on resources of a type. ``known``: its indexes that documents
    hold."""
    match predicate:
        case plan.All(parts):
            return _all([compiled(type_, part, known) for part in parts])
        case plan.Any(parts):
            return _any([compiled(type_, part, known) for part in parts])
        case plan.Not(part):
            return _negated(compiled(type_, part, known))
        case plan.TextHas():
            return _words(predicate) if predicate.of_body else UNKNOWN
        case plan.IdIn(ids):
            return _terms("name", [f"{type_}/{id_}" for id_ in ids])
        case plan.InPatient(ids):
            return _terms("patients", ids)
        case plan.UpdatedIs(prefix, lo, hi):
            return Query(_updated(prefix, lo, hi), exact=True)
        case plan.TokenIs(param, system, str() as code) if param in known:
            field = "labels" if param == SECURITY else "tokens"
            return Query(_term(field, coded(param, system, code)), exact=True)
        case plan.ReferenceIs(param, str() as target, str() as id_, _, version) if param in known:
            found = _term("references", coded(param, target, id_))
            return Query(found, exact=version == "")
        case (
            plan.TokenIs()
            | plan.ReferenceIs()
            | plan.StringIs()
            | plan.DateIs()
            | plan.NumberIs()
            | plan.QuantityIs()
            | plan.UriIs()
            | plan.Present()
            | plan.Near()
            | plan.Chain()
            | plan.Has()
            | plan.Contains()
            | plan.Composite()
            | plan.Dated()
            | plan.Coded()
            | plan.EachPatient()
        ):
            return UNKNOWN
        case _:
            assert_never(predicate)


def _all(parts: list[Query]) -> Query:
    some = [part.query for part in parts if part.query is not None]
    query = some[0] if len(some) == 1 else {"bool": {"filter": some}} if some else None
    return Query(query, all(p.exact for p in parts), any(p.worded for p in parts))


def _any(parts: list[Query]) -> Query:
    if not parts:
        return NEVER
    exact, some = all(p.exact for p in parts), [p.query for p in parts]
    if None in some:
        return ALWAYS if ALWAYS in parts else UNKNOWN
    query = some[0] if len(some) == 1 else {"bool": {"should": some, "minimum_should_match": 1}}
    return Query(query, exact, all(p.worded for p in parts))


def _negated(part: Query) -> Query:
    """What is only necessary says nothing when it is denied."""
    if not part.exact:
        return UNKNOWN
    return NEVER if part.query is None else Query({"bool": {"must_not": [part.query]}}, exact=True)


def _term(field: str, value: str) -> Json:
    return {"term": {field: {"value": value}}}


def _terms(field: str, found: Iterable[str]) -> Query:
    values = [value.encode("utf-8", "replace").decode() for value in dict.fromkeys(found)]
    if not values:
        return NEVER
    if len(values) == 1:
        return Query(_term(field, values[0]), exact=True)
    return UNKNOWN if len(values) > MOST_TERMS else Query({"terms": {field: values}}, exact=True)


def _words(leaf: plan.TextHas) -> Query:
    """A phrase in the narrative, or in it and all else. The beginning of a word after others
    stands for itself: only the store knows that it follows them."""
    words = [word[:LONGEST] for word in leaf.words]
    fields = ("narrative",) if leaf.param == TEXT else ("narrative", "rest")
    found = [_said(field, words, prefix=leaf.prefix) for field in fields]
    whole = max(map(len, leaf.words)) < LONGEST and not (leaf.prefix and len(words) > 1)
    return _any([Query(query, exact=whole, worded=True) for query in found])


def _said(field: str, words: list[str], *, prefix: bool) -> Json:
    some: list[Json] = []
    if prefix:
        some.append({"prefix": {field: {"value": words[-1]}}})
        words = words[:-1]
    if len(words) == 1:
        some.append(_term(field, words[0]))
    elif words:
        some.append({"match_phrase": {field: {"query": " ".join(words), "slop": 0}}})
    return some[0] if len(some) == 1 else {"bool": {"filter": some}}


def _updated(prefix: plan.Prefix, lo: int, hi: int) -> Json:
    """``COMPARE_SPANS`` (``model/datatypes``) on the point ``[updated, updated + 1)``."""
    match prefix:
        case "eq" | "ap":
            return _range("updated", gte=lo, lt=hi)
        case "ne":
            return {"bool": {"must_not": [_range("updated", gte=lo, lt=hi)]}}
        case "gt" | "sa":
            return _range("updated", gte=hi)
        case "lt" | "eb":
            return _range("updated", lt=lo)
        case "ge":
            return _range("updated", gte=lo)
        case "le":
            return _range("updated", lt=hi)
        case _:
            assert_never(prefix)


def _range(field: str, **ends: int) -> Json:
    return {"range": {field: ends}}


def behind(field: str, place: int, *, descending: bool) -> Json:
    """What a page that begins at this place of an order may hold."""
    return _range(field, **({"lte": place} if descending else {"gte": place}))
