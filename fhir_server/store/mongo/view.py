"""A search evaluated on one snapshot of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias, assert_never

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.explain import Trace, short
from fhir_server.search.match import matches_leaf
from fhir_server.search.plan import Predicate, Scan
from fhir_server.search.values import IndexValues
from fhir_server.store.mongo.documents import OLD, VERSION, Document, Row, name
from fhir_server.store.mongo.filters import Filters, Joined
from fhir_server.store.mongo.keys import Keys
from fhir_server.store.mongo.roads import BY_DATE, FEW, Counts, Order, Planner, Road, Way
from fhir_server.store.sqlite.codec import Codec

Collection: TypeAlias = AsyncCollection[Document]
Join: TypeAlias = plan.Chain | plan.Has

JOINED: Final = 1000
"""Chains and ``_has`` drive by up to this many resources on the other side."""
LOOKED: Final = 100_000
"""So many candidates a search may look into before it is refused as too costly."""
CHANGED: Final = 100_000
"""At most so many resources may have changed since the point of an ``as_of``."""
BATCH: Final = 200
MILLISECONDS: Final = 20_000
"""What a single command may take."""


class Tables(NamedTuple):
    """The collections of a database, and what opens their documents."""

    resource: Collection
    version: Collection
    meta: Collection
    keys: Keys
    codec: Codec
    counts: Counts


def too_costly() -> BadRequest:
    return BadRequest(
        "this search would look at too many resources: "
        "add a patient, a code or another selective parameter",
        code="too-costly",
    )


def place(order: Order, row: Row) -> tuple[int, int]:
    """Where a row stands in an order."""
    return (row.date if order.by == "date" else row.updated), row.rid


def joins(predicate: Predicate) -> Iterator[Join]:
    """The chains and ``_has`` of a predicate, not those inside them."""
    match predicate:
        case plan.All(parts) | plan.Any(parts) | plan.Composite(_, parts):
            for part in parts:
                yield from joins(part)
        case plan.Not(part):
            yield from joins(part)
        case plan.Chain() | plan.Has():
            yield predicate
        case _:
            return


class View:
    """One snapshot, by its ``session``; not for concurrent use."""

    def __init__(self, tables: Tables, session: AsyncClientSession | None) -> None:
        self._tables = tables
        self._session = session
        self._joined = Joined({}, {})
        self._known: dict[tuple[Scan | plan.Has, Key], bool] = {}
        self._open: set[tuple[str, Join]] = set()
        self._looked = 0
        self._at: int | None = None
        self._overlay: list[Row] = []
        self.trace: Trace | None = None

    async def as_of(self, at: int) -> None:
        """Looks at the versions that were current at this position of the feed."""
        self._at = at
        behind = {"e": {"$gt": at}, "q": {"$lte": at}}
        cursor = self._tables.version.find(behind, OLD, session=self._session)
        found = cursor.limit(CHANGED + 1).max_time_ms(MILLISECONDS)
        self._overlay = [Row(document, self._tables.codec) async for document in found]
        if len(self._overlay) > CHANGED:
            raise BadRequest("too much has changed since then: start anew", code="too-costly")
        self._overlay = [row for row in self._overlay if not row.deleted]

    # --- scans ----------------------------------------------------------------------

    async def find(self, scan: Scan, order: Order, want: int | None = None) -> list[Row]:
        """What a scan finds, in this order, at most ``want``."""
        road = await self._road(scan, order)
        found: list[Row] = []
        async for batch in self._candidates(road, order, want):
            await self._join(scan.type, road.residual, batch)
            found += [row for row in batch if self._passes(road, row)]
            if want is not None and len(found) >= want:
                break
        if not self._overlay:
            return found[:want]
        found += await self._overlaid(scan, order)
        found.sort(key=lambda row: place(order, row), reverse=order.descending)
        return found[:want]

    async def _overlaid(self, scan: Scan, order: Order) -> list[Row]:
        older = [r for r in self._overlay if r.key.type == scan.type]
        older = [r for r in older if order.passed(place(order, r))]
        await self._join(scan.type, [scan.where], older)
        return [r for r in older if self.holds(scan.where, r)]

    async def _road(self, scan: Scan, order: Order) -> Road:
        for node in joins(scan.where):
            await self._resolve(node, scan.type)
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
        return await self._counted(way.query, way.index, FEW)

    async def _counted(self, query: Document, index: str, limit: int | None) -> int:
        stages: list[Document] = [{"$match": query}]
        if limit is not None:
            stages.append({"$limit": limit})
        cursor = await self._tables.resource.aggregate(
            [*stages, {"$count": "n"}],
            session=self._session,
            hint=index,
            maxTimeMS=MILLISECONDS,
        )
        return next((int(d["n"]) for d in await cursor.to_list()), 0)

    async def _candidates(
        self, road: Road, order: Order, want: int | None
    ) -> AsyncIterator[list[Row]]:
        """What the filter lets pass, in batches."""
        more = [] if self._at is None else [{"q": {"$lte": self._at}}]
        query = road.filter(*order.condition(), *more)
        cursor = self._tables.resource.find(query, VERSION, session=self._session)
        cursor.sort(order.sort()).hint(road.way.index).max_time_ms(MILLISECONDS)
        whole = want is not None and not road.residual and not self._overlay
        if whole:
            cursor.limit(want or 0)
        size = BATCH if want is None else min(max(want, 1), BATCH)
        cursor.batch_size(size + whole)
        step = None
        if self.trace is not None:
            step = self.trace.step("candidates that pass the filter", actual=0)
        batch: list[Row] = []
        try:
            async for document in cursor:
                batch.append(Row(document, self._tables.codec))
                if len(batch) >= size:
                    self._look(len(batch))
                    yield batch
                    batch, size = [], BATCH
                if step is not None:
                    step.actual = (step.actual or 0) + 1
            if batch:
                self._look(len(batch))
                yield batch
        finally:
            await cursor.close()

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
        if scan.where == plan.TRUE and self._at is None:
            field = f"live.{scan.type}"
            found = await self._tables.meta.find_one(
                {"_id": "counter"}, {field: 1}, session=self._session
            )
            return int((found or {}).get("live", {}).get(scan.type, 0))
        road = await self._road(scan, BY_DATE)
        if road.residual or self._at is not None:
            return len(await self.find(scan, BY_DATE, limit))
        return await self._counted(road.filter(), road.way.index, limit)

    # --- joins ----------------------------------------------------------------------

    async def _resolve(self, node: Join, type_: str) -> None:
        """Finds the other side of a join, if that is not too much."""
        if (type_, node) in self._open:
            return
        names: dict[str, None] | None
        match node:
            case plan.Chain(_, targets):
                if node in self._joined.chains:
                    return
                names = await self._targets(targets)
                if names is not None:
                    self._joined.chains[node] = names
            case plan.Has(source, param):
                if (type_, node) in self._joined.has:
                    return
                names = await self._sources(source, param, type_)
                if names is not None:
                    self._joined.has[type_, node] = names
            case _:
                assert_never(node)
        if names is None:
            self._open.add((type_, node))

    async def _targets(self, targets: Iterable[Scan]) -> dict[str, None] | None:
        names: dict[str, None] = {}
        for target in targets:
            rows = await self.find(target, BY_DATE, JOINED + 1 - len(names))
            names.update((name(row.key), None) for row in rows)
            if len(names) > JOINED:
                return None
        return names

    async def _sources(self, source: Scan, param: str, type_: str) -> dict[str, None] | None:
        rows = await self.find(source, BY_DATE, JOINED + 1)
        if len(rows) > JOINED:
            return None
        found = (r for row in rows for r in row.values.references)
        return {f"{type_}/{r.id}": None for r in found if r.param == param and r.type == type_}

    async def _join(self, type_: str, parts: Iterable[Predicate], rows: list[Row]) -> None:
        """Answers the joins that were too large to be found at once, for these rows."""
        for node in dict.fromkeys(n for part in parts for n in joins(part)):
            match node:
                case plan.Chain(param, targets) if node not in self._joined.chains:
                    for target in targets:
                        await self._look_up(target, param, rows)
                case plan.Has(source, param) if (type_, node) not in self._joined.has:
                    for row in rows:
                        await self._look_back(node, source, param, row.key)
                case _:
                    continue

    async def _look_up(self, target: Scan, param: str, rows: list[Row]) -> None:
        keys = {key for row in rows for key in _referred(row.values, param)}
        wanted = [k for k in keys if k.type == target.type and (target, k) not in self._known]
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            where = plan.both(plan.IdIn(tuple(k.id for k in some)), target.where)
            found = {row.key for row in await self.find(Scan(target.type, where), BY_DATE)}
            self._known.update(((target, key), key in found) for key in some)

    async def _look_back(self, node: plan.Has, source: Scan, param: str, key: Key) -> None:
        if (node, key) not in self._known:
            self._known[node, key] = bool(await self.referring(source, param, [key], 1))

    async def referring(
        self, source: Scan, param: str, keys: Iterable[Key], want: int | None
    ) -> list[Row]:
        """What of ``source`` refers by ``param`` to one of ``keys``."""
        refers = tuple(plan.ReferenceIs(param, k.type, k.id) for k in keys)
        where = plan.both(refers[0] if len(refers) == 1 else plan.Any(refers), source.where)
        return await self.find(Scan(source.type, where), BY_DATE, want)

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
            case plan.Chain(param, targets):
                keys = _referred(values, param, nested=False)
                names = self._joined.chains.get(predicate)
                if names is not None:
                    return any(name(key) in names for key in keys)
                return any(self._known.get((t, key), False) for key in keys for t in targets)
            case plan.Has():
                ids = self._joined.has.get((row.key.type, predicate))
                if ids is not None:
                    return name(row.key) in ids
                return self._known[predicate, row.key]
            case plan.Composite(param, parts):
                elements = [values for name, values in values.groups if name == param]
                return any(all(self.holds(p, row, e) for p in parts) for e in elements)
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
            ):
                return matches_leaf(predicate, row.key.id, values, row.updated)
            case _:
                assert_never(predicate)

    async def select(self, scan: Scan, rows: list[Row]) -> list[Row]:
        """Those of these rows that a scan finds."""
        some = [row for row in rows if row.key.type == scan.type]
        if scan.where == plan.TRUE or not some:
            return some
        for node in joins(scan.where):
            await self._resolve(node, scan.type)
        await self._join(scan.type, [scan.where], some)
        return [row for row in some if self.holds(scan.where, row)]

    async def by_key(self, keys: Iterable[Key]) -> list[Row]:
        """The rows of these names that are there."""
        types: dict[str, dict[str, None]] = {}
        for key in keys:
            types.setdefault(key.type, {})[key.id] = None
        found: list[Row] = []
        for type_, ids in types.items():
            found += await self.find(Scan(type_, plan.IdIn(tuple(ids))), BY_DATE)
        return found


def _referred(values: IndexValues, param: str, *, nested: bool = True) -> set[Key]:
    """Whom these values refer to by ``param``, those of their elements too if ``nested``."""
    found = {Key(r.type, r.id) for r in values.references if r.param == param and r.id}
    for group in values.groups if nested else ():
        found |= _referred(group.values, param)
    return found
