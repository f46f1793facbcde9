"""Searches of AuditEvents: those that are stored and those of the trail, as one.

Both are asked for a page in the same order, and the first of both together are the answer. The
place of the next page is a place in each. What a chain leads to is looked up first, so that the
trail is judged by references alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from fhir_server.access.audit.trail import TYPE, Traced, Trail, TrailPage, Wish
from fhir_server.access.engine import Engine
from fhir_server.access.policy import Policy
from fhir_server.access.restrict import restrict_scan
from fhir_server.formats.json import loads
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.explain import Trace
from fhir_server.search.plan import FALSE, Cursor, IdIn, Include, Predicate, Scan, Search, both
from fhir_server.store.base import Page
from fhir_server.store.order import cursor_of, position_key

LED: Final = 1000
"""Resources that a chain may lead to."""
BEGIN, GOING, ENDED = 0, 1, 2
_HEAD: Final = 3
"""What a cursor begins with: how far the store is, how far the trail, how many it has."""


def concerns(search: Search) -> bool:
    """Is the trail asked? What is asked as of a point is the record alone."""
    return search.as_of is None and any(scan.type == TYPE for scan in search.scans)


async def traced(engine: Engine, policy: Policy, letter: str, key: Key) -> Stored | None:
    """An event of the trail by its id, if it is visible."""
    trail = engine.trail
    if trail is None or key.type != TYPE:
        return None
    scan = restrict_scan(Scan(TYPE, IdIn((key.id,))), policy, letter)
    if scan.where == FALSE:
        return None
    where = await resolved(engine, scan.where)
    return await trail.read(key.id, replace(scan, where=where), whole=policy.audits)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page begins in both. ``total``: of the trail, as the first page had it."""

    store: int = BEGIN
    trail: int = BEGIN
    total: int | None = None
    stored: Cursor = ()
    event: Cursor = ()

    @classmethod
    def of(cls, cursor: Cursor | None) -> _Place:
        if not cursor:
            return cls()
        store, trail, total = cursor[:_HEAD]
        rest = cursor[_HEAD:]
        half = len(rest) // 2
        assert isinstance(store, int) and isinstance(trail, int)
        assert total is None or isinstance(total, int)
        return cls(store, trail, total, rest[:half], rest[half:])

    def cursor(self, keys: int) -> Cursor | None:
        if self.store == self.trail == ENDED:
            return None
        empty = (None,) * (keys + 1)
        stored = self.stored if self.store == GOING else empty
        event = self.event if self.trail == GOING else empty
        return self.store, self.trail, self.total, *stored, *event


class Joining:
    """One restricted search, over the store and the trail."""

    def __init__(self, engine: Engine, trail: Trail, policy: Policy) -> None:
        self._engine = engine
        self._trail = trail
        self._whole = policy.audits

    async def run(self, search: Search, trace: Trace | None = None) -> Page:
        if search.rest is not None:
            raise _too_many()
        place = _Place.of(search.after)
        scans = [
            Scan(TYPE, await resolved(self._engine, scan.where))
            for scan in search.scans
            if scan.type == TYPE
        ]
        stored = await self._stored(search, place, search.count, trace)
        wish = Wish(
            tuple(scans),
            search.sort,
            search.count,
            place.event if place.trail == GOING else None,
            search.total if place.trail == BEGIN else "none",
            self._whole,
        )
        events = await self._trail.page(wish) if place.trail != ENDED else TrailPage()
        own = events.total if place.trail == BEGIN else place.total
        return await self._joined(search, replace(place, total=own), stored, events)

    async def _stored(
        self, search: Search, place: _Place, count: int, trace: Trace | None = None
    ) -> Page:
        """The store's part of a page. Where it has ended, only its total is wanted."""
        if place.store == ENDED:
            search, count = replace(search, includes=()), 0
        after = place.stored if place.store == GOING else None
        return await self._engine.store.run(replace(search, count=count, after=after), trace)

    async def _joined(self, search: Search, place: _Place, stored: Page, events: TrailPage) -> Page:
        mine = self._merged(search, stored.matches, events.events)
        chosen = [event for event in mine if isinstance(event, Traced)]
        matches = [one.stored if isinstance(one, Traced) else one for one in mine]
        kept = len(mine) - len(chosen)
        place, stored = await self._stored_place(search, place, stored, kept)
        place = _trail_place(search, place, events, len(chosen))
        if stored.rest is not None:
            raise _too_many()
        included = list(stored.included) if kept else []
        keys = {one.key for one in (*matches, *included)}
        included += [one for one in await self._included(search, chosen) if one.key not in keys]
        return Page(
            matches=matches,
            included=included,
            total=_sum(search, stored.total, place.total),
            next=place.cursor(len(search.sort)) if search.count else None,
        )

    def _merged(
        self, search: Search, stored: Sequence[Stored], events: Sequence[Traced]
    ) -> list[Stored | Traced]:
        """The first of both, in their order; at one place the stored ones are first."""
        order = position_key(search.sort)
        found: list[tuple[Cursor, Stored | Traced]] = []
        for one in stored:
            values = self._engine.extract(loads(one.body))
            found.append((cursor_of(search.sort, one.key, one.updated, 0, values), one))
        found += [((*event.cursor(search.sort)[:-1], 0), event) for event in events]
        found.sort(key=lambda pair: order(pair[0]))
        return [one for _, one in found[: search.count]]

    async def _stored_place(
        self, search: Search, place: _Place, page: Page, kept: int
    ) -> tuple[_Place, Page]:
        """Where the store goes on, and the page of what was kept of it."""
        if place.store == ENDED:
            return place, page
        if kept == len(page.matches):
            if page.next is None:
                return replace(place, store=ENDED, stored=()), page
        elif kept:
            page = replace(await self._stored(search, place, kept), total=page.total)
        else:
            return place, replace(page, included=(), rest=None)
        if not kept:
            return place, page
        return replace(place, store=GOING, stored=page.next or ()), page

    async def _included(self, search: Search, events: Sequence[Traced]) -> list[Stored]:
        """What the includes add for events of the trail."""
        found: dict[Key, Stored] = {}
        for include in search.includes if events else ():
            if include.reverse or include.iterate:
                text = "_revinclude and :iterate are not supported for AuditEvents of the trail"
                raise BadRequest(text, code="not-supported")
            if include.source.type != TYPE:
                continue
            for scan in _targets(include, events, self._trail):
                page = await self._engine.store.run(Search((scan,), count=LED, total="none"))
                found.update((one.key, one) for one in page.matches)
        return list(found.values())


