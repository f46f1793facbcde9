"""Which way into the data: the join order is ours, never SQLite's.

For one scan the rarest list drives and everything else is tested on its candidates. Lists
are counted only up to a limit; the cheapest looking ones are counted first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.explain import short
from fhir_server.search.plan import Predicate, Scan
from fhir_server.search.values import CANONICAL, IndexValues
from fhir_server.store.sqlite import inside, text
from fhir_server.store.sqlite.keys import PAIRED, Keys, List, whole
from fhir_server.store.sqlite.presence import Presence
from fhir_server.store.sqlite.probes import MOST_LISTS, Probe, Prober, conjuncts
from fhir_server.store.sqlite.ranges import Ranges
from fhir_server.store.sqlite.rows import Budget

FEW: Final = 128
"""A list at most this long is taken at once."""
HANDFUL: Final = 8  # the same beside a _has, which costs a search for each
COUNTED: Final = 400
"""Posting lists are counted up to this."""
COLLECTED: Final = 4000
"""Strings and ranges drive up to this many candidates, even beside a long posting list."""
WALKED: Final = 100
"""A candidate that is looked into costs so much more than one that is collected, times the
length of a page: a range that finds more than the root of this times the length of the list
is found faster by walking the list."""
REMEMBERED: Final = 20_000  # long lists, by one connection
JOINED: Final = 128
"""Chains and ``_has`` drive by up to this many resources on the other side."""
JOINED_SLOWLY: Final = 4000
"""The same for a search that has gone to a thread: testing candidates was not cheaper."""

Listed: TypeAlias = list[tuple[int, int, list[List]]]
"""(rank, number of the part, its lists) of the parts that have lists."""


@dataclass(slots=True)
class Road:
    """How to evaluate one scan: candidates from ``lists`` (in order of date) or ``rids``
    (in any order), ``probes`` in SQL, then ``residual`` on the candidate's values.
    ``driver``: the parts that the lists answer. ``texts``: ids that each result bears as
    text, or the hash collided. ``length``: that of the lists, where it was counted to the end.
    """

    lists: list[List] = field(default_factory=list)
    rids: list[int] | None = None
    probes: list[Probe] = field(default_factory=list)
    residual: list[Predicate] = field(default_factory=list)
    texts: list[tuple[bytes, ...]] = field(default_factory=list)
    everything: bool = False
    driver: tuple[Predicate, ...] = ()
    length: int | None = None

    def condition(self) -> str:
        return " AND ".join(p.sql for p in self.probes) or "1"

    def params(self) -> tuple[Any, ...]:
        return tuple(x for p in self.probes for x in p.params)

    def needs_resource(self) -> bool:
        """Whether a probe looks at columns of ``resource``."""
        return any("r." in p.sql for p in self.probes)

    def shorter_than(self, size: int) -> bool:
        return self.length is not None and self.length < size


class Bearer(Protocol):
    """A resource that is referred to."""

    @property
    def key(self) -> Key: ...

    @property
    def values(self) -> IndexValues: ...


class Joins(Protocol):
    """Answers the parts that need other resources. None: they are ``limit`` or more."""

    def chained(self, chain: plan.Chain, limit: int) -> Sequence[Bearer] | None:
        """All resources that the chain may lead to."""
        ...

    def referred_by(self, has: plan.Has, type_: str, limit: int) -> list[str] | None:
        """The ids of a type that the source of ``has`` refers to."""
        ...


class Roads:
    """Chooses roads on one connection."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        keys: Keys,
        joins: Joins,
        long: set[List],
        budget: Budget,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._joins = joins
        self._long = long
        self._ranges = Ranges(connection, keys, self.systems)
        self.spanned = self._ranges.spanned
        self.held = Presence(connection).held
        self._joined = JOINED if budget.inline else JOINED_SLOWLY
        self._budget = budget
        self.noted: list[tuple[Predicate, int, bool]] | None = None
        """(part, rows found, or more) of everything that was counted, if somebody asks."""

    def systems(self, h: int) -> list[int] | None:
        """The distinct ``s`` under one ``h``, by skipping; None: more than a few."""
        found: list[int] = []
        last = -(2**63)
        while len(found) <= MOST_LISTS:
            row = self._connection.execute(
                "SELECT s FROM posting WHERE h = ? AND s > ? ORDER BY s LIMIT 1", (h, last)
            ).fetchone()
            if row is None:
                return found
            last = row[0]
            found.append(last)
        return None

    def led(self, type_: str, chain: plan.Chain) -> list[List] | None:
        return self._chained(type_, chain, 2)

    def count(self, lists: Iterable[List], limit: int) -> int:
        """Length of the lists together, counted up to ``limit``."""
        total = 0
        for stretch in lists:
            if total >= limit:
                break
            (found,) = self._connection.execute(
                "SELECT count(*) FROM (SELECT 1 FROM posting"
                " WHERE h = ? AND s = ? AND date BETWEEN ? AND ? LIMIT ?)",
                (*stretch, limit - total),
            ).fetchone()
            total += found
        return total

    def _estimate(self, lists: list[List], limit: int) -> int:
        """``count``, remembering which lists are long: they seldom shrink, and if one does
        only the choice of the road suffers."""
        if any(li in self._long for li in lists):
            return limit
        found = self.count(lists, limit)
        if found >= COUNTED and len(lists) == 1:
            if len(self._long) > REMEMBERED:
                self._long.clear()
            self._long.add(lists[0])
        return found

    def seems_long(self, scan: Scan, limit: int) -> bool:
        """Whether even the shortest posting list of a scan has ``limit`` rows or more."""
        prober = Prober(self._keys, scan.type, self)
        best = limit
        for part in conjuncts(scan.where):
            if not isinstance(part, plan.TokenIs | plan.ReferenceIs | plan.UriIs | plan.InPatient):
                return False
            lists = prober.lists(part)
            if lists is not None:
                best = min(best, self._estimate(lists, best))
        if scan.where == plan.TRUE:
            best = self.count([whole(self._keys.everything(scan.type))], limit)
        return best >= limit

    def choose(self, scan: Scan) -> Road:
        prober = Prober(self._keys, scan.type, self)
        parts = conjuncts(scan.where)
        listed: Listed = []
        others: list[int] = []
        road = Road()
        paired = _paired(prober, parts)
        together = paired[0] if paired is not None else ()
        for number, part in enumerate(parts):
            lists = None if number in together else prober.lists(part)
            if lists is not None:
                listed.append((_rank(part), number, lists))
            else:
                others.append(number)
        if paired is not None:
            done, road.lists = paired
        else:
            done = self._drive(scan.type, parts, listed, others, road)
        road.driver = tuple(parts[number] for number in sorted(done))
        _narrow(road, parts, listed, done)
        for number, part in enumerate(parts):
            road.texts += texts_of(part)
            if number in done:
                if isinstance(part, plan.Chain) and part.canonical:
                    road.residual.append(part)  # the lists hold every version of a url
                continue
            probe = prober.probe(part)
            road.residual += [part] if probe is None else []
            road.probes += [] if probe is None else [probe]
        return road

    def _drive(
        self, type_: str, parts: list[Predicate], listed: Listed, others: list[int], road: Road
    ) -> set[int]:
        """Sets the driver of ``road``; the numbers of the parts that need no further test."""
        best, done = COUNTED, set[int]()
        alone = len(listed) == 1 and not others
        few = HANDFUL if any(isinstance(parts[n], plan.Has) for n in others) else FEW
        for _, number, lists in sorted(listed):
            found = 0 if alone else self._estimate(lists, best)
            if not alone:
                self._note(parts[number], found, found >= best)
            if not done or found < best:
                best, done, road.lists = found, {number}, lists
                road.length = None if alone or found >= COUNTED else found
            if best <= few:
                return done
        limit = COLLECTED if best >= COUNTED else best
        for number in others:
            fewer = self._fewer(type_, parts, number, limit, road)
            if fewer is not None:
                limit, done = fewer
        if road.rids is None and not done:
            road.lists = [whole(self._keys.everything(type_))]
            road.everything = True
        return done

    def _note(self, part: Predicate, found: int, more: bool) -> None:
        if self.noted is not None:
            self.noted.append((part, found, more))

    def _fewer(
        self, type_: str, parts: list[Predicate], number: int, limit: int, road: Road
    ) -> tuple[int, set[int]] | None:
        """Lets one more part drive, if it finds fewer than ``limit``: how many, and the parts
        that it answers."""
        part = parts[number]
        if isinstance(part, plan.Contains):
            return self._collected(self._containers(type_, (part.scan,), limit), road)
        if isinstance(part, plan.Chain):
            within = self._containers(type_, part.inside, limit)
            if within is None or within:
                return self._collected(self._with(type_, part, within, limit), road)
            chained = self._chained(type_, part, min(limit, self._joined))
            found = limit if chained is None else self.count(chained, limit)
            if chained is None or found >= limit:
                return None
            road.lists, road.rids, road.length = chained, None, None
            return found, {number}
        if isinstance(part, plan.Has):
            ids = self._joins.referred_by(part, type_, min(limit, self._joined))
            if ids is None:
                return None
            road.rids, road.lists = self._by_ids(type_, ids), []
            return len(road.rids), set()
        if (query := text.expression(part)) is not None:
            rids = text.candidates(self._connection, type_, query, limit, self._budget)
            self._note(part, limit if rids is None else len(rids), rids is None)
            return self._collected(rids, road)
        return self._ranged(type_, parts, number, limit, road)

    def _collected(self, rids: list[int] | None, road: Road) -> tuple[int, set[int]] | None:
        """These drive, each to be tested; None: they are too many."""
        if rids is None:
            return None
        road.rids, road.lists = rids, []
        return len(rids), set()

    def _containers(self, type_: str, scans: tuple[Scan, ...], limit: int) -> list[int] | None:
        if limit == COLLECTED and not self._budget.inline:
            limit = text.MOST
        return inside.containers(self._connection, self._keys, self, type_, scans, limit)

    def _with(
        self, type_: str, chain: plan.Chain, within: list[int] | None, limit: int
    ) -> list[int] | None:
        """All candidates of a chain, ``within``: those that contain what it leads to."""
        lists = self._chained(type_, chain, min(limit, self._joined))
        if within is None or lists is None or self.count(lists, limit) + len(within) >= limit:
            return None
        return inside.united(self._connection, within, lists)

    def _ranged(
        self, type_: str, parts: list[Predicate], number: int, limit: int, road: Road
    ) -> tuple[int, set[int]] | None:
        beside = self._ranges.beside(type_, parts)
        code = None if beside is None else beside[1].code
        sources = self._ranges.sources(type_, parts[number], code)
        if sources is None:
            return None
        found = self._ranges.count(sources, limit)
        self._note(parts[number], found, found >= limit)
        if found >= limit or (sources.coded and self._walks(type_, code or "", found)):
            return None
        road.rids, road.lists = self._ranges.collect(sources), []
        done = {number} if sources.exact else set[int]()
        if sources.coded and beside is not None and beside[1].system is None:
            done.add(beside[0])
        return len(road.rids), done

    def _walks(self, type_: str, code: str, found: int) -> bool:
        """Whether so many are found faster along the list of the code than by collecting."""
        least = found * found // WALKED
        lists = self.systems(self._keys.token(type_, PAIRED, code))
        if lists is None or least <= found:
            return False
        h = self._keys.token(type_, PAIRED, code)
        return self.count([whole((h, s)) for s in lists], least) < least

    def tally(self, scan: Scan, limit: int) -> int | None:
        """How many a scan finds, counted up to ``limit``, where ranges alone say it."""
        prober = Prober(self._keys, scan.type, self)
        return self._ranges.tally(scan.type, conjuncts(scan.where), limit, prober.probe)

    def _chained(self, type_: str, chain: plan.Chain, limit: int) -> list[List] | None:
        rows = self._joins.chained(chain, limit)
        if rows is None:
            return None
        made, param = self._keys, chain.param
        if chain.canonical:
            uris = (uri for row in rows for uri in row.values.uris if uri.param == CANONICAL)
            urls = dict.fromkeys(uri.uri.partition("|")[0] for uri in uris)
            return [whole(made.url(type_, param, url)) for url in urls]
        keys = (row.key for row in rows)
        pairs = ((made.reference(type_, param, k.id), made.system(k.type)) for k in keys)
        return [whole(pair) for pair in pairs]

    def _by_ids(self, type_: str, ids: Iterable[str]) -> list[int]:
        found: list[int] = []
        for id_ in dict.fromkeys(ids):
            row = self._connection.execute(
                "SELECT rid FROM resource WHERE type = ? AND id = ? AND live = 1", (type_, id_)
            ).fetchone()
            if row is not None:
                found.append(row[0])
        return found


