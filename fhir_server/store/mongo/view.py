"""A search evaluated on one snapshot of the database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Final, assert_never

from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.codings import bears_coding
from fhir_server.search.explain import Trace, short
from fhir_server.search.match import matches_leaf
from fhir_server.search.plan import Predicate, Scan
from fhir_server.search.values import CANONICAL, IndexValues
from fhir_server.search.words import remembered
from fhir_server.store.mongo.documents import OLD, VERSION, Document, Row, name
from fhir_server.store.mongo.filters import Filters, Joined
from fhir_server.store.mongo.inside import InnerRow, asked, contained, led, narrowed
from fhir_server.store.mongo.joining import (
    Join,
    canonically,
    chunks,
    joins,
    key_of,
    leads,
    literally,
    scans_of,
    urls,
)
from fhir_server.store.mongo.joint import Joint, alone, joined
from fhir_server.store.mongo.roads import BY_DATE, FEW, Order, Planner, Road, Way
from fhir_server.store.mongo.sessions import Session, all_found, found
from fhir_server.store.mongo.tables import Tables, live, place, too_costly

JOINED: Final = 1000
"""Chains and ``_has`` drive by up to this many resources on the other side."""
LOOKED: Final = 100_000
"""So many candidates a search may look into before it is refused as too costly."""
CHANGED: Final = 100_000
"""At most so many resources may have changed since the point of an ``as_of``."""
BATCH: Final = 200


class View:
    """One snapshot, by its ``session``; not for concurrent use."""

    def __init__(self, tables: Tables, session: Session) -> None:
        self._tables = tables
        self._session = session
        self._joined = Joined({}, {})
        self._known: dict[tuple[Scan, str] | tuple[plan.Has, Key], bool] = {}
        self._open: set[tuple[str, Join]] = set()
        self._containing: dict[tuple[str, str], bool] = {}
        self._looked = 0
        self.at: int | None = None
        self.bounded = True  # each command so far looks at few documents
        self._overlay: list[Row] = []
        self.trace: Trace | None = None

    async def as_of(self, at: int) -> None:
        """Looks at the versions that were current at this position of the feed."""
        self.at = at
        behind = {"e": {"$gt": at}, "q": {"$lte": at}}
        command = {"find": "version", "filter": behind, "projection": OLD, "hint": "e"}
        found = await all_found(self._session, {**command, "limit": CHANGED + 1})
        self._overlay = [Row(document, self._tables.codec) for document in found]
        if len(self._overlay) > CHANGED:
            raise BadRequest("too much has changed since then: start anew", code="too-costly")
        self._overlay = [row for row in self._overlay if not row.deleted]

    # --- scans ----------------------------------------------------------------------

    async def find(self, scan: Scan, order: Order, want: int | None = None) -> list[Row]:
        """What a scan finds, in this order, at most ``want``."""
        return await self.find_any((scan,), order, want)

    async def find_any(
        self, scans: Sequence[Scan], order: Order, want: int | None = None
    ) -> list[Row]:
        """What scans of different types find together, in this order, at most ``want``."""
        scans = [await self.narrowed(scan) for scan in scans]
        roads = {scan.type: await self.road(scan, order) for scan in scans}
        joint = joined(roads) if not self._overlay else list(map(alone, roads, roads.values()))
        rows: list[Row] = []
        for some in joint:
            rows += await self._passing(some, order, want)
        for scan in scans if self._overlay else ():
            rows += await self._overlaid(scan, order)
        if self._overlay or len(joint) > 1:
            rows.sort(key=lambda row: place(order, row), reverse=order.descending)
        return rows[:want]

    async def _passing(self, joint: Joint, order: Order, want: int | None) -> list[Row]:
        rows: list[Row] = []
        async with aclosing(self.candidates(joint.road, order, want)) as batches:
            async for batch in batches:
                for type_, road in joint.roads.items() if joint.road.residual else ():
                    await self.join(type_, road.residual, batch)
                rows += [row for row in batch if self._passes(joint.roads[row.key.type], row)]
                if want is not None and len(rows) >= want:
                    break
        return rows

    async def narrowed(self, scan: Scan) -> Scan:
        return Scan(scan.type, await narrowed(scan.where, scan.type, self._contains))

    async def _contains(self, type_: str, inner: str) -> bool:
        """Does some resource of a type contain one of another?"""
        known = self._containing.get((type_, inner))
        if known is None:
            key = self._tables.keys.containing(type_, inner)
            old = any(c.type == inner for row in self._overlay for c in row.values.contained)
            known = old or bool(await self.counted({"k": key}, "k_d_n", 1))
            self._containing[type_, inner] = known
        return known

    async def _overlaid(self, scan: Scan, order: Order) -> list[Row]:
        older = [r for r in self._overlay if r.key.type == scan.type]
        older = [r for r in older if order.passed(place(order, r))]
        await self.join(scan.type, [scan.where], older)
        return [r for r in older if self.holds(scan.where, r)]

    async def road(self, scan: Scan, order: Order) -> Road:
        await self._resolved(scan)
        tables = self._tables
        filters = Filters(tables.keys, scan.type, self._joined)
        planner = Planner(tables.keys, scan, filters, tables.counts, self._length)
        road = await planner.road(order)
        if self.trace is not None:
            for part, found in road.notes:
                text = f"{scan.type}: {short(part)}" if part is not None else scan.type
                self.trace.step(text, estimate=found, open=found >= FEW)
            self.trace.step(f"{scan.type}: {road}")
        return road

    async def _length(self, way: Way) -> int:
        return await self.counted(way.query, way.index, FEW)

    async def counted(self, query: Document, index: str, limit: int | None) -> int:
        stages: list[Document] = [{"$match": query}]
        if limit is not None:
            stages.append({"$limit": limit})
        self.bounded &= limit is not None
        stages.append({"$count": "n"})
        command = {"aggregate": "resource", "pipeline": stages, "cursor": {}, "hint": index}
        return next((int(d["n"]) for d in await all_found(self._session, command)), 0)

    async def candidates(
        self, road: Road, order: Order, want: int | None
    ) -> AsyncGenerator[list[Row], None]:
        """What the filter lets pass, in batches."""
        more = [] if self.at is None else [{"q": {"$lte": self.at}}]
        query = road.filter(*order.condition(), *more)
        command: Document = {"find": "resource", "filter": query, "projection": VERSION}
        command |= {"sort": dict(order.sort()), "hint": road.way.index}
        whole = want is not None and not road.residual and not self._overlay
        if whole:
            command["limit"] = want
        self.bounded &= road.few or (whole and not road.tests)
        # One more than is asked for, so that the last batch is known to be it.
        few = max(want or BATCH, 1) if whole else min(max(want or BATCH, 1), BATCH)
        command["batchSize"] = few + 1
        step = None
        if self.trace is not None:
            step = self.trace.step("candidates that pass the filter", actual=0)
        async with aclosing(found(self._session, command)) as batches:
            async for batch in batches:
                if step is not None:
                    step.actual = (step.actual or 0) + len(batch)
                self._look(len(batch))
                yield [Row(document, self._tables.codec) for document in batch]

    def _look(self, rows: int) -> None:
        self._looked += rows
        if self._looked > LOOKED:
            raise too_costly()

    def _passes(self, road: Road, row: Row) -> bool:
        if not all(any(t in row.raw for t in group) for group in road.texts):
            return False
        return all(self.holds(part, row) for part in road.residual)

    async def count(self, scan: Scan, limit: int | None) -> int:
        """How many a scan finds, counted up to ``limit``."""
        if scan.where == plan.TRUE and self.at is None:
            return (await live(self._session)).get(scan.type, 0)
        scan = await self.narrowed(scan)
        road = await self.road(scan, BY_DATE)
        if road.residual or self.at is not None:
            return len(await self.find(scan, BY_DATE, limit))
        self.bounded &= road.few or not road.tests
        return await self.counted(road.filter(), road.way.index, limit)

    # --- joins ----------------------------------------------------------------------

    async def _resolved(self, scan: Scan) -> None:
        for node in joins(scan.where):
            await self._resolve(node, scan.type)
        for type_, node in asked(scan.where):
            await self._resolve(node, type_)

    async def _resolve(self, node: Join, type_: str) -> None:
        """Finds the other side of a join, if that is not too much."""
        if (type_, node) in self._open:
            return
        names: dict[str, None] | None
        match node:
            case plan.Chain():
                if node in self._joined.chains:
                    return
                names = await self._targets(node)
                if names is not None:
                    self._joined.chains[node] = names
            case plan.Has():
                if (type_, node) in self._joined.has:
                    return
                names = await self._sources(node, type_)
                if names is not None:
                    self._joined.has[type_, node] = names
            case _:
                assert_never(node)
        if names is None:
            self._open.add((type_, node))

    async def _targets(self, chain: plan.Chain) -> dict[str, None] | None:
        names: dict[str, None] = {}
        found = 0
        for target in chain.targets:
            rows = await self.find(target, BY_DATE, JOINED + 1 - found)
            found += len(rows)
            if found > JOINED:
                return None
            if chain.canonical:
                names.update((u, None) for row in rows for u in urls(row))
            else:
                names.update((name(row.key), None) for row in rows)
        return names

    async def _sources(self, has: plan.Has, type_: str) -> dict[str, None] | None:
        rows = await self.find(has.source, BY_DATE, JOINED + 1)
        if len(rows) > JOINED:
            return None
        mine = [r for row in rows for r in row.values.references if r.param == has.param]
        if has.canonical:
            bearing = await self._bearing(Scan(type_), {r.canonical for r in mine if r.url})
            return {name(row.key): None for row in bearing}
        return {f"{type_}/{r.id}": None for r in mine if r.type == type_}

    async def join(self, type_: str, parts: Iterable[Predicate], rows: list[Row]) -> None:
        """Answers the joins that were too large to be found at once, for these rows."""
        inner = {node for part in parts for _, node in asked(part)}
        for node in dict.fromkeys((*(n for part in parts for n in joins(part)), *inner)):
            match node:
                case plan.Chain() if node not in self._joined.chains:
                    held = [c for r in rows for c in contained(r)] if node in inner else []
                    for target in node.targets:
                        await self._look_up(target, node, [*rows, *held])
                case plan.Has() if (type_, node) not in self._joined.has:
                    for row in rows:
                        if (node, row.key) not in self._known:
                            found = await self.referring(node, [row], 1)
                            self._known[node, row.key] = bool(found)
                case _:
                    continue

    async def _look_up(self, target: Scan, chain: plan.Chain, rows: list[Row]) -> None:
        names = {n for row in rows for n in leads(row.values, chain, nested=True)}
        wanted = [n for n in names if (target, n) not in self._known]
        if chain.canonical:
            found = await self._bearing(target, wanted)
            there = {url for row in found for url in urls(row)}
        else:
            keys = [key_of(n) for n in wanted if n.startswith(target.type + "/")]
            there = {name(row.key) for row in await self.by_key(keys, target.where)}
        self._known.update(((target, n), n in there) for n in wanted)

    async def _bearing(self, scan: Scan, names: Iterable[str]) -> list[Row]:
        """What of a scan these canonical references mean."""
        found: dict[int, Row] = {}
        for some in chunks(sorted(names)):
            bears = plan.Any(tuple(plan.UriIs(CANONICAL, n) for n in some))
            rows = await self.find(Scan(scan.type, plan.both(bears, scan.where)), BY_DATE)
            found.update((row.rid, row) for row in rows)
        return list(found.values())

    async def by_key(self, keys: Iterable[Key], where: Predicate = plan.TRUE) -> list[Row]:
        """The rows of these names that are there and for which ``where`` holds."""
        found: list[Row] = []
        for scans in scans_of(keys, where):
            found += await self.find_any(scans, BY_DATE)
        return found

    async def referred(self, rows: Iterable[Row], chain: plan.Chain) -> list[Row]:
        """What of the targets of ``chain`` these rows refer to."""
        names = dict.fromkeys(n for row in rows for n in leads(row.values, chain))
        found: dict[int, Row] = {}
        for target in chain.targets:
            if chain.canonical:
                some = await self._bearing(target, names)
            else:
                keys = (key_of(n) for n in names if n.startswith(target.type + "/"))
                some = await self.by_key(keys, target.where)
            found.update((row.rid, row) for row in some)
        return list(found.values())

    async def referring(self, has: plan.Has, to: Sequence[Row], want: int | None) -> list[Row]:
        """What of the source of ``has`` refers to one of these rows."""
        found: dict[int, Row] = {}
        for some in chunks(to):
            refers = canonically(has, some) if has.canonical else literally(has, some)
            where = plan.both(refers, has.source.where)
            rows = await self.find(Scan(has.source.type, where), BY_DATE, want)
            found.update((row.rid, row) for row in rows)
        return list(found.values())

    async def worth_following(self, includes: tuple[plan.Include, ...]) -> tuple[plan.Include, ...]:
        """Without those from types of which there is nothing: ``*`` names hundreds."""
        if self.at is not None or len(includes) < 2:
            return includes
        held = await live(self._session)
        return tuple(include for include in includes if held.get(include.source.type))

    # --- predicates on one row ------------------------------------------------------

    def holds(self, predicate: Predicate, row: Row, within: IndexValues | None = None) -> bool:
        """Whether a predicate holds for a row, or for one element of it (``within``)."""
        values = row.values if within is None else within
        match predicate:
            case plan.All(parts):
                return all(self.holds(p, row, within) for p in parts)
            case plan.Any(parts):
                return any(self.holds(p, row, within) for p in parts)
            case plan.Not(part):
                return not self.holds(part, row, within)
            case plan.Chain(targets=targets, inside=inside):
                if inside and self._inside(led(row, values, predicate.param), inside):
                    return True
                to = leads(values, predicate)
                names = self._joined.chains.get(predicate)
                if names is not None:
                    return not names.keys().isdisjoint(to)
                return any(self._known[t, n] for n in to for t in targets)
            case plan.Has() if isinstance(row, InnerRow):
                top = row.container
                mine = [one.key for one in led(top, top.values, predicate.param)]
                return row.key in mine and self._in(predicate.source, top)
            case plan.Has():
                ids = self._joined.has.get((row.key.type, predicate))
                if ids is not None:
                    return name(row.key) in ids
                return self._known[predicate, row.key]
            case plan.Contains(scan):
                return self._inside(contained(row), (scan,))
            case plan.Composite(param, parts):
                elements = [values for name, values in values.groups if name == param]
                return any(all(self.holds(p, row, e) for p in parts) for e in elements)
            case plan.TextHas(param, words, prefix) if predicate.of_body:
                return remembered(row.body).have(param, words, prefix=prefix)
            case plan.Coded(system, code):
                return bears_coding(row.body, system, code)
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
                | plan.InPatient()
                | plan.TextHas()
                | plan.Dated()
            ):
                return matches_leaf(predicate, row.key.id, values, row.updated)
            case _:
                assert_never(predicate)

    def _inside(self, rows: list[InnerRow], scans: Sequence[Scan]) -> bool:
        """Is one of these contained resources what one of the scans finds?"""
        return any(self._in(scan, row) for row in rows for scan in scans)

    def _in(self, scan: Scan, row: Row) -> bool:
        return row.key.type == scan.type and self.holds(scan.where, row)

    async def select(self, scan: Scan, rows: list[Row]) -> list[Row]:
        """Those of these rows that a scan finds."""
        some = [row for row in rows if row.key.type == scan.type]
        if scan.where == plan.TRUE or not some:
            return some
        scan = await self.narrowed(scan)
        await self._resolved(scan)
        await self.join(scan.type, [scan.where], some)
        return [row for row in some if self.holds(scan.where, row)]
