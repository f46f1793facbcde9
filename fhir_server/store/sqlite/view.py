"""A search evaluated on one snapshot of the database."""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias, assert_never

from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.match import matches_leaf
from fhir_server.search.plan import Predicate, Scan
from fhir_server.store.sqlite.codec import Codec
from fhir_server.store.sqlite.keys import FIRST, LAST, Keys, List
from fhir_server.store.sqlite.probes import MOST_LISTS, posted
from fhir_server.store.sqlite.roads import Road, Roads, conjuncts
from fhir_server.store.sqlite.rows import COLUMNS, Budget, Row, batches, bears, needles

Place: TypeAlias = tuple[int, int]
"""(date or lastUpdated, rid): where a candidate stands in an ordered list."""
START: Final[dict[bool, Place]] = {True: (2**63 - 1, 2**63 - 1), False: (-(2**63), -1)}

_FROM_RID: Final = " FROM json_each(?) j CROSS JOIN resource r ON r.rid = j.value "
_BODIES: Final = "CROSS JOIN version v ON v.seq = r.seq"
FETCH: Final = "".join(("SELECT ", COLUMNS, _FROM_RID, _BODIES))
FETCH_ONE: Final = "".join(
    ("SELECT ", COLUMNS, " FROM resource r ", _BODIES, " WHERE r.type = ? AND r.id = ?")
)
_INNER: Final = {
    ("date", True): "SELECT date AS place, rid, date FROM posting WHERE h = ? AND s = ?"
    " AND date >= ? AND (date, rid) < (?, ?) ORDER BY date DESC, rid DESC LIMIT ?",
    ("date", False): "SELECT date AS place, rid, date FROM posting WHERE h = ? AND s = ?"
    " AND date <= ? AND (date, rid) > (?, ?) ORDER BY date, rid LIMIT ?",
    ("updated", True): "SELECT updated AS place, rid, date FROM resource"
    " WHERE type = ? AND live = ? AND live = 1 AND (updated, rid) < (?, ?)"
    " ORDER BY updated DESC, rid DESC LIMIT ?",
    ("updated", False): "SELECT updated AS place, rid, date FROM resource"
    " WHERE type = ? AND live = ? AND live = 1 AND (updated, rid) > (?, ?)"
    " ORDER BY updated, rid LIMIT ?",
}
_LAST: Final = {key: sql.replace("LIMIT ?", "LIMIT 1 OFFSET ?") for key, sql in _INNER.items()}
AT_ONCE: Final = 20_000
"""Exact counts above this are not made inline: it is the whole inline budget."""
_FIRST_CHUNK: Final = 256
_MOST_CHUNK: Final = 4096


@dataclass(frozen=True, slots=True)
class Order:
    """An order that an index has: by main date or by lastUpdated."""

    by: str
    descending: bool
    after: Place | None = None

    def place(self, row: Row) -> Place:
        return (row.columns[3] if self.by == "date" else row.updated), row.rid

    def passed(self, place: Place) -> bool:
        """Whether ``place`` lies behind the start."""
        if self.after is None:
            return True
        return place < self.after if self.descending else place > self.after


