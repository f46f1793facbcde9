"""Candidates of a road, in an order that an index has, as far as they are asked for.

An item is (place, rid), or (place, *COLUMNS) where bodies are asked for: ``place`` is the
main date or lastUpdated. SQLite steps through one index at a time: the inner query reads a
chunk of the driving list, the probes and the rows are looked up from there.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from fhir_server.store.sqlite.keys import FIRST, LAST, List
from fhir_server.store.sqlite.probes import MOST_LISTS, posted
from fhir_server.store.sqlite.roads import Road, Roads
from fhir_server.store.sqlite.rows import COLUMNS, Budget, Row

Place: TypeAlias = tuple[int, int]
"""(date or lastUpdated, rid): where a candidate stands in an ordered list."""
Item: TypeAlias = tuple[Any, ...]

START: Final[dict[bool, Place]] = {True: (LAST, LAST), False: (FIRST, -1)}
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
_RESOURCE: Final = " CROSS JOIN resource r ON r.rid = p.rid"
_VERSION: Final = " CROSS JOIN version v ON v.seq = r.seq"
_BODIES: Final = "".join(("SELECT p.place, ", COLUMNS, " FROM ("))
_PLACES: Final = "SELECT p.place, p.rid FROM ("
_COUNT: Final = "SELECT count(*) FROM (SELECT 1 FROM ("
_CHUNK: Final = 512
_MOST_CHUNK: Final = 4096
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Order:
    """An order that an index has: by main ``date`` or by ``updated``."""

    by: str
    descending: bool
    after: Place | None = None

    def passed(self, place: Place) -> bool:
        """Whether ``place`` lies behind the start."""
        if self.after is None:
            return True
        return place < self.after if self.descending else place > self.after


def place(order: Order, row: Row) -> Place:
    """Where a row stands in an order."""
    return (row.columns[3] if order.by == "date" else row.updated), row.rid


BY_DATE: Final = Order("date", True)


class Streams:
    """Opens the streams of one connection."""

    def __init__(self, connection: sqlite3.Connection, roads: Roads, budget: Budget) -> None:
        self._connection = connection
        self._roads = roads
        self._budget = budget

    def open(
        self, type_: str, road: Road, order: Order, need: int, *, bodies: bool
    ) -> Iterator[Item]:
        """``need``: how many will probably be taken. Bodies only where ``single`` holds."""
        if road.rids is not None:
            return iter(self._sorted(road, order))
        if order.by == "updated":
            if self._updated_drives(road):
                tested = road
                if not road.everything:
                    tested = replace(road, probes=[*road.probes, posted(road.lists)])
                return self._chunks(tested, (type_, 1), order, need, bodies)
            streams = (self._stretch(road, x, BY_DATE, _BATCH, False) for x in road.lists)
            rids = [item[1] for stream in streams for item in stream]
            return iter(self._sorted(replace(road, rids=rids), order))
        streams = (self._stretch(road, x, order, need, bodies) for x in road.lists)
        if len(road.lists) == 1:
            return next(streams)
        return _distinct(heapq.merge(*streams, reverse=order.descending))

    def single(self, road: Road, order: Order) -> bool:
        """Whether one index drives."""
        if road.rids is not None:
            return False
        if order.by == "updated":
            return self._updated_drives(road)
        return len(road.lists) == 1

    def _updated_drives(self, road: Road) -> bool:
        if road.everything:
            return True
        return len(road.lists) <= MOST_LISTS and self._roads.count(road.lists, 1000) >= 1000

    def _bounds(self, stretch: List, order: Order) -> tuple[tuple[int, int, int], Place]:
        """Parameters of the inner query, and the place behind which it starts."""
        h, s, first, last = stretch
        start = order.after or START[order.descending]
        if order.descending:
            return (h, s, first), start if last == LAST else min(start, (last + 1, -1))
        return (h, s, last), start if first == FIRST else max(start, (first, -1))

    def _stretch(
        self, road: Road, stretch: List, order: Order, need: int, bodies: bool
    ) -> Iterator[Item]:
        source, start = self._bounds(stretch, order)
        return self._chunks(road, source, Order("date", order.descending, start), need, bodies)

    def _chunks(
        self, road: Road, source: tuple[Any, ...], order: Order, need: int, bodies: bool
    ) -> Iterator[Item]:
        which = (order.by, order.descending)
        head = _BODIES if bodies else _PLACES
        sql = _query(head, _INNER[which], road, bodies, " LIMIT ?")
        params = road.params()
        self._budget.spend(5)
        place, size = order.after or START[order.descending], _CHUNK
        while True:
            if not road.probes:
                size = need
            found = self._connection.execute(sql, (*source, *place, size, *params, need)).fetchall()
            self._budget.spend(len(found) * (4 if bodies else 1))
            yield from found
            if len(found) == need:
                place = found[-1][:2]
            elif not road.probes or road.shorter_than(size):
                return
            else:
                self._budget.spend(size)
                last = self._last(which, (*source, *place, size - 1))
                if last is None:
                    return
                place = last
            need, size = min(need * 2, _BATCH), min(size * 4, _MOST_CHUNK)

    def _last(self, which: tuple[str, bool], params: tuple[Any, ...]) -> Place | None:
        row = self._connection.execute(_LAST[which], params).fetchone()
        return None if row is None else row[:2]

    def count(self, road: Road, limit: int) -> int:
        """How many candidates of a single list pass the probes, up to ``limit``."""
        source, place = self._bounds(road.lists[0], BY_DATE)
        which = (BY_DATE.by, BY_DATE.descending)
        sql = _query(_COUNT, _INNER[which], road, False, " LIMIT ?)")
        params, size = road.params(), _CHUNK
        total: int = 0
        while True:
            (found,) = self._connection.execute(
                sql, (*source, *place, size, *params, limit - total)
            ).fetchone()
            total += found
            if total >= limit or road.shorter_than(size):
                return total
            self._budget.spend(size)
            last = self._last(which, (*source, *place, size - 1))
            if last is None:
                return total
            place, size = last, min(size * 4, _MOST_CHUNK)

    def collected(self, road: Road) -> list[Place]:
        """Collected candidates that pass the probes."""
        return self._sorted(road, BY_DATE)

    def _sorted(self, road: Road, order: Order) -> list[Place]:
        """Collected candidates that pass the probes, sorted here."""
        rids = list(dict.fromkeys(road.rids or ()))
        self._budget.spend(len(rids))
        sql = "".join((_SORTED[order.by], road.condition()))
        found = self._connection.execute(sql, (json.dumps(rids), *road.params()))
        return sorted((p for p in found if order.passed(p)), reverse=order.descending)


_FROM_RIDS: Final = (
    " FROM json_each(?) j CROSS JOIN resource p ON p.rid = j.value"
    " CROSS JOIN resource r ON r.rid = p.rid WHERE "
)
_SORTED: Final = {
    "date": "".join(("SELECT p.date, p.rid", _FROM_RIDS)),
    "updated": "".join(("SELECT p.updated, p.rid", _FROM_RIDS)),
}


def _query(head: str, inner: str, road: Road, bodies: bool, tail: str) -> str:
    resource = _RESOURCE if bodies or road.needs_resource() else ""
    version = _VERSION if bodies else ""
    return "".join((head, inner, ") p", resource, version, " WHERE ", road.condition(), tail))


def _distinct(items: Iterable[Item]) -> Iterator[Item]:
    last: Item | None = None
    for item in items:
        if item != last:
            yield item
        last = item
