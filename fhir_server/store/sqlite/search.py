"""One page of a search: matches in order, total, includes."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

from fhir_server.search import plan
from fhir_server.search.plan import Cursor, Scan, Search, SortKey
from fhir_server.store.base import Guard, Page
from fhir_server.store.memory import part_of, too_many_included
from fhir_server.store.order import cursor_of, position_key
from fhir_server.store.sqlite.estimating import estimate
from fhir_server.store.sqlite.rows import Row
from fhir_server.store.sqlite.streams import BY_DATE, Order, Place, place
from fhir_server.store.sqlite.view import View

_BY = {"main": "date", "updated": "updated"}


def run(view: View, search: Search) -> Page:
    """The page, in the snapshot of ``view``."""
    order = _index_order(search.sort, search.after)
    if order is not None:
        rows, after = _indexed(view, search, order)
    else:
        rows, after = _sorted(view, search)
    known = search.count > 0 and search.after is None
    known = known and (order is None or len(rows) <= search.count)
    page = rows[: search.count]
    last = after(page[-1]) if page else None
    if search.rest is not None:
        place, last = position_key(search.sort), search.rest.until
        until = place(last)
        page = [row for row in rows if not until < place(after(row))]
    part, rest = part_of(search, _included(view, search.includes, page), last)
    return Page(
        matches=[] if search.rest is not None else [row.stored() for row in page],
        included=[row.stored() for row in part],
        total=_total(view, search, len(rows) if known else None),
        next=last if len(rows) > len(page) else None,
        rest=rest,
    )


def _index_order(sort: tuple[SortKey, ...], after: Cursor | None) -> Order | None:
    if len(sort) != 1 or sort[0].kind not in _BY:
        return None
    by = sort[0]
    place = None if after is None else (after[0], after[1])
    return Order(_BY[by.kind], by.descending, place)  # type: ignore[arg-type]


def _indexed(view: View, search: Search, order: Order) -> tuple[list[Row], Callable[[Row], Cursor]]:
    """One row more than the page, from indexes that are already in order."""

    def at(row: Row) -> Place:
        return place(order, row)

    if not search.count:
        return [], at
    want = search.count + 1
    rows = view.first(search.scans, order, want)
    if search.rest is not None:
        # What was written meanwhile may have moved the end of the page further down.
        until = search.rest.until
        beyond = Order(order.by, order.descending, (until[0], until[1]))  # type: ignore[arg-type]
        while len(rows) == want and not beyond.passed(at(rows[-1])):
            want *= 2
            rows = view.first(search.scans, order, want)
    return rows, at


def _sorted(view: View, search: Search) -> tuple[list[Row], Callable[[Row], Cursor]]:
    """All rows behind the cursor: collected, then sorted."""
    sort = search.sort
    comparable = position_key(sort)

    def cursor(row: Row) -> Cursor:
        return cursor_of(sort, row.key, row.updated, row.rid, row.values)

    if not search.count:
        return [], cursor
    found = {r.rid: r for s in search.scans for r in view.find(s, BY_DATE)}
    at = [(comparable(cursor(row)), row) for row in found.values()]
    if search.after is not None:
        after = comparable(search.after)
        at = [pair for pair in at if after < pair[0]]
    return [row for _, row in sorted(at, key=itemgetter(0))], cursor


def _total(view: View, search: Search, known: int | None) -> int | None:
    if search.total == "none":
        return None
    limit = None if search.total == "exact" else plan.TOTAL_LIMIT + 1
    total = count(view, search.scans, limit) if known is None else known
    if limit is None or total < limit:
        return total
    if search.total != "estimate":
        return None
    return max(total, sum(estimate(view, scan) for scan in search.scans))


def count(view: View, scans: tuple[Scan, ...], limit: int | None) -> int:
    """How many resources the scans find together, counted up to ``limit``."""
    types = {s.type for s in scans}
    if len(types) == len(scans):
        return sum(view.count(s, limit) for s in scans)
    return len({r.rid for s in scans for r in view.find(s, BY_DATE)})


def guard_holds(view: View, guard: Guard) -> bool:
    rows = view.find(guard.scan, BY_DATE, len(guard.ids) + 1)
    return {r.key.id for r in rows} == set(guard.ids)


def _included(view: View, includes: tuple[plan.Include, ...], matches: list[Row]) -> list[Row]:
    """Everything the includes add, each once, no match again, in order of creation."""
    if not includes:
        return []
    seen = {r.rid: r for r in matches}
    includes = view.worth_following(includes)
    fresh, rules = matches, includes
    while fresh and rules:
        found: dict[int, Row] = {}
        for include in rules:
            want = plan.INCLUDE_MOST + len(seen) + 1
            found.update((r.rid, r) for r in _follow(view, include, fresh, want))
        fresh = [r for rid, r in found.items() if rid not in seen]
        seen.update((r.rid, r) for r in fresh)
        if len(seen) - len(matches) > plan.INCLUDE_MOST:
            raise too_many_included()
        rules = tuple(i for i in includes if i.iterate)
    added = sorted(seen.keys() - {r.rid for r in matches})
    return [seen[rid] for rid in added]


def _follow(view: View, include: plan.Include, fresh: list[Row], want: int) -> list[Row]:
    """What one include adds for these rows, at most ``want`` of the reverse ones."""
    types = {s.type for s in (include.targets if include.reverse else (include.source,))}
    fresh = [row for row in fresh if row.key.type in types]
    if include.reverse:
        to = [r for r in fresh if any(view.in_scan(t, r) for t in include.targets)]
        has = plan.Has(include.source, include.param, include.canonical)
        return view.referring(has, to, want) if to else []
    leads = plan.Chain(include.param, include.targets, include.canonical)
    sources = (row for row in fresh if view.in_scan(include.source, row))
    rows = {r.rid: r for row in sources for r in view.referred(row, leads)}
    return [r for r in rows.values() if any(view.in_scan(t, r) for t in include.targets)]