def _targets(include: Include, events: Iterable[Traced], trail: Trail) -> list[Scan]:
    """The resources that the include leads to, as its target scans with their ids."""
    keys = {
        (value.type, value.id)
        for event in events
        if trail.holds(include.source.where, event)
        for value in event.values.references
        if value.param == include.param and value.id
    }
    scans = []
    for target in include.targets:
        ids = tuple(sorted(id_ for type_, id_ in keys if type_ == target.type))
        if ids:
            scans.append(Scan(target.type, both(IdIn(ids), target.where)))
    return scans


def _trail_place(search: Search, place: _Place, page: TrailPage, kept: int) -> _Place:
    if place.trail == ENDED:
        return place
    if kept == len(page.events) and not page.more:
        return replace(place, trail=ENDED, event=())
    if not kept:
        return place
    return replace(place, trail=GOING, event=page.events[kept - 1].cursor(search.sort))


def _sum(search: Search, stored: int | None, events: int | None) -> int | None:
    if search.total == "none" or stored is None or events is None:
        return None
    total = stored + events
    return total if search.total == "exact" or total <= plan.TOTAL_LIMIT else None


async def resolved(engine: Engine, predicate: Predicate) -> Predicate:
    """Chains as what they lead to now."""
    match predicate:
        case plan.All(parts):
            return plan.All(tuple([await resolved(engine, part) for part in parts]))
        case plan.Any(parts):
            return plan.Any(tuple([await resolved(engine, part) for part in parts]))
        case plan.Not(part):
            return plan.Not(await resolved(engine, part))
        case plan.Chain():
            return await _led(engine, predicate)
        case plan.Has():
            raise BadRequest("_has is not supported for AuditEvents", code="not-supported")
        case plan.Contains() | plan.Composite():
            # Events of the trail contain nothing, and AuditEvent has no such parameter.
            return FALSE
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
            | plan.TextHas()
            | plan.Present()
            | plan.Near()
            | plan.InPatient()
            | plan.Dated()
            | plan.Coded()
            | plan.EachPatient()
        ):
            return predicate
        case _:
            assert_never(predicate)


async def _led(engine: Engine, chain: plan.Chain) -> Predicate:
    if chain.canonical or not chain.targets:
        return FALSE
    search = Search(chain.targets, count=LED, total="none")
    page = await engine.store.run(search)
    if page.next is not None:
        text = f"a chain from AuditEvent leads to more than {LED:,} resources"
        raise BadRequest(text, code="too-costly")
    keys = [one.key for one in page.matches]
    return plan.Any(tuple(plan.ReferenceIs(chain.param, key.type, key.id) for key in keys))


def _too_many() -> BadRequest:
    text = f"_include adds more than {plan.INCLUDE_LIMIT:,} resources to AuditEvents"
    return BadRequest(text, code="too-costly")
