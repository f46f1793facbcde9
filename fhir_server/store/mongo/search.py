"""One page of a search: matches in order, total, includes."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

from fhir_server.search import plan
from fhir_server.search.plan import Cursor, Scan, Search, SortKey
from fhir_server.store.base import Guard, Page
from fhir_server.store.memory import part_of, too_many_included
from fhir_server.store.mongo.documents import Row
from fhir_server.store.mongo.estimating import estimate
from fhir_server.store.mongo.roads import BY_DATE, By, Order
from fhir_server.store.mongo.tables import place
from fhir_server.store.mongo.view import View
from fhir_server.store.order import cursor_of, position_key

_BY: dict[str, By] = {"main": "date", "updated": "updated"}


async def run(view: View, search: Search) -> Page:
    """The page, in the snapshot of ``view``."""
    if search.as_of is not None:
        await view.as_of(search.as_of)
    order = _index_order(search.sort, search.after)
    if order is not None:
        rows, after = await _indexed(view, search, order)
    else:
        rows, after = await _sorted(view, search)
    known = search.count > 0 and search.after is None
    known = known and (order is None or len(rows) <= search.count)
    page = rows[: search.count]
    last = after(page[-1]) if page else None
    if search.rest is not None:
        place, last = position_key(search.sort), search.rest.until
        until = place(last)
        page = [row for row in rows if not until < place(after(row))]
    part, rest = part_of(search, await _included(view, search.includes, page), last)
    return Page(
        matches=[] if search.rest is not None else [row.stored() for row in page],
        included=[row.stored() for row in part],
        total=await _total(view, search, len(rows) if known else None),
        next=last if len(rows) > len(page) else None,
        rest=rest,
    )


def _index_order(sort: tuple[SortKey, ...], after: Cursor | None) -> Order | None:
    if len(sort) != 1 or sort[0].kind not in _BY:
        return None
    behind = None if after is None else _place(after)
    return Order(_BY[sort[0].kind], sort[0].descending, behind)


def _place(cursor: Cursor) -> tuple[int, int]:
    return int(cursor[0] or 0), int(cursor[1] or 0)


async def _indexed(
    view: View, search: Search, order: Order
) -> tuple[list[Row], Callable[[Row], Cursor]]:
    """One row more than the page, from indexes that are already in order."""

    def at(row: Row) -> tuple[int, int]:
        return place(order, row)

    if not search.count:
        return [], at
    want = search.count + 1
    rows = await _first(view, search.scans, order, want)
    if search.rest is not None:
        # What was written meanwhile may have moved the end of the page further down.
        until = search.rest.until
        beyond = Order(order.by, order.descending, _place(until))
        while len(rows) == want and not beyond.passed(at(rows[-1])):
            want *= 2
            rows = await _first(view, search.scans, order, want)
    return rows, at


async def _first(view: View, scans: tuple[Scan, ...], order: Order, want: int) -> list[Row]:
    """The first ``want`` rows of any of the scans."""
    if _differ(scans):
        return await view.find_any(scans, order, want)
    found = {r.rid: r for s in scans for r in await view.find(s, order, want)}
    rows = sorted(found.values(), key=lambda row: place(order, row), reverse=order.descending)
    return rows[:want]


def _differ(scans: tuple[Scan, ...]) -> bool:
    """Whether no resource can be found by two of the scans."""
    return len({scan.type for scan in scans}) == len(scans)


async def _all(view: View, scans: tuple[Scan, ...]) -> list[Row]:
    if _differ(scans):
        return await view.find_any(scans, BY_DATE)
    return [row for scan in scans for row in await view.find(scan, BY_DATE)]


async def _sorted(view: View, search: Search) -> tuple[list[Row], Callable[[Row], Cursor]]:
    """All rows behind the cursor: collected, then sorted."""
    sort = search.sort
    comparable = position_key(sort)

    def cursor(row: Row) -> Cursor:
        return cursor_of(sort, row.key, row.updated, row.rid, row.values)

    if not search.count:
        return [], cursor
    found = {r.rid: r for r in await _all(view, search.scans)}
    at = [(comparable(cursor(row)), row) for row in found.values()]
    if search.after is not None:
        after = comparable(search.after)
        at = [pair for pair in at if after < pair[0]]
    return [row for _, row in sorted(at, key=itemgetter(0))], cursor


async def _total(view: View, search: Search, known: int | None) -> int | None:
    if search.total == "none":
        return None
    limit = None if search.total == "exact" else plan.TOTAL_LIMIT + 1
    total = await _count(view, search.scans, limit) if known is None else known
    if limit is None or total < limit:
        return total
    if search.total != "estimate":
        return None
    return max(total, sum([await estimate(view, scan) for scan in search.scans]))


async def _count(view: View, scans: tuple[Scan, ...], limit: int | None) -> int:
    """How many resources the scans find together, counted up to ``limit``."""
    if _differ(scans):
        return sum([await view.count(s, limit) for s in scans])
    return len({r.rid for s in scans for r in await view.find(s, BY_DATE)})


async def guard_holds(view: View, guard: Guard) -> bool:
    rows = await view.find(guard.scan, BY_DATE, len(guard.ids) + 1)
    return {row.key.id for row in rows} == set(guard.ids)


async def _included(
    view: View, includes: tuple[plan.Include, ...], matches: list[Row]
) -> list[Row]:
    """Everything the includes add, each once, no match again, in order of creation."""
    if not includes:
        return []
    seen = {r.rid: r for r in matches}
    includes = await view.worth_following(includes)
    fresh, rules = matches, includes
    while fresh and rules:
        found: dict[int, Row] = {}
        for include in rules:
            want = plan.INCLUDE_MOST + len(seen) + 1
            found.update((r.rid, r) for r in await _follow(view, include, fresh, want))
        fresh = [r for rid, r in found.items() if rid not in seen]
        seen.update((r.rid, r) for r in fresh)
        if len(seen) - len(matches) > plan.INCLUDE_MOST:
            raise too_many_included()
        rules = tuple(i for i in includes if i.iterate)
    added = sorted(seen.keys() - {r.rid for r in matches})
    return [seen[rid] for rid in added]


async def _follow(view: View, include: plan.Include, fresh: list[Row], want: int) -> list[Row]:
    """What one include adds for these rows, at most ``want`` of the reverse ones."""
    if include.reverse:
        rows = {r.rid: r for t in include.targets for r in await view.select(t, fresh)}
        has = plan.Has(include.source, include.param, include.canonical)
        return await view.referring(has, list(rows.values()), want)
    leads = plan.Chain(include.param, include.targets, include.canonical)
    return await view.referred(await view.select(include.source, fresh), leads)
