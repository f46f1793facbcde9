"""Searches with words: the index names candidates, the store gives the answer.

Every Scan that asks for words is narrowed to the ids that the index knows for it, and the store
evaluates the plan that is left, all of it, on what it holds. Changes that the index does not
show yet are candidates too, so a search sees every write that was answered before it began.

Many candidates are taken in windows, in the order of the answer, until the page is full: places
of one value are never divided, so a window holds everything between its ends. What moved
meanwhile (its version is not the one in the index) counts only where it is now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unavailable
from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.explain import Trace
from fhir_server.search.plan import Predicate, Scan, Search
from fhir_server.store.base import Page, Store
from fhir_server.store.elastic.cluster import RETRY, Cluster, Missing
from fhir_server.store.elastic.follower import Follower, Read
from fhir_server.store.elastic.index import PAGE, Hit, Index
from fhir_server.store.elastic.names import Names
from fhir_server.store.elastic.queries import Indexed, Query, behind, compiled

T = TypeVar("T")

LOOKED: Final = 50_000
"""Candidates of one search before it is refused as too costly."""
COLLECTED: Final = 20_000
"""The same where the order of the answer is not one of the index."""
ATTEMPTS: Final = 3
"""Times that a page is put together whose resources move meanwhile."""
JOINED: Final = 1000
"""Candidates on the other side of a chain or ``_has``; more are left to the store."""


def asks_for_words(predicate: Predicate) -> bool:
    """Whether a predicate, or what it leads to, looks into bodies."""
    match predicate:
        case plan.TextHas():
            return predicate.of_body
        case plan.All(parts) | plan.Any(parts):
            return any(map(asks_for_words, parts))
        case plan.Not(part):
            return asks_for_words(part)
        case plan.Chain(targets=targets):
            return any(asks_for_words(target.where) for target in targets)
        case plan.Has(source):
            return asks_for_words(source.where)
        case _:
            return False


@dataclass(frozen=True, slots=True)
class Order:
    """The order of an answer by a field of the documents."""

    field: str
    descending: bool

    def before(self, place: int, other: int) -> bool:
        return place > other if self.descending else place < other


NAMED: Final = Order("updated", descending=True)
"""Where any order does."""


def order_of(search: Search) -> Order | None:
    """None: documents do not know it."""
    if len(search.sort) != 1:
        return None
    (by,) = search.sort
    if by.kind == "updated":
        return Order("updated", by.descending)
    return Order("date", descending=True) if by.kind == "main" and by.descending else None


@dataclass(frozen=True, slots=True)
class Window:
    """Candidates with the version that made them one. All that there is of the places behind
    ``first`` up to ``last``, or from there on; None: to the end of the order."""

    found: dict[Key, int]
    first: int | None
    last: int | None
    order: Order

    def holds(self, place: int) -> bool:
        early = self.first is not None and not self.order.before(self.first, place)
        late = self.last is not None and self.order.before(self.last, place)
        return not early and not late

    def narrow(self, scans: Iterable[Scan]) -> tuple[Scan, ...]:
        return narrowed(scans, self.found)


def narrowed(scans: Iterable[Scan], found: Iterable[Key]) -> tuple[Scan, ...]:
    """The scans, of these resources only."""
    ids: dict[str, list[str]] = {}
    for key in found:
        ids.setdefault(key.type, []).append(key.id)
    some = [(scan, ids.get(scan.type, [])) for scan in scans]
    return tuple(Scan(s.type, plan.both(plan.IdIn(Names(i)), s.where)) for s, i in some)


class Reading:
    """The candidates of one query, window by window."""

    def __init__(
        self, index: Index, query: Json, order: Order, changed: dict[Key, Stored], read: Read
    ) -> None:
        self._index = index
        self._query = query
        self.order = order
        self._changed = changed
        self._read = read
        self._held: list[Hit] = []
        self._left = dict(changed)
        self._after: Hit | None = None
        self._last: int | None = None
        self.looked = 0
        self.done = False

    def place(self, stored: Stored) -> int:
        """Where a version stands in the order."""
        return stored.updated if self.order.field == "updated" else self._read(stored).date

    async def window(self, most: int) -> Window:
        """The next one. Raises BadRequest when ``most`` candidates have been looked at."""
        hits, order = self._held, (self.order.field, self.order.descending)
        first, last = self._last, None
        while not self.done:
            after = None if self._after is None else self._after.after
            page = await self._index.hits(self._query, order, after)
            self.looked += len(page)
            if self.looked > most:
                raise too_many()
            self.done = len(page) < PAGE
            hits += [hit for hit in page if hit.key not in self._changed]
            if self.done:
                break
            self._after, before = page[-1], last_but(hits, page[-1].place)
            if before is not None:
                last = before
                break
        self._held = [h for h in hits if last is not None and self.order.before(last, h.place)]
        found = {h.key: h.seq for h in hits if last is None or not self.order.before(last, h.place)}
        self._last = last
        return Window(found | self._fresh(last), first, last, self.order)

    def _fresh(self, last: int | None) -> dict[Key, int]:
        """Of what has changed what stands up to there."""
        due = [
            key
            for key, stored in self._left.items()
            if last is None or not self.order.before(last, self.place(stored))
        ]
        return {key: self._left.pop(key).seq for key in due}


def last_but(hits: Sequence[Hit], place: int) -> int | None:
    """The last place that is not this one, of which more may come."""
    return next((hit.place for hit in reversed(hits) if hit.place != place), None)


def too_many() -> BadRequest:
    return BadRequest(
        "this text is found in too many resources: add a patient, a date or another word",
        code="too-costly",
    )


class Searcher:
    """Answers searches with words over ``store``. ``indexed``: as its type says."""

    def __init__(
        self, store: Store, cluster: Cluster, follower: Follower, indexed: Indexed, read: Read
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._follower = follower
        self._indexed = indexed
        self._read = read

    async def run(self, search: Search, trace: Trace | None = None) -> Page:
        """The page. Raises Unavailable when the index cannot be asked."""
        return await self.asked(self._run(search, trace))

    async def asked(self, work: Awaitable[T]) -> T:
        """Where the index is not there any more, another is begun. Raises Unavailable."""
        try:
            return await work
        except Missing as missing:
            await self._follower.lost(str(missing))
            text = "the search index was lost and is made anew"
            raise Unavailable(text, headers=RETRY) from None

    async def _run(self, search: Search, trace: Trace | None) -> Page:
        view = await self.view()
        scans = tuple([await view.within(scan) for scan in search.scans])
        search = replace(search, scans=scans)
        if search.after is None or search.total == "none":
            return await self._answer(view, search, trace)
        # What stands behind a cursor does not tell how many there are.
        page = await self._answer(view, replace(search, total="none"), trace)
        counting = replace(search, count=0, after=None, includes=(), rest=None)
        return replace(page, total=(await self._answer(view, counting, None)).total)

    async def _answer(self, view: View, search: Search, trace: Trace | None) -> Page:
        order, scans = order_of(search), search.scans
        for _ in range(ATTEMPTS):
            reading = view.reading(scans, order or NAMED, search)
            if reading is None:
                return await self._store.run(search, trace)
            window = await reading.window(LOOKED if order is not None else COLLECTED)
            found = dict(window.found)
            while not reading.done and order is None:
                found |= (await reading.window(COLLECTED)).found
            if trace is not None:
                text = "candidates of the search engine"
                trace.step(text, estimate=len(found), open=not reading.done)
            if reading.done:
                whole = replace(search, scans=narrowed(scans, found))
                return await self._store.run(whole, trace)
            windows = Windows(self._store, search, reading, exact=view.exact(scans))
            page = await windows.page(window, trace)
            if page is not None:
                return page
        raise Unavailable("too much has moved during this search", headers=RETRY)

    async def view(self) -> View:
        """The index as it shows what is written now."""
        position = await self._store.position()
        state = await self._follower.reached(position)
        changed: dict[Key, Stored] = {}
        if state.seq < position:
            async for stored in self._store.changes(state.seq):
                changed[stored.key] = stored
        return View(Index(self._cluster, state.index), changed, self._indexed, self._read)


class View:
    """The index in one state, and what has changed since."""

    def __init__(
        self, index: Index, changed: dict[Key, Stored], indexed: Indexed, read: Read
    ) -> None:
        self.index = index
        self._changed = changed
        self._indexed = indexed
        self._read = read

    def query(self, scan: Scan) -> Query:
        """What the index knows of a scan."""
        found = compiled(scan.type, scan.where, self._indexed(scan.type))
        of_type: Json = {"term": {"type": {"value": scan.type}}}
        parts = [of_type] if found.query is None else [of_type, found.query]
        return found._replace(query={"bool": {"filter": parts}})

    def exact(self, scans: Sequence[Scan]) -> bool:
        """Does the index find nothing that is not meant?"""
        return all(self.query(scan).exact for scan in scans)

    def reading(
        self, scans: Sequence[Scan], order: Order, search: Search | None = None
    ) -> Reading | None:
        """The candidates of these scans; None if one of them can do without words."""
        queries = [self.query(scan) for scan in scans]
        if not queries or not all(query.worded for query in queries):
            return None
        whole: Json = {"bool": {"should": [q.query for q in queries], "minimum_should_match": 1}}
        if search is not None and search.after is not None and order_of(search) is not None:
            start = behind(order.field, int(search.after[0] or 0), descending=order.descending)
            whole = {"bool": {"filter": [whole, start]}}
        types = {scan.type for scan in scans}
        changed = {k: s for k, s in self._changed.items() if k.type in types and not s.deleted}
        return Reading(self.index, whole, order, changed, self._read)

    async def within(self, scan: Scan) -> Scan:
        """With what its joins lead to narrowed."""
        return Scan(scan.type, await self._joined(scan.where))

    async def _joined(self, predicate: Predicate) -> Predicate:
        if not asks_for_words(predicate):
            return predicate
        match predicate:
            case plan.All(parts):
                return plan.All(tuple([await self._joined(part) for part in parts]))
            case plan.Any(parts):
                return plan.Any(tuple([await self._joined(part) for part in parts]))
            case plan.Not(part):
                return plan.Not(await self._joined(part))
            case plan.Chain(targets=targets):
                some = tuple([await self._side(target) for target in targets])
                return replace(predicate, targets=some)
            case plan.Has(source):
                return replace(predicate, source=await self._side(source))
            case _:
                return predicate

    async def _side(self, scan: Scan) -> Scan:
        """The other side of a join: narrowed, if that is not to many."""
        scan = await self.within(scan)
        reading = self.reading((scan,), NAMED)
        if reading is None:
            return scan
        window = await reading.window(LOOKED)
        if not reading.done or len(window.found) > JOINED:
            return scan
        return window.narrow((scan,))[0]


class Windows:
    """A page that is put together from several windows. ``exact``: candidates are matches."""

    def __init__(self, store: Store, search: Search, reading: Reading, *, exact: bool) -> None:
        self._store = store
        self._search = search
        self._reading = reading
        self._exact = exact
        self._found: dict[Key, int] = {}
        self._total = 0

    async def page(self, window: Window, trace: Trace | None) -> Page | None:
        """``window``: the first. None: something of the page has moved meanwhile."""
        search = self._search
        while True:
            if not self._full(window.first):
                await self._match(window)
            if not self._untold():
                self._total += await self._count(window)
            if self._reading.done or (self._full(window.last) and self._untold()):
                break
            window = await self._reading.window(LOOKED)
        total = None if self._untold() else self._total
        if not search.count:
            return Page((), total=total)
        named = replace(search, scans=narrowed(search.scans, self._found), total="none")
        page = await self._store.run(named, trace)
        return None if self._moved(page) else replace(page, total=total)

    def _moved(self, page: Page) -> bool:
        """Has something of it left its place since it was found?"""
        if self._search.rest is not None:
            return False
        more = len(self._found) > self._search.count
        whole = len(page.matches) == min(len(self._found), self._search.count)
        stays = all(self._found.get(s.key) == s.seq for s in page.matches)
        return not (whole and stays and (page.next is not None) == more)

    def _full(self, upto: int | None) -> bool:
        """Is the page known, when all up to this place is?"""
        search = self._search
        if search.rest is not None:
            until = int(search.rest.until[0] or 0)
            return upto is not None and self._reading.order.before(until, upto)
        return not search.count or len(self._found) > search.count

    def _untold(self) -> bool:
        """Is the total not asked for, or more than is told?"""
        total = self._search.total
        if total == "exact":
            return False
        many = self._exact and self._reading.looked > plan.TOTAL_LIMIT
        return total == "none" or many or self._total > plan.TOTAL_LIMIT

    async def _count(self, window: Window) -> int:
        scans = window.narrow(self._search.scans)
        page = await self._store.run(Search(scans, count=0, total="exact"))
        return page.total or 0

    async def _match(self, window: Window) -> None:
        """Adds what of a window is meant, as far as the page needs it."""
        search, left = self._search, dict(window.found)
        all_ = search.rest is not None
        want = len(left) if all_ else search.count + 1 - len(self._found)
        while left:
            scans = narrowed(search.scans, left)
            some = replace(search, scans=scans, count=want, total="none", includes=(), rest=None)
            found = (await self._store.run(some)).matches
            strayed = [s.key for s in found if left[s.key] != s.seq and not self._stays(s, window)]
            if not strayed:
                self._found.update((s.key, s.seq) for s in found)
                return
            for key in strayed:
                del left[key]

    def _stays(self, stored: Stored, window: Window) -> bool:
        return window.holds(self._reading.place(stored))