def described(road: Road) -> str:
    """A road in words."""
    tests = f"{len(road.probes)} tests in the index, {len(road.residual)} on the values"
    if road.everything:
        return f"every resource of the type drives; {tests}"
    if road.rids is not None:
        return f"{len(road.rids):,} collected resources drive; {tests}"
    parts = " and ".join(short(part) for part in road.driver)
    lists = "list" if len(road.lists) == 1 else "lists"
    return f"{parts} drives by {len(road.lists)} {lists}; {tests}"


def _paired(prober: Prober, parts: list[Predicate]) -> tuple[set[int], list[List]] | None:
    """The two parts that one list answers together, and that list."""
    for one, reference in enumerate(parts):
        if isinstance(reference, plan.ReferenceIs):
            for other, token in enumerate(parts):
                lists = prober.pair(reference, token)
                if lists is not None:
                    return {one, other}, lists
    return None


def _narrow(road: Road, parts: list[Predicate], listed: Listed, done: set[int]) -> None:
    """Every list is sorted by main date: a part that says what it may be bounds them all."""
    for _, number, lists in listed:
        if isinstance(parts[number], plan.DateIs) and number not in done and lists:
            first, last = min(li[2] for li in lists), max(li[3] for li in lists)
            road.lists = [(h, s, max(lo, first), min(hi, last)) for h, s, lo, hi in road.lists]


def _rank(part: Predicate) -> int:
    """Lists that are likely to be short come first."""
    match part:
        case plan.InPatient():
            return 1
        case plan.ReferenceIs():
            return 0
        case plan.DateIs():
            return 3
        case _:
            return 2


def texts_of(part: Predicate) -> list[tuple[bytes, ...]]:
    """The ids that a resource bears as text for which this part holds."""
    match part:
        case plan.InPatient(ids):
            return [tuple(i.encode() for i in ids)]
        case plan.ReferenceIs(id=str() as id_):
            return [(id_.encode(),)]
        case _:
            return []
