"""Searches that lead over AuditEvents: ``_has``, chains, ``_include``, ``_revinclude``.

The events of the trail are no rows of the store. So what a join finds among them is looked up
before and stands in the plan as ids, beside what the store finds; what includes add of them is
looked up for each page. What would take too many of them is refused, never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, assert_never

from fhir_server.access.audit.joined import resolved
from fhir_server.access.audit.trail import EVENTS, TYPE, Traced, Trail, TrailPage, Wish
from fhir_server.access.engine import Engine
from fhir_server.access.policy import Policy
from fhir_server.formats.json import loads
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.plan import FALSE, IdIn, Include, Predicate, Scan, Search, both
from fhir_server.store.base import Page

LED: Final = 1000
"""Resources that a join may lead to."""


def crosses(search: Search) -> bool:
    """Does it lead over AuditEvents, but for those that it searches itself?"""
    if any(scan.type == TYPE for i in search.includes for scan in (i.source, *i.targets)):
        return True
    return any(_names(scan.where) for scan in search.scans)


def _names(predicate: Predicate) -> bool:
    match predicate:
        case plan.All(parts) | plan.Any(parts):
            return any(map(_names, parts))
        case plan.Not(part):
            return _names(part)
        case plan.Chain(targets=targets, inside=inside):
            return any(map(_is_of, (*targets, *inside)))
        case plan.Has(source):
            return _is_of(source)
        case plan.Contains(scan):
            return _names(scan.where)
        case plan.ReferenceIs(type=type_):
            return type_ == TYPE
        case _:
            return False


def _is_of(scan: Scan) -> bool:
    return scan.type == TYPE or _names(scan.where)


class Crossing:
    """One restricted search. ``policy``: of who searches. ``as_of``: of the search."""

    def __init__(self, engine: Engine, trail: Trail, policy: Policy, as_of: int | None) -> None:
        self._engine = engine
        self._trail = trail
        self._policy = policy
        self._as_of = as_of
        self._known: dict[int, Scan] = {}

    async def resolved(self, search: Search) -> Search:
        """The same with what the trail adds to its joins. Raises BadRequest."""
        scans = [await self.scan(scan) for scan in search.scans]
        includes = [await self._include(include) for include in search.includes]
        return replace(search, scans=tuple(scans), includes=tuple(includes))

    async def scan(self, scan: Scan) -> Scan:
        return Scan(scan.type, await self._where(scan.where, scan.type))

    async def _include(self, include: Include) -> Include:
        source = await self._once(include.source)
        targets = [await self._once(target) for target in include.targets]
        return replace(include, source=source, targets=tuple(targets))

    async def _once(self, scan: Scan) -> Scan:
        """The includes of a search share their scans (``restrict``): each is looked at once."""
        found = self._known.get(id(scan))
        if found is None:
            found = self._known[id(scan)] = await self.scan(scan)
        return found

    async def _where(self, predicate: Predicate, type_: str) -> Predicate:
        match predicate:
            case plan.All(parts):
                return plan.All(tuple([await self._where(part, type_) for part in parts]))
            case plan.Any(parts):
                return plan.Any(tuple([await self._where(part, type_) for part in parts]))
            case plan.Not(part):
                return plan.Not(await self._where(part, type_))
            case plan.Chain():
                return await self._chain(predicate)
            case plan.Has():
                return await self._has(predicate, type_)
            case plan.Contains(scan):
                return plan.Contains(await self.scan(scan))
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
                | plan.Composite()
            ):
                return predicate
            case _:
                assert_never(predicate)

    async def _has(self, has: plan.Has, type_: str) -> Predicate:
        source = await self.scan(has.source)
        kept = replace(has, source=source)
        if source.type != TYPE:
            return kept
        ids = {
            value.id
            for event in await self._events(source.where)
            for value in event.values.references
            if value.param == has.param and value.type == type_ and value.id
        }
        if len(ids) > LED:
            raise _too_many("_has:AuditEvent leads to")
        return plan.Any((kept, IdIn(tuple(sorted(ids))))) if ids else kept

    async def _chain(self, chain: plan.Chain) -> Predicate:
        targets = tuple([await self.scan(target) for target in chain.targets])
        inside = tuple([await self.scan(scan) for scan in chain.inside])
        kept = replace(chain, targets=targets, inside=inside)
        found: list[Predicate] = [kept]
        for target in targets:
            # Whether a reference leads to anything at all (``restrict``) is asked of the store.
            if target.type != TYPE or target.where == self._policy.exists(TYPE):
                continue
            events = await self._events(target.where)
            if len(events) > LED:
                raise _too_many("a chain leads to")
            ids = sorted(event.stored.key.id for event in events)
            found += [plan.ReferenceIs(chain.param, TYPE, id_) for id_ in ids]
        return plan.Any(tuple(found)) if len(found) > 1 else kept

    async def _events(self, where: Predicate) -> Sequence[Traced]:
        """All events of the trail for which it holds."""
        return (await self._page(where, EVENTS, "exact")).events

    async def _page(self, where: Predicate, most: int, total: str) -> TrailPage:
        if where == FALSE:
            return TrailPage()
        if self._as_of is not None:
            text = "AuditEvents cannot be joined as of a point in time"
            raise BadRequest(text, code="not-supported")
        scan = Scan(TYPE, await resolved(self._engine, where))
        whole = self._policy.audits
        return await self._trail.page(Wish((scan,), plan.DEFAULT_SORT, most, None, total, whole))

    async def added(self, search: Search, page: Page) -> Page:
        """The page, with the events that its includes add."""
        if not search.count:
            return page
        found: dict[Key, Stored] = {}
        for include in search.includes:
            lead = self._back if include.reverse else self._forth
            found.update((one.stored.key, one.stored) for one in await lead(include, page))
        if found and any(map(_goes_on, search.includes)):
            raise _not_iterated()
        known = {one.key for one in (*page.matches, *page.included)}
        more = [one for key, one in found.items() if key not in known]
        return replace(page, included=[*page.included, *more]) if more else page

    async def _back(self, include: Include, page: Page) -> Sequence[Traced]:
        """``_revinclude``: the events that refer to the matches."""
        where = include.source.where
        if include.source.type != TYPE or where == FALSE:
            return ()
        if include.iterate:
            raise _not_iterated()
        keys = await self._among(include.targets, page.matches)
        leads = plan.Any(tuple(plan.ReferenceIs(include.param, k.type, k.id) for k in sorted(keys)))
        found = await self._page(both(leads, where), plan.INCLUDE_LIMIT, "none")
        if found.more:
            raise _too_many("_revinclude adds")
        return found.events

    async def _forth(self, include: Include, page: Page) -> Sequence[Traced]:
        """``_include``: the events that the matches, or what they include, refer to."""
        targets = [one for one in include.targets if one.type == TYPE and one.where != FALSE]
        if not targets:
            return ()
        leading = [*page.matches, *(page.included if include.iterate else ())]
        keys = await self._among((include.source,), leading)
        ids = {
            value.id
            for one in leading
            if one.key in keys
            for value in self._engine.extract(loads(one.body)).references
            if value.param == include.param and value.type == TYPE and value.id
        }
        if not ids:
            return ()
        wanted = IdIn(tuple(sorted(ids)))
        return [one for t in targets for one in await self._events(both(wanted, t.where))]

    async def _among(self, scans: Iterable[Scan], found: Iterable[Stored]) -> set[Key]:
        """The keys of those that are in one of the scans."""
        keys: set[Key] = set()
        of = [one.key for one in found]
        for scan in scans:
            own = [key for key in of if key.type == scan.type]
            if scan.where == plan.TRUE:
                keys.update(own)
            elif own:
                where = both(IdIn(tuple(key.id for key in own)), scan.where)
                search = Search((Scan(scan.type, where),), count=len(own), total="none")
                keys.update(one.key for one in (await self._engine.store.run(search)).matches)
                if scan.type == TYPE:
                    keys.update(one.stored.key for one in await self._events(where))
        return keys


def _goes_on(include: Include) -> bool:
    """Would it be applied to events that were included?"""
    if not include.iterate:
        return False
    scans = include.targets if include.reverse else (include.source,)
    return any(scan.type == TYPE and scan.where != FALSE for scan in scans)


def _not_iterated() -> BadRequest:
    text = ":iterate is not supported over AuditEvents of the trail"
    return BadRequest(text, code="not-supported")


def _too_many(what: str) -> BadRequest:
    text = f"{what} more than {LED:,}: narrow the AuditEvents, or search them themselves"
    return BadRequest(text, code="too-costly")
