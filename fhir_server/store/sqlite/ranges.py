"""Ranges and texts: which resources a part finds in ``span``, ``string`` and the dates, and
how many, without looking at a resource.

A quantity is indexed under each ``code`` of its resource, so "this code, above that value" is
one stretch of one list; without a code the lists of all codes are skipped through.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, nextafter
from typing import Final, TypeAlias

from fhir_server.search import plan
from fhir_server.search.plan import Predicate
from fhir_server.store.sqlite.keys import DAY, DURATIONS, PAIRED, Keys, stretches
from fhir_server.store.sqlite.probes import Probe

Bounds: TypeAlias = tuple[int | float, int | float]
Query: TypeAlias = tuple[str, tuple[int | float | str, ...]]

_TEXTS: Final = "SELECT rid FROM string WHERE h = ? AND text >= ? AND text <= ?"
_MOMENTS: Final = "SELECT rid FROM posting WHERE h = ? AND s = ? AND date BETWEEN ? AND ?"
_SPANS: Final = "SELECT rid FROM span WHERE h = ? AND s = ? AND lo >= ? AND lo <= ? AND hi >= ?"
_OF_ALL_CODES: Final = (
    "SELECT rid FROM (WITH RECURSIVE codes(h, s) AS ("
    " SELECT h, min(s) FROM span WHERE h = ?"
    " UNION ALL SELECT h, (SELECT min(n.s) FROM span n WHERE n.h = codes.h AND n.s > codes.s)"
    " FROM codes WHERE s IS NOT NULL) SELECT h, s FROM codes WHERE s IS NOT NULL) c"
    " CROSS JOIN span p ON p.h = c.h AND p.s = c.s"
    " AND p.lo >= ? AND p.lo <= ? AND p.hi >= ?"
)
_COUNTED: Final = ("SELECT count(*) FROM (", " LIMIT ?)")
_TALLIED: Final = ("SELECT count(*) FROM (SELECT DISTINCT rid FROM (", ") LIMIT ?)")
_TESTED: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM (SELECT DISTINCT rid FROM (",
    ") LIMIT ?) c CROSS JOIN resource p ON p.rid = c.rid CROSS JOIN resource r ON r.rid = p.rid"
    " WHERE ",
)
MOST_FORMS: Final = 4
"""A code is looked up in at most so many forms."""
MOST_TESTED: Final = 4000
"""So many resources of a range are tested for a total; about 4 us each."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Queries that give the rids of a part, some of them twice. ``exact``: of no other resource.
    ``coded``: only where the resource also has the code that was asked for beside it.
    """

    queries: tuple[Query, ...]
    exact: bool
    coded: bool = False


class Ranges:
    """The ranges of one connection. ``systems``: the distinct ``s`` under one ``h``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        keys: Keys,
        systems: Callable[[int], list[int] | None],
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._systems = systems

    def sources(self, type_: str, part: Predicate, code: str | None = None) -> Sources | None:
        """Where a part is found; None: it is no range. ``code``: of the same resource."""
        keys = self._keys
        match part:
            case plan.StringIs(param, text, "starts") if text:
                query = keys.string(type_, param), text, text + "\U0010ffff"
                return Sources(((_TEXTS, query),), exact=True)
            case plan.DateIs():
                return Sources(tuple(self._dates(type_, part)), exact=False)
            case plan.NumberIs(param):
                lists = tuple(keys.numbers(type_, param, short=short) for short in (True, False))
                return self._points(part, lists, (_SPANS, (0,)), exact=True)
            case plan.QuantityIs(param):
                unit = part.canonical_unit
                lists = tuple(keys.quantities(type_, param, unit, short=s) for s in (True, False))
                exact = unit != "" or (part.system is None and part.code is None)
                if code is None:
                    return self._points(part, lists, (_OF_ALL_CODES, ()), exact=exact)
                under = (_SPANS, (keys.coded(type_, code),))
                return self._points(part, lists, under, exact=exact, coded=True)
            case _:
                return None

    def _points(
        self,
        part: plan.NumberIs | plan.QuantityIs,
        lists: tuple[int, ...],
        under: tuple[str, tuple[int, ...]],
        *,
        exact: bool,
        coded: bool = False,
    ) -> Sources:
        """Of short lists (points) the bounds are exact, of long ones never too narrow."""
        short, long = lists
        sql, s = under
        bounds = _exactly(part)
        low, high = _bounds(part.prefix, min(part.lo, part.value), max(part.hi, part.value))
        first, last = bounds or (low, high)
        queries: list[Query] = [(sql, (short, *s, first, last, first))]
        ranges = self.spanned(long)
        if ranges:
            queries.append((sql, (long, *s, -inf, high, low)))
        return Sources(tuple(queries), exact and bounds is not None and not ranges, coded)

    def _dates(self, type_: str, part: plan.DateIs) -> Iterator[Query]:
        keys, param = self._keys, part.param
        low, high = _bounds(part.prefix, part.lo, part.hi)
        short, long = (keys.dates(type_, param, short=s) for s in (True, False))
        yield _SPANS, (short, 0, low - DAY, high, low)
        yield _SPANS, (long, 0, -inf, high, low)
        h = keys.moments(type_, param)
        for shape in self._systems(h) or ():
            for stretch in stretches(part.prefix, part.lo, part.hi, DURATIONS[shape - 1]):
                yield _MOMENTS, (h, shape, *stretch)

    def spanned(self, h: int) -> bool:
        """Whether there are spans under ``h``."""
        row = self._connection.execute("SELECT 1 FROM span WHERE h = ? LIMIT 1", (h,)).fetchone()
        return row is not None

    def count(self, sources: Sources, limit: int) -> int:
        """How many rows there are, counted up to ``limit``."""
        return self._counted(_COUNTED, sources, limit)

    def tally(
        self,
        type_: str,
        parts: Sequence[Predicate],
        limit: int,
        probe: Callable[[Predicate], Probe | None],
    ) -> int | None:
        """How many resources have all parts, counted up to ``limit``, where the index says it
        exactly: one range, perhaps with a code, and parts that are tested in the index. None:
        it does not, or it would have to test too many.
        """
        beside = self.beside(type_, parts)
        asked = None if beside is None else beside[1].code
        found = [(p, s) for p in parts if (s := self.sources(type_, p, asked)) is not None]
        if len(found) != 1:
            return None
        ((ranged, sources),) = found
        if not sources.exact or len(sources.queries) != 1:
            return None
        answered = None
        if sources.coded and beside is not None and self._sole(type_, beside[1]):
            answered = parts[beside[0]]
        tests = [probe(p) for p in parts if p is not ranged and p is not answered]
        if not tests:
            return self._counted(_TALLIED, sources, limit)
        known = [test for test in tests if test is not None]
        return self._tested(sources, known, limit) if len(known) == len(tests) else None

    def _tested(self, sources: Sources, tests: list[Probe], limit: int) -> int | None:
        ((sql, params),) = sources.queries
        condition = " AND ".join(test.sql for test in tests)
        further = tuple(value for test in tests for value in test.params)
        (found,) = self._connection.execute(
            "".join((sql.join(_TESTED), condition, " LIMIT ?)")),
            (*params, MOST_TESTED, *further, limit),
        ).fetchone()
        if found < limit and self._counted(_TALLIED, sources, MOST_TESTED) >= MOST_TESTED:
            return None
        return int(found)

    def beside(self, type_: str, parts: Sequence[Predicate]) -> tuple[int, plan.TokenIs] | None:
        """The number of the first part that asks for one code under which quantities are
        indexed, and that code. A code is asked for as it is written and as a system without
        case would have it: where the index knows one of the two, that one is meant."""
        for number, part in enumerate(parts):
            asked = self._known(type_, part) if isinstance(part, plan.Any) else part
            if isinstance(asked, plan.TokenIs) and asked.param == PAIRED and asked.code:
                return number, asked
        return None

    def _known(self, type_: str, either: plan.Any) -> Predicate | None:
        """The only alternative that anything has; None: there is not one alone."""
        if len(either.parts) > MOST_FORMS:
            return None
        known = [part for part in either.parts if not self._unknown(type_, part)]
        return known[0] if len(known) == 1 else None

    def _unknown(self, type_: str, part: Predicate) -> bool:
        """Whether it asks for a code that nothing has, of whatever system."""
        match part:
            case plan.TokenIs(param, _, str() as code):
                return self._systems(self._keys.token(type_, param, code)) == []
            case _:
                return False

    def _sole(self, type_: str, token: plan.TokenIs) -> bool:
        """Whether whatever has the code has it of the system that is asked for."""
        if token.system is None:
            return True
        found = self._systems(self._keys.token(type_, token.param, token.code or ""))
        return found == [self._keys.system(token.system)]

    def _counted(self, frame: tuple[str, str], sources: Sources, limit: int) -> int:
        total = 0
        for sql, params in sources.queries:
            if total >= limit:
                break
            (found,) = self._connection.execute(
                sql.join(frame), (*params, limit - total)
            ).fetchone()
            total += found
        return total

    def collect(self, sources: Sources) -> list[int]:
        """All rids, each once, in order of creation."""
        found: set[int] = set()
        for sql, params in sources.queries:
            found.update(rid for (rid,) in self._connection.execute(sql, params))
        return sorted(found)


def _exactly(part: plan.NumberIs | plan.QuantityIs) -> Bounds | None:
    """The points for which the part holds, as a closed range: ``COMPARE_NUMBERS`` solved for
    a target that is a point. None: they are no single range."""
    value = part.value
    match part.prefix:
        case "eq" | "ap":
            return part.lo, nextafter(part.hi, -inf)
        case "gt" | "sa":
            return nextafter(value, inf), inf
        case "ge":
            return value, inf
        case "lt" | "eb":
            return -inf, nextafter(value, -inf)
        case "le":
            return -inf, value
        case "ne":
            return None


def _bounds(prefix: plan.Prefix, lo: int | float, hi: int | float) -> Bounds:
    """(least upper end, greatest lower end) that a match can have; never too narrow."""
    match prefix:
        case "ne":
            return -inf, inf
        case "gt" | "ge" | "sa":
            return lo, inf
        case "lt" | "le" | "eb":
            return -inf, hi
        case "eq" | "ap":
            return lo, hi