class View:
    """One snapshot. Not for concurrent use; ``connection`` is in a transaction."""

    def __init__(
        self, connection: sqlite3.Connection, keys: Keys, codec: Codec, budget: Budget
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._codec = codec
        self._budget = budget
        self._roads = Roads(connection, keys, self)
        self._known: dict[tuple[int, Key], bool] = {}
        self._kept: list[Scan] = []
        self.overlay: dict[int, Row] = {}
        self.hidden: frozenset[int] = frozenset()

    # --- rows by name ---------------------------------------------------------------

    def row(self, key: Key) -> Row | None:
        """The version of ``key`` in this view, if it is not deleted."""
        found = self._connection.execute(FETCH_ONE, key).fetchone()
        if found is None:
            return None
        if self.hidden and found[0] in self.hidden:
            return self.overlay.get(found[0])
        return Row(found, self._codec) if found[7] != "DELETE" else None

    def fetch(self, rids: list[int]) -> list[Row]:
        """Rows in the order of ``rids``."""
        self._budget.spend(6 * len(rids))
        numbers = json.dumps(rids)
        codec = self._codec
        return [Row(c, codec) for c in self._connection.execute(FETCH, (numbers,))]

    # --- candidates -----------------------------------------------------------------

    def _stretch(self, road: Road, stretch: List, order: Order) -> Iterator[Place]:
        """The candidates of a stretch of one posting list."""
        h, s, first, last = stretch
        ends = (first, last) if order.descending else (last, first)
        start = order.after or START[order.descending]
        if order.descending and ends[1] < LAST:
            start = min(start, (ends[1] + 1, -1))
        elif not order.descending and ends[1] > FIRST:
            start = max(start, (ends[1], -1))
        return self._chunks(road, (h, s, ends[0]), Order("date", order.descending, start))

    def _chunks(self, road: Road, source: tuple[object, ...], order: Order) -> Iterator[Place]:
        """The candidates of one ordered list that pass the probes."""
        which = (order.by, order.descending)
        conditions = [p.sql for p in road.probes]
        joined = " CROSS JOIN resource r ON r.rid = p.rid" if conditions else ""
        where = " AND ".join(conditions) or "1"
        sql = "".join(
            ("SELECT p.place, p.rid FROM (", _INNER[which], ") p", joined, " WHERE ", where)
        )
        params = tuple(x for p in road.probes for x in p.params)
        self._budget.spend(5)
        place, size = order.after or START[order.descending], _FIRST_CHUNK
        while True:
            found = self._connection.execute(sql, (*source, *place, size, *params)).fetchall()
            yield from found
            if not conditions:
                if len(found) < size:
                    return
                place = found[-1]
            else:
                last = self._connection.execute(
                    _LAST[which], (*source, *place, size - 1)
                ).fetchone()
                if last is None:
                    return
                place = last[:2]
            self._budget.spend(size)
            size = min(size * 4, _MOST_CHUNK)

    def _candidates(self, scan: Scan, road: Road, order: Order) -> Iterator[Place]:
        if road.rids is not None:
            return iter(self._sorted_rids(road, order))
        if order.by == "updated":
            if road.everything or self._long(road.lists):
                self._probe_driver(road)
                return self._chunks(road, (scan.type, 1), order)
            return iter(self._resorted(road, order))
        streams = [self._stretch(road, stretch, order) for stretch in road.lists]
        if len(streams) == 1:
            return streams[0]
        return _distinct(heapq.merge(*streams, reverse=order.descending))

    def _long(self, lists: list[List]) -> bool:
        return len(lists) <= MOST_LISTS and self._roads.count(lists, 1000) >= 1000

    def _probe_driver(self, road: Road) -> None:
        """The driving lists become a condition, since another index drives."""
        if not road.everything:
            road.probes.append(posted(road.lists))

    def _resorted(self, road: Road, order: Order) -> list[Place]:
        by_date = Order("date", True)
        road.rids = [r for li in road.lists for _, r in self._stretch(road, li, by_date)]
        return self._sorted_rids(road, order)

    def _sorted_rids(self, road: Road, order: Order) -> list[Place]:
        rids = list(dict.fromkeys(road.rids or ()))
        self._budget.spend(len(rids))
        conditions = [p.sql for p in road.probes]
        sql = "".join(
            (
                "SELECT p.updated, p.rid, p.date FROM json_each(?) j"
                " CROSS JOIN resource p ON p.rid = j.value"
                " CROSS JOIN resource r ON r.rid = p.rid WHERE ",
                " AND ".join(conditions) or "1",
            )
        )
        params = tuple(x for p in road.probes for x in p.params)
        found = self._connection.execute(sql, (json.dumps(rids), *params))
        pick = itemgetter(2, 1) if order.by == "date" else itemgetter(0, 1)
        places: list[Place] = [pick(row) for row in found]
        return sorted((p for p in places if order.passed(p)), reverse=order.descending)

    # --- scans ----------------------------------------------------------------------

    def find(self, scan: Scan, order: Order, want: int | None = None) -> list[Row]:
        """What a scan finds, in this order, at most ``want``."""
        ids = next((p.ids for p in conjuncts(scan.where) if isinstance(p, plan.IdIn)), None)
        if ids is not None:
            return self._named(scan, ids, order)[:want]
        road = self._roads.choose(scan)
        texts = [needles(ids) for ids in road.texts]
        found: list[Row] = []
        places = self._candidates(scan, road, order)
        if self.hidden:
            places = self._overlaid(scan, places, order)
        for batch in batches(places, want or 500, 500):
            for row in self._opened([rid for _, rid in batch]):
                if bears(row, texts) and all(self.holds(p, row) for p in road.residual):
                    found.append(row)
                    if len(found) == want:
                        return found
        return found

    def _named(self, scan: Scan, ids: Iterable[str], order: Order) -> list[Row]:
        """Of these ids: each is looked up and tested."""
        rows = (self.row(Key(scan.type, i)) for i in dict.fromkeys(ids))
        found = [r for r in rows if r is not None and self.holds(scan.where, r)]
        if len(found) > 1 or order.after is not None:
            found = [r for r in found if order.passed(order.place(r))]
            found.sort(key=order.place, reverse=order.descending)
        return found

    def _opened(self, rids: list[int]) -> list[Row]:
        if not self.hidden:
            return self.fetch(rids)
        plain = {r.rid: r for r in self.fetch([r for r in rids if r not in self.hidden])}
        return [plain[r] if r in plain else self.overlay[r] for r in rids]

    def _overlaid(self, scan: Scan, places: Iterator[Place], order: Order) -> Iterator[Place]:
        """The candidates as of another point: changed resources by their older versions."""
        older = sorted(
            (
                order.place(row)
                for row in self.overlay.values()
                if row.key.type == scan.type and self.holds(scan.where, row)
            ),
            reverse=order.descending,
        )
        unchanged = (p for p in places if p[1] not in self.hidden)
        return heapq.merge(
            unchanged, (p for p in older if order.passed(p)), reverse=order.descending
        )

    def count(self, scan: Scan, limit: int | None) -> int:
        """How many a scan finds, counted up to ``limit``."""
        if any(isinstance(p, plan.IdIn) for p in conjuncts(scan.where)):
            return len(self.find(scan, Order("date", True), limit))
        road = self._roads.choose(scan)
        if road.residual or road.rids is not None or len(road.lists) != 1 or self.hidden:
            return len(self.find(scan, Order("date", True), limit))
        order, total = Order("date", True), 0
        if not road.probes:
            return self._length(scan, road, limit)
        for _ in self._stretch(road, road.lists[0], order):
            total += 1
            if total == limit:
                break
        return total

    def _length(self, scan: Scan, road: Road, limit: int | None) -> int:
        if road.everything:
            row = self._connection.execute(
                "SELECT live FROM counter WHERE type = ?", (scan.type,)
            ).fetchone()
            return row[0] if row else 0
        found = self._roads.count(road.lists, limit or AT_ONCE)
        if limit is None and found == AT_ONCE:
            self._budget.spend(AT_ONCE)
            found = self._roads.count(road.lists, 2**62)
        return found

    # --- predicates on one row ------------------------------------------------------

    def in_scan(self, scan: Scan, row: Row) -> bool:
        """Whether a scan finds this row; remembered."""
        if row.key.type != scan.type:
            return False
        if scan.where == plan.TRUE:
            return True
        place = (id(scan), row.key)
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = self.holds(scan.where, row)
            self._kept.append(scan)
        return known

    def holds(self, predicate: Predicate, row: Row) -> bool:
        self._budget.spend(1)
        match predicate:
            case plan.All(parts):
                return all(self.holds(p, row) for p in parts)
            case plan.Any(parts):
                return any(self.holds(p, row) for p in parts)
            case plan.Not(part):
                return not self.holds(part, row)
            case plan.Chain(param, targets):
                return any(
                    self.in_scan(t, found) for found in self.referred(row, param) for t in targets
                )
            case plan.Has(source, param):
                return bool(self.referring(source, param, [row.key], 1))
            case (
                plan.IdIn()
                | plan.UpdatedIs()
                | plan.TokenIs()
                | plan.StringIs()
                | plan.DateIs()
                | plan.NumberIs()
                | plan.QuantityIs()
                | plan.ReferenceIs()
                | plan.UriIs()
                | plan.Present()
                | plan.InPatient()
            ):
                return matches_leaf(predicate, row.key.id, row.values, row.updated)
            case _:
                assert_never(predicate)

    def chained(self, chain: plan.Chain, limit: int) -> list[Key] | None:
        found: dict[Key, None] = {}
        for target in chain.targets:
            if self._roads.seems_long(target, limit):
                return None
            rows = self.find(target, Order("date", True), limit + 1 - len(found))
            found.update((row.key, None) for row in rows)
            if len(found) > limit:
                return None
        return list(found)

    def referred_by(self, has: plan.Has, type_: str, limit: int) -> list[str] | None:
        if self._roads.seems_long(has.source, limit):
            return None
        rows = self.find(has.source, Order("date", True), limit + 1)
        if len(rows) > limit:
            return None
        found = (r for row in rows for r in row.values.references if r.param == has.param)
        return list(dict.fromkeys(r.id for r in found if r.type == type_))

    def referred(self, row: Row, param: str) -> list[Row]:
        """The rows that ``row`` refers to by ``param``."""
        keys = {Key(r.type, r.id) for r in row.values.references if r.param == param and r.id}
        self._budget.spend(10 * len(keys))
        found = [self.row(key) for key in keys]
        return [row for row in found if row is not None]

    def referring(
        self, source: Scan, param: str, keys: Iterable[Key], want: int | None
    ) -> list[Row]:
        """What of ``source`` refers by ``param`` to one of ``keys``."""
        refers = plan.Any(tuple(plan.ReferenceIs(param, k.type, k.id) for k in keys))
        where = plan.both(refers.parts[0] if len(refers.parts) == 1 else refers, source.where)
        self._budget.spend(20)
        return self.find(Scan(source.type, where), Order("date", True), want)


def _distinct(places: Iterable[Place]) -> Iterator[Place]:
    last: Place | None = None
    for place in places:
        if place != last:
            yield place
        last = place


__all__ = ["FETCH_ONE", "START", "List", "Order", "View"]
