"""A search evaluated on one snapshot of the database."""

from __future__ import annotations

import heapq
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, assert_never

from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.codings import bears_coding
from fhir_server.search.explain import Trace, short
from fhir_server.search.match import matches_leaf
from fhir_server.search.plan import Predicate, Scan
from fhir_server.search.values import CANONICAL
from fhir_server.store.codec import Codec
from fhir_server.store.sqlite import text
from fhir_server.store.sqlite.inside import InnerRow, contained, led
from fhir_server.store.sqlite.keys import Keys, List
from fhir_server.store.sqlite.many import Heads
from fhir_server.store.sqlite.panel import Panels
from fhir_server.store.sqlite.probes import conjuncts
from fhir_server.store.sqlite.reverse import refers_to
from fhir_server.store.sqlite.roads import FEW, Road, Roads, described
from fhir_server.store.sqlite.rows import (
    FETCH,
    FETCH_NAMED,
    FETCH_ONE,
    TESTED,
    Budget,
    Row,
    batches,
    bears,
)
from fhir_server.store.sqlite.streams import BY_DATE, Item, Order, Streams, place

_BATCH: Final = 500
AT_ONCE: Final = 20_000
"""Exact counts above this are not made inline: it is the whole inline budget."""


class View:
    """One snapshot. Not for concurrent use; ``connection`` is in a transaction. ``long``: posting
    lists known to be long, kept from one view to the next."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        keys: Keys,
        codec: Codec,
        budget: Budget,
        long: set[List] | None = None,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._codec = codec
        self._budget = budget
        known = set() if long is None else long
        self._roads = Roads(connection, keys, self, known, budget)
        self.streams = Streams(connection, self._roads, budget)
        self._panels = Panels(connection, keys, self._roads, budget, self)
        self._chosen: dict[int, tuple[Scan, Road]] = {}
        self._known: dict[tuple[int, Key], bool] = {}
        self._kept: list[Scan] = []
        self._rows: dict[Key, Row | None] = {}
        self._borne: dict[tuple[str, str], list[Row]] = {}
        self.trace: Trace | None = None
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
        # They are read in the order in which they lie, which is seldom that of their dates.
        found = self._connection.execute(FETCH, (json.dumps(sorted(rids)),))
        rows = {columns[0]: Row(columns, self._codec) for columns in found}
        return [rows[rid] for rid in rids if rid in rows]

    # --- scans ----------------------------------------------------------------------

    def find(self, scan: Scan, order: Order, want: int | None = None) -> list[Row]:
        """What a scan finds, in this order, at most ``want``."""
        ids = next((p.ids for p in conjuncts(scan.where) if isinstance(p, plan.IdIn)), None)
        if ids is not None:
            return self._named(scan, ids, order)[:want]
        plain = not self.hidden and self.trace is None
        rows = self._panels.find(scan, order, want) if plain else None
        return self.along(scan, order, want) if rows is None else rows

    def along(self, scan: Scan, order: Order, want: int | None) -> list[Row]:
        """The same, by the road of the scan."""
        road = self.road(scan)
        if self.streams.single(road, order) and not self.hidden:
            return self._direct(scan, road, order, want)
        return self._batched(scan, road, order, want)

    def first(self, scans: tuple[Scan, ...], order: Order, want: int) -> list[Row]:
        """The first ``want`` rows of any of the scans."""
        if len(scans) == 1:
            return self.find(scans[0], order, want)
        heads = Heads(self._keys, self._roads)
        if order.by == "date" and not self.hidden and self.trace is None:
            statement = heads.statement(scans, order, want)
            if statement is not None:
                self._budget.spend(5 * len(scans))
                places = self._connection.execute(*statement)
                rows = self.fetch([rid for _, rid in places])
                if heads.mean(rows):
                    return rows
        found = {r.rid: r for s in scans for r in self.find(s, order, want)}
        rows = sorted(found.values(), key=lambda r: place(order, r), reverse=order.descending)
        return rows[:want]

    def road(self, scan: Scan) -> Road:
        """How a scan is evaluated, chosen once."""
        kept = self._chosen.get(id(scan))
        if kept is None:
            choose = self._roads.choose if self.trace is None else self._explained
            kept = self._chosen[id(scan)] = (scan, choose(scan))
        return kept[1]

    def _explained(self, scan: Scan) -> Road:
        """The road, and why it was chosen."""
        assert self.trace is not None
        began, outer = time.perf_counter_ns(), self._roads.noted
        noted = self._roads.noted = []
        road = self._roads.choose(scan)
        self._roads.noted = outer
        for part, found, more in noted:
            self.trace.step(f"{scan.type}: {short(part)}", estimate=found, open=more)
        self.trace.step(f"{scan.type}: {described(road)}", since=began)
        return road

    def _items(
        self, scan: Scan, road: Road, order: Order, need: int, *, bodies: bool
    ) -> Iterator[Item]:
        items = self.streams.open(scan.type, road, order, need, bodies=bodies)
        if self.trace is None:
            return items
        return self.trace.counted(f"{scan.type}: candidates that pass the index tests", items)

    def _direct(self, scan: Scan, road: Road, order: Order, want: int | None) -> list[Row]:
        """One index drives: candidates come with their bodies."""
        found: list[Row] = []
        codec, passes = self._codec, self._passes
        need = _BATCH if want is None else want
        for item in self._items(scan, road, order, need, bodies=True):
            row = Row(item[1:], codec)
            if not passes(road, row):
                continue
            found.append(row)
            if len(found) == want:
                break
        return found

    def _batched(self, scan: Scan, road: Road, order: Order, want: int | None) -> list[Row]:
        """Several lists or a collection: candidates first, then their bodies in batches."""
        found: list[Row] = []
        need = _BATCH if want is None else want
        items = self._items(scan, road, order, need, bodies=False)
        if self.hidden:
            items = self._overlaid(scan, items, order)
        for batch in batches(items, need, _BATCH):
            for row in self._opened([item[1] for item in batch]):
                if self._passes(road, row):
                    found.append(row)
                    if len(found) == want:
                        return found
        return found

    def _passes(self, road: Road, row: Row) -> bool:
        if not road.texts and not road.residual:
            return True
        self._budget.spend(TESTED)
        return bears(row, road.texts) and all(self.holds(p, row) for p in road.residual)

    def _named(self, scan: Scan, ids: Iterable[str], order: Order) -> list[Row]:
        """Of these ids: each is looked up and tested."""
        found = [r for r in self._by_ids(scan.type, ids) if self.holds(scan.where, r)]
        if len(found) > 1 or order.after is not None:
            found = [r for r in found if order.passed(place(order, r))]
            found.sort(key=lambda r: place(order, r), reverse=order.descending)
        return found

    def _by_ids(self, type_: str, ids: Iterable[str]) -> list[Row]:
        distinct = list(dict.fromkeys(ids))
        if len(distinct) == 1 or self.hidden:
            rows = (self.row(Key(type_, i)) for i in distinct)
            return [row for row in rows if row is not None]
        self._budget.spend(6 * len(distinct))
        found = self._connection.execute(FETCH_NAMED, (json.dumps(distinct), type_))
        return [Row(columns, self._codec) for columns in found if columns[7] != "DELETE"]

    def _opened(self, rids: list[int]) -> list[Row]:
        if not self.hidden:
            return self.fetch(rids)
        plain = {r.rid: r for r in self.fetch([r for r in rids if r not in self.hidden])}
        return [plain[r] if r in plain else self.overlay[r] for r in rids]

    def _overlaid(self, scan: Scan, items: Iterator[Item], order: Order) -> Iterator[Item]:
        """The candidates as of another point: changed resources by their older versions."""
        older = sorted(
            (
                place(order, row)
                for row in self.overlay.values()
                if row.key.type == scan.type and self.holds(scan.where, row)
            ),
            reverse=order.descending,
        )
        unchanged = (item for item in items if item[1] not in self.hidden)
        return heapq.merge(
            unchanged, (p for p in older if order.passed(p)), reverse=order.descending
        )

    def count(self, scan: Scan, limit: int | None) -> int:
        """How many a scan finds, counted up to ``limit``."""
        if any(isinstance(p, plan.IdIn) for p in conjuncts(scan.where)):
            return len(self.find(scan, BY_DATE, limit))
        road = self.road(scan)
        if road.residual and not self.hidden and not road.shorter_than(FEW):
            found = self._counted(lambda most: self._roads.tally(scan, most), limit)
            if found is not None:
                return found
        if not self.hidden and (panel := self._panels.count(scan, limit)) is not None:
            return panel
        if road.residual or self.hidden or (road.rids is None and len(road.lists) != 1):
            return len(self.find(scan, BY_DATE, limit))
        if road.rids is not None:
            return len(self.streams.collected(road)[:limit])
        if not road.probes:
            return self.length(scan, road, limit)
        return self.streams.count(road, 2**62 if limit is None else limit)

    def length(self, scan: Scan, road: Road, limit: int | None) -> int:
        if road.everything:
            row = self._connection.execute(
                "SELECT live FROM counter WHERE type = ?", (scan.type,)
            ).fetchone()
            return row[0] if row else 0
        found = self._counted(lambda most: self._roads.count(road.lists, most), limit)
        return found or 0

    def _counted(self, count: Callable[[int], int | None], limit: int | None) -> int | None:
        """What an index counts; without a limit first up to what the budget bears at once."""
        found = count(limit or AT_ONCE)
        if limit is None and found is not None and found >= AT_ONCE:
            self._budget.spend(AT_ONCE)
            found = count(2**62)
        return found

    # --- predicates on one row ------------------------------------------------------

    def in_scan(self, scan: Scan, row: Row) -> bool:
        """Whether a scan finds this row; remembered."""
        if row.key.type != scan.type:
            return False
        if scan.where == plan.TRUE:
            return True
        if isinstance(row, InnerRow):
            return self.holds(scan.where, row)
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
            case plan.Chain(targets=targets):
                return any(
                    self.in_scan(t, f) for f in self.referred(row, predicate) for t in targets
                ) or any(
                    self.in_scan(t, f) for f in led(row, predicate.param) for t in predicate.inside
                )
            case plan.Contains(scan):
                return any(self.in_scan(scan, inner) for inner in contained(row))
            case plan.Has(source, param) if isinstance(row, InnerRow):
                mine = [inner.key for inner in led(row.container, param)]
                return row.key in mine and self.in_scan(source, row.container)
            case plan.Has():
                return bool(self.referring(predicate, [row], 1))
            case plan.Composite(param, parts):
                elements = [row.within(v) for p, v in row.values.groups if p == param]
                return any(all(self.holds(p, element) for p in parts) for element in elements)
            case plan.TextHas(param, words, prefix) if predicate.of_body:
                self._budget.spend(text.COST)
                return row.words.have(param, words, prefix=prefix)
            case plan.Coded(system, code):
                return bears_coding(row.raw[: row.columns[8]], system, code)
            case plan.EachPatient():
                return all(self.holds(p, row) for p in map(predicate.of, row.values.patients))
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
                | plan.Near()
                | plan.TextHas()
                | plan.InPatient()
                | plan.Dated()
            ):
                return matches_leaf(predicate, row.key.id, row.values, row.updated)
            case _:
                assert_never(predicate)

    def worth_following(self, includes: tuple[plan.Include, ...]) -> tuple[plan.Include, ...]:
        """Without those from types of which there is nothing: ``*`` names hundreds."""
        if self.hidden or len(includes) < 2:
            return includes
        rows = self._connection.execute("SELECT type FROM counter WHERE live > 0")
        held = {type_ for (type_,) in rows}
        return tuple(include for include in includes if include.source.type in held)

    def chained(self, chain: plan.Chain, limit: int) -> list[Row] | None:
        found: dict[int, Row] = {}
        for target in chain.targets:
            if self._roads.seems_long(target, limit):
                return None
            rows = self.find(target, BY_DATE, limit + 1 - len(found))
            found.update((row.rid, row) for row in rows)
            if len(found) > limit:
                return None
        return list(found.values())

    def referred_by(self, has: plan.Has, type_: str, limit: int) -> list[str] | None:
        if self._roads.seems_long(has.source, limit):
            return None
        rows = self.find(has.source, BY_DATE, limit + 1)
        if len(rows) > limit:
            return None
        if has.canonical:
            leads = plan.Chain(has.param, (Scan(type_),), canonical=True)
            return list(dict.fromkeys(r.key.id for row in rows for r in self.referred(row, leads)))
        found = (r for row in rows for r in row.values.references if r.param == has.param)
        return list(dict.fromkeys(r.id for r in found if r.type == type_))

    def referred(self, row: Row, chain: plan.Chain) -> list[Row]:
        """The rows that ``row`` refers to, of the types that the chain leads to at least."""
        mine = [r for r in row.values.references if r.param == chain.param]
        if chain.canonical:
            names = {r.canonical for r in mine if r.url}
            types = {target.type for target in chain.targets}
            return [r for type_ in types for name in names for r in self._bearing(type_, name)]
        found = [self._remembered(key) for key in {Key(r.type, r.id) for r in mine if r.id}]
        return [row for row in found if row is not None]

    def _bearing(self, type_: str, name: str) -> list[Row]:
        """The rows that a canonical reference means, remembered."""
        known = self._borne.get((type_, name))
        if known is None:
            self._budget.spend(20)
            bears = Scan(type_, plan.UriIs(CANONICAL, name))
            known = self._borne[type_, name] = self.find(bears, BY_DATE)
        return known

    def _remembered(self, key: Key) -> Row | None:
        """Many rows refer to the same few."""
        if key not in self._rows:
            self._budget.spend(10)
            self._rows[key] = self.row(key)
        return self._rows[key]

    def referring(self, has: plan.Has, to: Sequence[Row], want: int | None) -> list[Row]:
        """What of the source of ``has`` refers to one of these rows."""
        refers = refers_to(has, to)
        if refers == plan.FALSE:
            return []
        self._budget.spend(20)
        return self.find(Scan(has.source.type, plan.both(refers, has.source.where)), BY_DATE, want)
