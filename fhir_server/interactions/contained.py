"""``_containedType=contained``: contained resources without their containers.

https://hl7.org/fhir/R4/search.html#contained. The store finds containers; which of what they
contain is meant is asked of it for each, so that the policy is in that question too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.interactions.splice import entry
from fhir_server.interactions.subset import Cut
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import (
    TOTAL_LIMIT,
    Contains,
    Cursor,
    IdIn,
    Predicate,
    Rest,
    Scan,
    Search,
    both,
)
from fhir_server.search.words import contained_body

PAGE: Final = 500


class Found(NamedTuple):
    """A match. ``within``: its container, if it has one."""

    stored: Stored
    within: Key | None

    def entry(self, base: str, cut: Cut | None) -> bytes:
        shown = self.stored if cut is None else cut(self.stored)
        place = f"{self.within}#{self.stored.key.id}" if self.within else str(self.stored.key)
        return entry(f"{base}/{place}", shown.body, {"search": {"mode": "match"}})


@dataclass(frozen=True, slots=True)
class AlonePage:
    """``next``: where the next page begins, and how much of its first container was shown."""

    found: list[Found]
    total: int | None
    next: tuple[Cursor, Rest | None] | None

    def entries(self, base: str, cut: Cut | None) -> list[bytes]:
        return [one.entry(base, cut) for one in self.found]


async def alone_page(
    search: Search, sought: Scan, rest: Rest | None, session: Session
) -> AlonePage:
    """One page. ``search``: for the containers, and for ``sought`` itself where that is wanted."""
    skip, size = rest.behind if rest is not None else 0, search.count
    if not size:
        return AlonePage([], await _total(search, sought, session), None)
    here = replace(search, total="none")
    page = await session.search(here)
    groups = [await _within(stored, search, sought, session) for stored in page.matches]
    known = None if search.after or skip or page.next else sum(map(len, groups))
    total = await _total(search, sought, session) if known is None else known
    if skip:
        groups[:1] = [group[skip:] for group in groups[:1]]
    whole = shown = 0
    while whole < len(groups) and shown + len(groups[whole]) <= size:
        shown += len(groups[whole])
        whole += 1
    if whole < len(groups) and not whole:
        behind = Rest((), skip + size)
        return AlonePage(groups[0][:size], total, (search.after or (), behind))
    next_ = page.next
    if whole < len(groups):
        next_ = (await session.search(replace(here, count=whole))).next
    found = [one for group in groups[:whole] for one in group]
    return AlonePage(found, total, None if next_ is None else (next_, None))


async def _within(stored: Stored, search: Search, sought: Scan, session: Session) -> list[Found]:
    """What of a match is meant: itself, contained resources, or both."""
    key, found = stored.key, list[Found]()
    may_be = sought in search.scans and key.type == sought.type
    if may_be and await _holds(key, sought.where, session):
        found.append(Found(stored, None))
    for number, inner in enumerate(loads(stored.body).get("contained", ())):
        if inner["resourceType"] == sought.type:
            id_ = inner.get("id", "")
            where = Contains(Scan(sought.type, both(sought.where, IdIn((id_,)))))
            if await _holds(key, where, session):
                body = contained_body(stored.body, number)
                found.append(Found(stored._replace(key=Key(sought.type, id_), body=body), key))
    return found


async def _holds(key: Key, where: Predicate, session: Session) -> bool:
    scan = Scan(key.type, both(IdIn((key.id,)), where))
    return bool((await session.search(Search((scan,), count=0, total="exact"))).total)


async def _total(search: Search, sought: Scan, session: Session) -> int | None:
    """Counted up to a limit, as everywhere."""
    if search.total == "none":
        return None
    total = 0
    async for stored in _every(search, session):
        total += len(await _within(stored, search, sought, session))
        if total > TOTAL_LIMIT and search.total != "exact":
            return None
    return total


async def _every(search: Search, session: Session) -> AsyncIterator[Stored]:
    after: Cursor | None = None
    while True:
        page = await session.search(replace(search, count=PAGE, after=after, total="none"))
        for stored in page.matches:
            yield stored
        if page.next is None:
            return
        after = page.next
