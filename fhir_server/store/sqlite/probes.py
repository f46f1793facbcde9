"""Predicates as SQL conditions on one candidate ``p`` (date, rid) with its resource ``r``.

Only what the posting table and the columns of ``resource`` answer exactly; the rest is left
to the caller, who looks into the candidate's values. SQL is joined from constant fragments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, assert_never

from fhir_server.search import plan
from fhir_server.search.values import DATE_MIN
from fhir_server.store.sqlite.keys import (
    DURATIONS,
    FIRST,
    LAST,
    PAIRED,
    Keys,
    List,
    stretches,
    whole,
)

MOST_LISTS: Final = 16
"""A leaf that reads more lists than this is not a probe."""
SEVERAL: Final = 4
"""Of more alternatives than these it is asked first which are there at all."""


def conjuncts(predicate: plan.Predicate) -> list[plan.Predicate]:
    """The parts that must all hold."""
    if type(predicate) is plan.All:
        return [inner for part in predicate.parts for inner in conjuncts(part)]
    return [predicate]


def names_one(chain: plan.Chain) -> bool:
    """Does the chain lead to one resource by its id, if that is what it must be?"""
    parts = conjuncts(chain.targets[0].where) if len(chain.targets) == 1 else []
    named = any(isinstance(part, plan.IdIn) and len(part.ids) == 1 for part in parts)
    return named and not (chain.canonical or chain.inside)


class Looks(Protocol):
    """What a prober looks up."""

    def systems(self, h: int) -> list[int] | None:
        """The distinct ``s`` under one ``h``; None: too many."""
        ...

    def spanned(self, h: int) -> bool:
        """Whether there are spans under ``h``."""
        ...

    def count(self, lists: Iterable[List], limit: int) -> int:
        """Length of the lists together, counted up to ``limit``."""
        ...

    def held(self, lists: Iterable[List]) -> list[List]:
        """Those of whole lists that may have rows."""
        ...

    def led(self, type_: str, chain: plan.Chain) -> list[List] | None:
        """The lists of what refers to the resources that the chain leads to; None: many."""
        ...


class Probe(NamedTuple):
    sql: str
    params: tuple[Any, ...]


_ONE: Final = (
    "EXISTS (SELECT 1 FROM posting q"
    " WHERE q.h = ? AND q.s = ? AND q.date = p.date AND q.rid = p.rid)"
)
_DATED: Final = "iif(p.date = ?, r.updated, p.date) BETWEEN ? AND ? - 1"
_STRETCH: Final = "".join(("(p.date BETWEEN ? AND ? AND ", _ONE, ")"))
_UPDATED: Final[dict[plan.Prefix, str]] = {
    "eq": "(r.updated >= :lo AND r.updated < :hi)",
    "ne": "NOT (r.updated >= :lo AND r.updated < :hi)",
    "gt": "r.updated >= :hi",
    "lt": "r.updated < :lo",
    "ge": "(r.updated >= :lo)",
    "le": "(r.updated < :hi)",
    "sa": "r.updated >= :hi",
    "eb": "r.updated < :lo",
    "ap": "(r.updated >= :lo AND r.updated < :hi)",
}
"""``updated`` is the point [u, u + 1)."""


class Prober:
    """Compiles the predicates of scans of one type."""

    def __init__(self, keys: Keys, type_: str, looks: Looks) -> None:
        self._keys = keys
        self._type = type_
        self._looks = looks

    def lists(self, predicate: plan.Predicate) -> list[List] | None:
        """The posting lists whose union is exactly this predicate; None: there are none."""
        keys, type_ = self._keys, self._type
        match predicate:
            case plan.TokenIs(param, str() as system, str() as code):
                return [whole((keys.token(type_, param, code), keys.system(system)))]
            case plan.TokenIs(param, None, str() as code):
                return self._spread(keys.token(type_, param, code))
            case plan.ReferenceIs(param, type=target, id=str() as id_, version=""):
                h = keys.reference(type_, param, id_)
                return self._spread(h) if target is None else [whole((h, keys.system(target)))]
            case plan.ReferenceIs(param, id=None, url=url, version="") if url:
                return [whole(keys.url(type_, param, url))]
            case plan.UriIs(param, uri, "exact"):
                return [whole(keys.uri(type_, param, uri))]
            case plan.InPatient(ids):
                return [whole(keys.patient(type_, i)) for i in dict.fromkeys(ids)]
            case plan.DateIs():
                return self._dates(predicate)
            case plan.Any(parts):
                return self._union(parts)
            case _:
                return None

    def pair(self, one: plan.Predicate, other: plan.Predicate) -> list[List] | None:
        """The lists of a patient together with a code, if that is what the two say."""
        match one, other:
            case (
                plan.ReferenceIs(param, "Patient", str() as id_, version=""),
                plan.TokenIs(param=token, system=system, code=str() as code),
            ) if token == PAIRED:
                h = self._keys.pair(self._type, param, id_, code)
                if system is None:
                    return self._spread(h)
                return [whole((h, self._keys.system(system)))]
            case plan.ReferenceIs(), plan.Any(parts) if len(parts) > SEVERAL:
                return self._pairs(one, parts)
            case plan.ReferenceIs(), plan.Any(parts) if parts:
                found: dict[List, None] = {}
                for part in parts:
                    lists = self.pair(one, part)
                    if lists is None:
                        return None
                    found.update(dict.fromkeys(lists))
                return list(found)
            case _:
                return None

    def _pairs(self, one: plan.ReferenceIs, parts: Iterable[plan.Predicate]) -> list[List] | None:
        """The same of many codes; what nothing bears need not be paired."""
        paired: list[List] = []
        other: list[List] = []
        for part in parts:
            lists = self.pair(one, part)
            if lists is not None:
                paired += lists
            elif _exact(part):
                other += self.lists(part) or ()
            else:
                return None
        return None if self._looks.held(other) else self._looks.held(dict.fromkeys(paired))

    def _spread(self, h: int) -> list[List] | None:
        systems = self._looks.systems(h)
        return None if systems is None else [whole((h, s)) for s in systems]

    def _dates(self, leaf: plan.DateIs) -> list[List] | None:
        """Only where every value of the parameter is a main date of a usual precision."""
        keys, type_, param = self._keys, self._type, leaf.param
        if any(self._looks.spanned(keys.dates(type_, param, short=s)) for s in (True, False)):
            return None
        h = keys.moments(type_, param)
        return [
            (h, shape, *stretch)
            for shape in self._looks.systems(h) or ()
            for stretch in stretches(leaf.prefix, leaf.lo, leaf.hi, DURATIONS[shape - 1])
        ]

    def _union(self, parts: Iterable[plan.Predicate]) -> list[List] | None:
        found: dict[List, None] = {}
        for part in parts:
            lists = self.lists(part)
            if lists is None:
                return None
            found.update(dict.fromkeys(lists))
        return list(found)

    def probe(self, predicate: plan.Predicate) -> Probe | None:
        """A condition that is exactly this predicate; None: look into the values."""
        match predicate:
            case plan.All(parts):
                return self._joined(parts, " AND ", "1")
            case plan.Chain() if names_one(predicate):
                lists = self._looks.led(self._type, predicate)
                return None if lists is None else posted(lists)
            case plan.Any((plan.Not(plan.TokenIs() as mark), plan.EachPatient())):
                return self._unless(mark)
            case plan.Any(parts) if len(parts) > SEVERAL and all(map(_exact, parts)):
                return posted(self._looks.held(self._union(parts) or ()))
            case plan.Any(parts):
                return self._joined(parts, " OR ", "0")
            case plan.Not(part):
                inner = self.probe(part)
                return inner and Probe("".join(("NOT ", inner.sql)), inner.params)
            case plan.IdIn(ids):
                if len(ids) > MOST_LISTS:
                    return None
                marks = ", ".join("?" * len(ids))
                return Probe("".join(("r.id IN (", marks, ")")), ids)
            case plan.UpdatedIs(prefix, lo, hi):
                return _updated(prefix, lo, hi)
            case plan.Dated(lo, hi):
                return Probe(_DATED, (DATE_MIN, lo, hi))
            case (
                plan.TokenIs()
                | plan.ReferenceIs()
                | plan.UriIs()
                | plan.InPatient()
                | plan.DateIs()
            ):
                return self._posted(predicate)
            case (
                plan.StringIs()
                | plan.NumberIs()
                | plan.QuantityIs()
                | plan.Present()
                | plan.Near()
                | plan.TextHas()
                | plan.Composite()
                | plan.Chain()
                | plan.Contains()
                | plan.Has()
                | plan.Coded()
                | plan.EachPatient()
            ):
                return None
            case _:
                assert_never(predicate)

    def _unless(self, mark: plan.TokenIs) -> Probe | None:
        """Without anything that bears the mark, what holds of the rest is all that is asked."""
        lists = self.lists(mark)
        unmarked = lists is not None and not self._looks.count(lists, 1)
        return Probe("1", ()) if unmarked else None

    def _posted(self, leaf: plan.Predicate) -> Probe | None:
        lists = self.lists(leaf)
        return None if lists is None or len(lists) > MOST_LISTS else posted(lists)

    def _joined(self, parts: Iterable[plan.Predicate], word: str, empty: str) -> Probe | None:
        probes: list[Probe] = []
        for part in parts:
            probe = self.probe(part)
            if probe is None:
                return None
            probes.append(probe)
        sql = word.join(p.sql for p in probes) or empty
        return Probe("".join(("(", sql, ")")), tuple(x for p in probes for x in p.params))


def _exact(leaf: plan.Predicate) -> bool:
    """Is it one whole list?"""
    if type(leaf) is plan.Any:
        return all(map(_exact, leaf.parts))
    return type(leaf) is plan.TokenIs and bool(leaf.code) and leaf.system is not None


def posted(lists: Sequence[List]) -> Probe:
    """The candidate is in one of the lists."""
    if not lists:
        return Probe("0", ())
    parts: list[str] = []
    params: list[int] = []
    for h, s, first, last in lists:
        if (first, last) == (FIRST, LAST):
            parts.append(_ONE)
            params += (h, s)
        else:
            parts.append(_STRETCH)
            params += (first, last, h, s)
    return Probe("".join(("(", " OR ".join(parts), ")")), tuple(params))


def _updated(prefix: plan.Prefix, lo: int, hi: int) -> Probe:
    template = _UPDATED[prefix]
    names = [w[1:] for w in template.replace(")", " ").split() if w.startswith(":")]
    sql = template.replace(":lo", "?").replace(":hi", "?")
    return Probe(sql, tuple({"lo": lo, "hi": hi}[n] for n in names))
