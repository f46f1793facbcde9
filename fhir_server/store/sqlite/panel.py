"""A scan of the compartments of many patients, such as all of one clinician.

Each compartment is a list in order of date. What the patients of a group permit alike is a test
in the index; what is in several compartments needs the rules of all of these, it bears a mark and
is looked into, as is what no index can judge. So the page is merged from the heads of the lists,
and the total is counted along them, without a body being opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from fhir_server.search import plan
from fhir_server.search.plan import FALSE, TRUE, Predicate, Scan
from fhir_server.store.sqlite.keys import Keys, Pair
from fhir_server.store.sqlite.probes import Probe, Prober, conjuncts
from fhir_server.store.sqlite.roads import Road, Roads, texts_of
from fhir_server.store.sqlite.rows import TESTED, Budget, Row, bears
from fhir_server.store.sqlite.streams import BY_DATE, START, Order, Place, place

RULES: Final = 64
"""So many different rules are tests in the index, those of the most patients; what others say is
judged one resource at a time."""
SLICE: Final = 64
"""So many lists are read by one statement."""
AT_ONCE: Final = 20_000
"""Lists that are longer together are not searched inline: it is the whole inline budget."""


class Bodies(Protocol):
    """Candidates as they are looked into."""

    def road(self, scan: Scan) -> Road: ...

    def along(self, scan: Scan, order: Order, want: int | None) -> list[Row]:
        """What a scan finds, one candidate at a time."""
        ...

    def fetch(self, rids: list[int]) -> list[Row]: ...

    def holds(self, predicate: Predicate, row: Row) -> bool: ...


_LISTS: Final = " FROM json_each(?) j CROSS JOIN posting p ON p.h = j.value AND p.s = j.key"
_RESOURCE: Final = " CROSS JOIN resource r ON r.rid = p.rid"
_LONG: Final = "".join(("SELECT 1", _LISTS, " LIMIT 1 OFFSET ?"))
_ALONG: Final = {
    True: " AND p.date >= ? AND (p.date, p.rid) < (?, ?)",
    False: " AND p.date <= ? AND (p.date, p.rid) > (?, ?)",
}
_SORTED: Final = {
    True: " ORDER BY p.date DESC, p.rid DESC LIMIT ?",
    False: " ORDER BY p.date, p.rid LIMIT ?",
}
_ONE: Final = " FROM posting p"
_OF_LIST: Final = " WHERE p.h = ? AND p.s = ?"
_HEAD: Final = "SELECT t.h, q.date, q.rid FROM (SELECT j.value AS h, (SELECT p.rid FROM posting p"
_OF_HEAD: Final = " WHERE p.h = j.value AND p.s = j.key"
_HEADS: Final = ") AS rid FROM json_each(?) j) t CROSS JOIN resource q ON q.rid = t.rid"


class Group(NamedTuple):
    """Patients of one rule. ``named``: by the hash of a list, its patient and the list."""

    named: dict[int, tuple[str, Pair]]
    test: Probe


class Looked(NamedTuple):
    """Patients whose rules no index can judge: what the group finds is looked into."""

    group: Group
    scan: Scan


class Split(NamedTuple):
    """What a scan finds is in the ``groups``, in ``looked``, or in ``slow``. ``bounds``: first and
    last date."""

    groups: list[Group]
    slow: list[Scan]
    bounds: tuple[int, int]
    looked: Looked | None = None

    def patient(self, h: int) -> str:
        """Whose list this is."""
        return next(group.named[h][0] for group in self.groups if h in group.named)


class Panels:
    """Of one snapshot."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        keys: Keys,
        roads: Roads,
        budget: Budget,
        bodies: Bodies,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._roads = roads
        self._budget = budget
        self._bodies = bodies
        self._known: dict[int, tuple[Scan, Split | None]] = {}
        self._borne: dict[tuple[str, Predicate], bool] = {}

    def find(self, scan: Scan, order: Order, want: int | None) -> list[Row] | None:
        """The first ``want``; None: it is found in another way."""
        split = self._split(scan) if order.by == "date" else None
        if split is None:
            return None
        driver = self._bodies.road(scan).driver[0]
        parts = (part for part in conjuncts(scan.where) if part is not driver)
        texts = [text for part in parts for text in texts_of(part)]
        start, end = _between(split.bounds, order)
        lists, end = self._merged(split, start, end, order, want)
        found: dict[int, Row] = {}
        for row in self._bodies.fetch(list(lists)):
            if not bears(row, [(split.patient(lists[row.rid]).encode(),), *texts]):
                return None  # a hash has collided, and only the long way tells such rows apart
            found[row.rid] = row
        if split.looked is not None:
            judged = self._judge(split.looked, start, end, order, want)
            found.update((row.rid, row) for row in judged)
        for slow in split.slow:
            found.update((row.rid, row) for row in self._bodies.along(slow, order, want))
        rows = found.values()
        return sorted(rows, key=lambda r: place(order, r), reverse=order.descending)[:want]

    def _judge(
        self, looked: Looked, start: Place, end: int, order: Order, want: int | None
    ) -> list[Row]:
        """What is permitted of this group, at least the first ``want`` before ``end``."""
        found: list[Row] = []
        while True:
            places = self._first(looked.group, start, end, order, want, bounded=True)
            places = _distinct(sorted(places, reverse=order.descending), want)
            rows = self._bodies.fetch([rid for (_, rid), _ in places])
            self._budget.spend(TESTED * len(rows))
            found += [row for row in rows if self._bodies.holds(looked.scan.where, row)]
            if want is None or len(places) < want or len(found) >= want:
                return found
            start = places[-1][0]

    def _merged(
        self, split: Split, start: Place, end: int, order: Order, want: int | None
    ) -> tuple[dict[int, int], int]:
        """By rid, the list that has it: the first ``want`` of all groups, in order; and where they
        end. What one group has found bounds how far the next is looked through."""
        found: list[tuple[Place, int]] = []
        for group in split.groups:
            full = want is not None and len(found) >= want
            found += self._first(group, start, end, order, want, bounded=full)
            found = _distinct(sorted(found, reverse=order.descending), want)
            if want is not None and len(found) == want:
                end = found[-1][0][0]
        return {rid: h for (_, rid), h in found}, end

    def count(self, scan: Scan, limit: int | None) -> int | None:
        """How many, up to ``limit``; None: they are counted in another way."""
        split = self._split(scan)
        if split is None:
            return None
        found: set[int] = set()
        for group in split.groups:
            for some in self._counted(group, split.bounds, 2**62 if limit is None else limit):
                found.update(some)
                if limit is not None and len(found) >= limit:
                    return limit
        for slow in (*split.slow, *([split.looked.scan] if split.looked is not None else ())):
            found.update(row.rid for row in self._bodies.along(slow, BY_DATE, limit))
        return len(found) if limit is None else min(len(found), limit)

    def _split(self, scan: Scan) -> Split | None:
        known = self._known.get(id(scan))
        if known is None:
            known = self._known[id(scan)] = (scan, self._made(scan, self._bodies.road(scan)))
        return known[1]

    def _made(self, scan: Scan, road: Road) -> Split | None:
        if len(road.driver) != 1 or len(road.lists) < 2:
            return None
        driver, rest = road.driver[0], road.residual
        if not isinstance(driver, plan.InPatient) or len(rest) > 1 or road.rids is not None:
            return None
        bounds = road.lists[0][2:]
        if not rest:
            group = self._group(scan.type, driver.ids, road.probes)
            self._bear(group)
            return Split([group], [], bounds)
        each = rest[0]
        if not isinstance(each, plan.EachPatient) or each.shared is None:
            return None
        by = _by_rule(driver.ids, each)
        parts = [p for p in conjuncts(scan.where) if p is not each and p is not driver]
        return self._judged(scan.type, by, parts, road, each, driver)

    def _judged(
        self,
        type_: str,
        by: dict[Predicate, list[str]],
        parts: list[Predicate],
        road: Road,
        each: plan.EachPatient,
        driver: plan.InPatient,
    ) -> Split:
        assert each.shared is not None
        prober = Prober(self._keys, type_, self._roads)
        groups: list[Group] = []
        slow: list[Scan] = []
        alone: list[Probe] = []
        if self._there(prober, type_, each.shared):
            slow.append(Scan(type_, plan.All((each.shared, driver, *parts, each))))
            probe = prober.probe(plan.Not(each.shared))
            alone = [] if probe is None else [probe]
        others: list[str] = []
        for rule, patients in sorted(by.items(), key=lambda one: len(one[1]), reverse=True):
            judged = self._known_of(prober, type_, rule)
            if judged == FALSE:
                continue
            probe = prober.probe(judged) if len(groups) < RULES else None
            if probe is None:
                others += patients
                continue
            groups.append(self._group(type_, patients, [*road.probes, *alone, probe]))
        bounds = road.lists[0][2:]
        if not others:
            self._bear(*groups)
            return Split(groups, slow, bounds)
        where = plan.InPatient(tuple(others)), plan.Not(each.shared), *parts, each
        group = self._group(type_, others, [*road.probes, *alone])
        self._bear(*groups, group)
        looked = Looked(group, Scan(type_, plan.All(where)))
        return Split(groups, slow, bounds, looked)

    def _group(self, type_: str, patients: Iterable[str], probes: Iterable[Probe]) -> Group:
        kept = [probe for probe in probes if probe.sql not in ("1", "(1)")]
        named = {}
        for patient in patients:
            pair = self._keys.patient(type_, patient)
            named[pair[0]] = patient, pair
        sql = "".join(" AND " + probe.sql for probe in kept)
        return Group(named, Probe(sql, tuple(x for probe in kept for x in probe.params)))

    def _bear(self, *groups: Group) -> None:
        """Spends what it costs to test everything in lists that are long together."""
        if not self._budget.inline:
            return
        lists = _json(pair for g in groups if g.test.sql for _, pair in g.named.values())
        if self._connection.execute(_LONG, (lists, AT_ONCE)).fetchone() is not None:
            self._budget.spend(AT_ONCE)

    def _there(self, prober: Prober, type_: str, leaf: Predicate) -> bool:
        known = self._borne.get((type_, leaf))
        if known is None:
            lists = prober.lists(leaf)
            known = self._borne[type_, leaf] = lists is None or self._roads.count(lists, 1) > 0
        return known

    def _known_of(self, prober: Prober, type_: str, rule: Predicate) -> Predicate:
        """The same here and now: what nothing bears is false."""
        match rule:
            case plan.All(parts):
                known = [self._known_of(prober, type_, part) for part in parts]
                if FALSE in known:
                    return FALSE
                return plan.All(tuple(part for part in known if part != TRUE))
            case plan.Any(parts):
                known = [self._known_of(prober, type_, part) for part in parts]
                return TRUE if TRUE in known else plan.Any(tuple(p for p in known if p != FALSE))
            case plan.Not(part):
                inner = self._known_of(prober, type_, part)
                return FALSE if inner == TRUE else TRUE if inner == FALSE else plan.Not(inner)
            case plan.TokenIs():
                return rule if self._there(prober, type_, rule) else FALSE
            case _:
                return rule

    def _first(
        self,
        group: Group,
        start: Place,
        end: int,
        order: Order,
        want: int | None,
        *,
        bounded: bool,
    ) -> list[tuple[Place, int]]:
        """Where they stand, and the lists that have them: at least the first ``want`` of the group.
        ``bounded``: few of its lists have anything before ``end``."""
        pairs = [pair for _, pair in group.named.values()]
        if want is not None and (bounded or len(pairs) > want):
            pairs, end = self._promising(group, start, end, order, want)
        sql = _one(group.test.sql, order.descending)
        most = 2**62 if want is None else want
        found: list[tuple[Place, int]] = []
        for pair in pairs:
            bound = (*pair, end, *start, *group.test.params, most)
            rows = self._connection.execute(sql, bound).fetchall()
            self._budget.spend(5 + len(rows))
            found += [((date, rid), pair[0]) for date, rid in rows]
        return found

    def _promising(
        self, group: Group, start: Place, end: int, order: Order, want: int
    ) -> tuple[list[Pair], int]:
        """The lists whose heads are among the first ``want`` heads, and where those end: what
        another list has comes behind its head."""
        sql = _heads(group.test.sql, order.descending)
        heads: list[tuple[int, int, int]] = []
        places: list[Place] = []
        for lists in _slices(group):
            self._budget.spend(SLICE)
            found = self._connection.execute(sql, (end, *start, *group.test.params, lists))
            heads += found.fetchall()
            places = sorted({head[1:] for head in heads}, reverse=order.descending)[:want]
            if len(places) == want:
                end = places[-1][0]
                heads = [head for head in heads if head[1:] in places]
        return [group.named[head[0]][1] for head in heads if head[1:] in places], end

    def _counted(
        self, group: Group, bounds: tuple[int, int], limit: int
    ) -> Iterator[Iterable[int]]:
        """The rids of one slice of the lists after the other."""
        start, end = _between(bounds, BY_DATE)
        resource = _RESOURCE if "r." in group.test.sql else ""
        sql = "".join(
            ("SELECT DISTINCT p.rid", _LISTS, resource, " WHERE 1", _ALONG[True], group.test.sql)
        )
        for lists in _slices(group):
            bound = (lists, end, *start, *group.test.params, limit)
            found = self._connection.execute(sql + " LIMIT ?", bound).fetchall()
            self._budget.spend(SLICE + len(found))
            yield [rid for (rid,) in found]


