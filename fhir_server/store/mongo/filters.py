"""Predicates as filters of MongoDB.

A filter is a necessary condition: what it lets pass may have to be looked into (``exact``
False), what it stops can never match. Operands are numbers, hashes and texts that this
module made; nothing that a client wrote is ever an operator or the name of a field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, assert_never

from fhir_server.search import plan
from fhir_server.search.values import fold
from fhir_server.store.mongo.documents import Document, wanted
from fhir_server.store.mongo.keys import HEAD, PAIRED, Keys, behind, head

NEVER: Final[Document] = {"_id": {"$in": []}}
MOST_KEYS: Final = 1000
"""A predicate that would need more hashes than this is looked up in the values."""
PAIRS: Final = 100
"""Pairs of a patient and a code that drive one command; see ``joint.MOST``."""


class Joined(NamedTuple):
    """What chains and ``_has`` come to: the names of the resources on the other side
    (``Type/id``; of a canonical chain what its references may say)."""

    chains: dict[plan.Chain, dict[str, None]]
    has: dict[tuple[str, plan.Has], dict[str, None]]


class Test(NamedTuple):
    """``query`` None: no condition is known. ``keys``: hashes of which a resource has one
    exactly if ``query`` holds. ``by``: another index that ``query`` could be driven by."""

    query: Document | None
    exact: bool
    keys: tuple[int, ...] | None = None
    by: str = ""


UNKNOWN: Final = Test(None, exact=False)
ALWAYS: Final = Test(None, exact=True)


def spans(prefix: plan.Prefix, lo: float, hi: float) -> Document:
    """``COMPARE_SPANS`` on the ends ``a`` and ``b`` of a stored half-open range."""
    match prefix:
        case "eq":
            return {"a": {"$gte": lo}, "b": {"$lte": hi}}
        case "ne":
            return {"$or": [{"a": {"$lt": lo}}, {"b": {"$gt": hi}}]}
        case "gt":
            return {"b": {"$gt": hi}}
        case "lt":
            return {"a": {"$lt": lo}}
        case "ge":
            return {"$or": [{"b": {"$gt": hi}}, {"a": {"$gte": lo}, "b": {"$lte": hi}}]}
        case "le":
            return {"$or": [{"a": {"$lt": lo}}, {"a": {"$gte": lo}, "b": {"$lte": hi}}]}
        case "sa":
            return {"a": {"$gte": hi}}
        case "eb":
            return {"b": {"$lte": lo}}
        case "ap":
            return {"a": {"$lt": hi}, "b": {"$gt": lo}}
        case _:
            assert_never(prefix)


def points(prefix: plan.Prefix, value: float, lo: float, hi: float) -> Document:
    """``COMPARE_NUMBERS`` on the ends ``a`` and ``b`` of a stored closed range."""
    match prefix:
        case "eq":
            return {"a": {"$gte": lo}, "b": {"$lt": hi}}
        case "ne":
            return {"$or": [{"a": {"$lt": lo}}, {"b": {"$gte": hi}}]}
        case "gt":
            return {"b": {"$gt": value}}
        case "lt":
            return {"a": {"$lt": value}}
        case "ge":
            return {"b": {"$gte": value}}
        case "le":
            return {"a": {"$lte": value}}
        case "sa":
            return {"a": {"$gt": value}}
        case "eb":
            return {"b": {"$lt": value}}
        case "ap":
            return {"b": {"$gte": lo}, "a": {"$lt": hi}}
        case _:
            assert_never(prefix)


def updated(prefix: plan.Prefix, lo: int, hi: int) -> Document:
    """``COMPARE_SPANS`` on the point ``[u, u + 1)``."""
    match prefix:
        case "eq":
            return {"u": {"$gte": lo, "$lt": hi}}
        case "ne":
            return {"$or": [{"u": {"$lt": lo}}, {"u": {"$gte": hi}}]}
        case "gt" | "sa":
            return {"u": {"$gte": hi}}
        case "lt" | "eb":
            return {"u": {"$lt": lo}}
        case "ge":
            return {"$or": [{"u": {"$gte": hi}}, {"u": {"$gte": lo, "$lt": hi}}]}
        case "le":
            return {"$or": [{"u": {"$lt": lo}}, {"u": {"$gte": lo, "$lt": hi}}]}
        case "ap":
            return {"u": {"$lt": hi, "$gte": lo}}
        case _:
            assert_never(prefix)


def bears(keys: tuple[int, ...]) -> Document:
    """One of these hashes, tested on a candidate. It is an expression, so that the database
    cannot take it for the index that drives: one predicate bounds an array, ours."""
    if not keys:
        return NEVER
    if len(keys) == 1:
        return {"$expr": {"$in": [keys[0], "$k"]}}
    return {"$expr": {"$gt": [{"$size": {"$setIntersection": ["$k", list(keys)]}}, 0]}}


def posted(*keys: int) -> Test:
    return Test(bears(keys), exact=True, keys=keys)


def starting(text: str) -> Document:
    """Some indexed text that starts with this one, which includes its parameter."""
    return {"s": {"$elemMatch": {"$gte": text, "$lt": behind(text)}}}


def both(queries: Iterable[Document]) -> Document | None:
    """All of them; None if there are none."""
    found = list(queries)
    return {"$and": found} if len(found) > 1 else (found[0] if found else None)


class Filters:
    """Compiles the predicates of scans of one type."""

    def __init__(self, keys: Keys, type_: str, joined: Joined) -> None:
        self._keys = keys
        self._type = type_
        self._joined = joined

    def test(self, predicate: plan.Predicate) -> Test:
        """A condition for a predicate, as strict as the indexed fields allow."""
        match predicate:
            case plan.All(parts):
                return self._all(parts)
            case plan.Any(parts):
                return self._any(parts)
            case plan.Not(part):
                return _negated(self.test(part))
            case plan.Chain():
                names = self._joined.chains.get(predicate)
                return UNKNOWN if names is None else self._referring(predicate, names)
            case plan.Has():
                sources = self._joined.has.get((self._type, predicate))
                return UNKNOWN if sources is None else Test({"_id": {"$in": list(sources)}}, True)
            case plan.Contains(scan):
                found = posted(self._keys.containing(self._type, scan.type))
                return found._replace(exact=False)
            case plan.Composite(param, parts):
                return self._composite(param, parts)
            case plan.Near(param):
                return posted(self._keys.group(self._type, param))._replace(exact=False)
            case plan.IdIn(ids):
                return Test({"_id": {"$in": [wanted(self._type, i) for i in ids]}}, exact=True)
            case plan.UpdatedIs(prefix, lo, hi):
                return Test(updated(prefix, lo, hi), exact=True)
            case plan.TextHas(param):
                if predicate.of_body:
                    return UNKNOWN
                return Test(starting(self._keys.texts(self._type, param)), exact=False)
            case plan.Dated() | plan.Coded() | plan.EachPatient():
                return UNKNOWN
            case (
                plan.TokenIs()
                | plan.StringIs()
                | plan.DateIs()
                | plan.NumberIs()
                | plan.QuantityIs()
                | plan.ReferenceIs()
                | plan.UriIs()
                | plan.Present()
                | plan.InPatient()
            ):
                return self._leaf(predicate)
            case _:
                assert_never(predicate)

    def _all(self, parts: tuple[plan.Predicate, ...]) -> Test:
        tests = [self.test(part) for part in parts]
        query = both(t.query for t in tests if t.query is not None)
        return Test(query, all(t.exact for t in tests))

    def _any(self, parts: tuple[plan.Predicate, ...]) -> Test:
        tests = [self.test(part) for part in parts]
        if not tests:
            return Test(NEVER, exact=True)
        exact, queries = all(t.exact for t in tests), [t.query for t in tests]
        if any(query is None for query in queries):
            return Test(None, exact=any(t == ALWAYS for t in tests))
        if all(t.keys is not None for t in tests):
            keys = tuple(dict.fromkeys(k for t in tests for k in t.keys or ()))
            if len(keys) <= MOST_KEYS:
                return posted(*keys)._replace(exact=exact)
        return Test({"$or": queries}, exact)

    def _referring(self, chain: plan.Chain, names: Iterable[str]) -> Test:
        keys, type_, param = self._keys, self._type, chain.param
        if chain.canonical:
            found = [keys.canonical(type_, param, name) for name in names]
        else:
            pairs = (name.partition("/") for name in names)
            found = [keys.reference(type_, param, t, i) for t, _, i in pairs]
        inside = [keys.containing(type_, scan.type) for scan in chain.inside]
        return posted(*found, *inside)._replace(exact=not inside)

    def _composite(self, param: str, parts: tuple[plan.Predicate, ...]) -> Test:
        """The element itself, and of its parts a code, which says most."""
        for part in parts:
            match part:
                case plan.TokenIs(number, _, str() as code):
                    return posted(self._keys.group(self._type, param, number, code))._replace(
                        exact=False
                    )
                case _:
                    continue
        return posted(self._keys.group(self._type, param))._replace(exact=False)

    def _leaf(self, leaf: plan.Leaf) -> Test:
        keys, type_ = self._keys, self._type
        match leaf:
            case plan.TokenIs(param, system, str() as code):
                return posted(keys.token(type_, param, system, code))
            case plan.TokenIs():
                return UNKNOWN
            case plan.ReferenceIs(param, type=target, id=str() as id_, version=version):
                found = posted(keys.reference(type_, param, target, id_))
                return found if version == "" else found._replace(exact=False)
            case plan.ReferenceIs(param, url=url, version=version):
                if not url:
                    return Test(NEVER, exact=True)
                return posted(keys.url(type_, param, url))._replace(exact=version == "")
            case plan.InPatient(ids):
                return posted(*(keys.patient(type_, i) for i in dict.fromkeys(ids)))
            case plan.StringIs():
                return self._string(leaf)
            case plan.UriIs():
                return self._uri(leaf)
            case plan.DateIs(param, prefix, lo, hi):
                return _ranged(keys.dates(type_, param), spans(prefix, lo, hi))
            case plan.NumberIs(param, prefix, value, lo, hi):
                ends = points(prefix, float(value), float(lo), float(hi))
                return _ranged(keys.numbers(type_, param), ends)
            case plan.QuantityIs():
                return self._quantity(leaf)
            case plan.Present():
                return self._present(leaf)
            case plan.IdIn() | plan.UpdatedIs() | plan.Near() | plan.TextHas() | plan.Dated():
                return self.test(leaf)
            case _:
                assert_never(leaf)

    def _string(self, leaf: plan.StringIs) -> Test:
        start, text = self._keys.texts(self._type, leaf.param), leaf.text
        match leaf.mode:
            case "starts":
                return Test(starting(start + head(text)), len(text) < HEAD, by="s")
            case "exact":
                return Test({"s": start + head(fold(text))}, exact=False, by="s")
            case "is":
                return Test({"s": start + head(text)}, len(text) < HEAD, by="s")
            case "contains" | "ends":
                return Test(starting(start), exact=False)
            case _:
                assert_never(leaf.mode)

    def _uri(self, leaf: plan.UriIs) -> Test:
        start = self._keys.texts(self._type, leaf.param, "path")
        match leaf.mode:
            case "exact":
                return posted(self._keys.uri(self._type, leaf.param, leaf.uri))
            case "below" | "version":
                text = start + head(leaf.uri.rstrip("/"))
                return Test(starting(text), exact=False, by="s")
            case "above":
                return Test(starting(start), exact=False)
            case _:
                assert_never(leaf.mode)

    def _quantity(self, leaf: plan.QuantityIs) -> Test:
        ends = points(leaf.prefix, float(leaf.value), float(leaf.lo), float(leaf.hi))
        exact = bool(leaf.canonical_unit) or (leaf.system is None and leaf.code is None)
        unit = self._keys.quantities(self._type, leaf.param, leaf.canonical_unit)
        return _ranged(unit, ends)._replace(exact=exact)

    def _present(self, leaf: plan.Present) -> Test:
        keys, type_, param = self._keys, self._type, leaf.param
        match leaf.kind:
            case "string":
                return Test(starting(keys.texts(type_, param)), exact=True)
            case "uri":
                return Test(starting(keys.texts(type_, param, "path")), exact=True)
            case "date":
                return _has_range(keys.dates(type_, param))
            case "number":
                return _has_range(keys.numbers(type_, param))
            case "quantity":
                return _has_range(keys.quantities(type_, param, ""))
            case "token" | "reference" | "url":
                return UNKNOWN
            case _:
                assert_never(leaf.kind)

    def pair(self, one: plan.Predicate, other: plan.Predicate) -> tuple[int, ...]:
        """The hashes of a patient together with each of some codes, if that is what the two
        say; nothing: it is not."""
        codes = other.parts if isinstance(other, plan.Any) else (other,)
        found = [self._pair(one, code) for code in codes]
        whole = 0 < len(found) <= PAIRS and None not in found
        return tuple(dict.fromkeys(key for key in found if key is not None)) if whole else ()

    def _pair(self, one: plan.Predicate, other: plan.Predicate) -> int | None:
        match one, other:
            case (
                plan.ReferenceIs(param, "Patient", str() as id_, version=""),
                plan.TokenIs(param=token, code=str() as code),
            ) if token == PAIRED:
                return self._keys.pair(self._type, param, id_, code)
            case _:
                return None


def _negated(test: Test) -> Test:
    if not test.exact:
        return UNKNOWN
    return Test(NEVER if test.query is None else {"$nor": [test.query]}, exact=True)


def _ranged(param: int, ends: Document) -> Test:
    return Test({"r": {"$elemMatch": {"p": param, **ends}}}, exact=True, by="r")


def _has_range(param: int) -> Test:
    return Test({"r.p": param}, exact=True)