def _distinct(found: list[tuple[Place, int]], want: int | None) -> list[tuple[Place, int]]:
    """The first ``want`` places; what stands in several lists is there once."""
    kept: dict[Place, int] = {}
    for where, h in found:
        kept.setdefault(where, h)
        if len(kept) == want:
            break
    return list(kept.items())


def _by_rule(patients: Iterable[str], each: plan.EachPatient) -> dict[Predicate, list[str]]:
    same: dict[int, tuple[Predicate, list[str]]] = {}
    for patient in dict.fromkeys(patients):
        rule = each.of(patient)
        same.setdefault(id(rule), (rule, []))[1].append(patient)
    by: dict[Predicate, list[str]] = {}
    for rule, some in same.values():
        by.setdefault(rule, []).extend(some)
    return by


def _between(bounds: tuple[int, int], order: Order) -> tuple[Place, int]:
    """The place behind which a stretch of dates begins in this order, and its last date."""
    first, last = bounds
    start = order.after or START[order.descending]
    if order.descending:
        return min(start, (last + 1, -1)) if last < START[True][0] else start, first
    return max(start, (first, -1)), last


def _slices(group: Group) -> Iterator[str]:
    pairs = [pair for _, pair in group.named.values()]
    for begin in range(0, len(pairs), SLICE):
        yield _json(pairs[begin : begin + SLICE])


def _json(pairs: Iterable[Pair]) -> str:
    """The lists as an object; a key may come twice in it."""
    return "".join(("{", ",".join(f'"{s}":{h}' for h, s in pairs), "}"))


def _one(test: str, descending: bool) -> str:
    """SQL for (date, rid) along one list."""
    resource = _RESOURCE if "r." in test else ""
    parts = "SELECT p.date, p.rid", _ONE, resource, _OF_LIST, _ALONG[descending], test
    return "".join((*parts, _SORTED[descending]))


def _heads(test: str, descending: bool) -> str:
    """SQL for the first of each list."""
    resource = _RESOURCE if "r." in test else ""
    sort = _SORTED[descending].replace("?", "1")
    return "".join((_HEAD, resource, _OF_HEAD, _ALONG[descending], test, sort, _HEADS))
