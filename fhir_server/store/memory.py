"""The store in memory: the executable specification of every other store.

Simple and obviously right; every question is answered by looking at everything.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar, assert_never

from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.codings import bears_coding
from fhir_server.search.explain import Trace
from fhir_server.search.match import matches_leaf
from fhir_server.search.plan import Cursor, History, Predicate, Rest, Scan, Search
from fhir_server.search.values import CANONICAL, IndexValues
from fhir_server.search.words import contained_body, remembered
from fhir_server.store.base import (
    Change,
    ChangeSet,
    Committed,
    Erased,
    EraseSet,
    Erasure,
    Guard,
    Page,
    Reindexed,
    Stale,
    Versions,
)
from fhir_server.store.memory_ledger import MemoryLedger
from fhir_server.store.order import cursor_of, position_key


@dataclass(frozen=True, slots=True)
class Entry:
    """One version as search sees it. ``rid``: creation number of the resource."""

    rid: int
    stored: Stored
    values: IndexValues
    container: Entry | None = None


def contained(entry: Entry) -> list[Entry]:
    """What a resource contains; for what is contained itself, that and what lies beside it."""
    top = entry.container or entry
    return [
        Entry(
            top.rid,
            top.stored._replace(key=Key(type_, id_), body=contained_body(top.stored.body, number)),
            values,
            top,
        )
        for number, (type_, id_, values) in enumerate(top.values.contained)
    ]


class World:
    """The current, undeleted resources at one point of the change feed."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_key = {e.stored.key: e for e in entries if not e.stored.deleted}

    def find(self, scans: Iterable[Scan]) -> list[Entry]:
        """What any of the scans finds, each once, in order of creation."""
        scans = tuple(scans)
        found = [e for e in self._by_key.values() if any(self.in_scan(s, e) for s in scans)]
        return sorted(found, key=lambda e: e.rid)

    def in_scan(self, scan: Scan, entry: Entry) -> bool:
        return entry.stored.key.type == scan.type and self.holds(scan.where, entry)

    def holds(self, predicate: Predicate, entry: Entry) -> bool:
        match predicate:
            case plan.All(parts):
                return all(self.holds(p, entry) for p in parts)
            case plan.Any(parts):
                return any(self.holds(p, entry) for p in parts)
            case plan.Not(part):
                return not self.holds(part, entry)
            case plan.Chain(param, targets, canonical, inside):
                found, own = self.referred(entry, param, canonical), self.led(entry, param)
                return any(self.in_scan(t, e) for e in found for t in targets) or any(
                    self.in_scan(t, e) for e in own for t in inside
                )
            case plan.Contains(scan):
                return any(self.in_scan(scan, e) for e in contained(entry))
            case plan.Has(source, param, canonical):
                return any(self.in_scan(source, e) for e in self.referring(entry, param, canonical))
            case plan.Composite(param, parts):
                elements = [replace(entry, values=v) for p, v in entry.values.groups if p == param]
                return any(all(self.holds(p, element) for p in parts) for element in elements)
            case plan.TextHas(param, words, prefix) if predicate.of_body:
                return remembered(entry.stored.body).have(param, words, prefix=prefix)
            case plan.Coded(system, code):
                return bears_coding(entry.stored.body, system, code)
            case plan.EachPatient():
                of = map(predicate.of, entry.values.patients)
                return all(self.holds(rule, entry) for rule in of)
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
                stored = entry.stored
                return matches_leaf(predicate, stored.key.id, entry.values, stored.updated)
            case _:
                assert_never(predicate)

    @cached_property
    def _by_url(self) -> dict[str, list[Entry]]:
        """What canonical references may say -> the resources that are meant."""
        found: dict[str, list[Entry]] = {}
        for entry in self._by_key.values():
            for url in {v.uri for v in entry.values.uris if v.param == CANONICAL}:
                found.setdefault(url, []).append(entry)
        return found

    def referred(self, entry: Entry, param: str, canonical: bool) -> list[Entry]:
        """The resources that ``entry`` refers to by ``param``."""
        references = [r for r in entry.values.references if r.param == param]
        if canonical:
            names = {r.canonical for r in references if r.url}
            return [found for name in names for found in self._by_url.get(name, ())]
        keys = {Key(r.type, r.id) for r in references}
        return [self._by_key[k] for k in keys if k in self._by_key]

    def referring(self, entry: Entry, param: str, canonical: bool) -> list[Entry]:
        """The resources that refer by ``param`` to ``entry``."""
        if entry.container is not None:
            mine = [e.stored.key for e in self.led(entry.container, param)]
            return [entry.container] if entry.stored.key in mine else []
        return [e for e in self._by_key.values() if entry in self.referred(e, param, canonical)]

    def led(self, entry: Entry, param: str) -> list[Entry]:
        """The contained resources that ``entry`` refers to by ``param``."""
        named = {r.url for r in entry.values.references if r.param == param}
        return [e for e in contained(entry) if f"#{e.stored.key.id}" in named]

    def follow(self, include: plan.Include, entry: Entry) -> list[Entry]:
        """What one include adds for one resource."""
        if include.reverse:
            if not any(self.in_scan(t, entry) for t in include.targets):
                return []
            found = self.referring(entry, include.param, include.canonical)
            return [e for e in found if self.in_scan(include.source, e)]
        if not self.in_scan(include.source, entry):
            return []
        found = self.referred(entry, include.param, include.canonical)
        return [e for e in found if any(self.in_scan(t, e) for t in include.targets)]

    def included(self, includes: Sequence[plan.Include], matches: list[Entry]) -> list[Entry]:
        """Everything the includes add, each once, no match again, in order of creation."""
        seen = {e.rid: e for e in matches}
        fresh, rules = matches, list(includes)
        while fresh and rules:
            found = {to.rid: to for e in fresh for i in rules for to in self.follow(i, e)}
            fresh = [e for rid, e in found.items() if rid not in seen]
            seen.update((e.rid, e) for e in fresh)
            rules = [i for i in includes if i.iterate]
        added = sorted(seen.keys() - {e.rid for e in matches})
        if len(added) > plan.INCLUDE_MOST:
            raise too_many_included()
        return [seen[rid] for rid in added]


def too_many_included() -> BadRequest:
    text = f"_include and _revinclude add more than {plan.INCLUDE_MOST:,} resources to one page"
    return BadRequest(text, code="too-costly")


class Numbered(Protocol):
    """What has a creation number."""

    @property
    def rid(self) -> int: ...


N = TypeVar("N", bound=Numbered)


def part_of(
    search: Search, included: Sequence[N], last: Cursor | None
) -> tuple[Sequence[N], Rest | None]:
    """As much of what is included as one answer holds, in order of creation, and the rest.

    ``last``: the place of the last match of the page.
    """
    if search.rest is not None:
        behind = search.rest.behind
        included = [one for one in included if one.rid > behind]
    part = included[: plan.INCLUDE_LIMIT]
    if last is None or len(part) == len(included):
        return part, None
    return part, Rest(last, part[-1].rid)


class MemoryStore:
    """A ``Store`` without durability. ``clock``: epoch seconds, for ledger expiry."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._feed: list[Entry] = []
        self._rids: dict[Key, int] = {}
        self._last_seq = self._last_rid = 0
        self._ledger = MemoryLedger(clock)

    @property
    def ledger(self) -> MemoryLedger:
        return self._ledger

    def _world(self, as_of: int | None = None) -> World:
        feed = [e for e in self._feed if as_of is None or e.stored.seq <= as_of]
        return World({e.stored.key: e for e in feed}.values())

    def _newest(self, key: Key) -> Stored | None:
        return next((e.stored for e in reversed(self._feed) if e.stored.key == key), None)

    async def run(self, search: Search, trace: Trace | None = None) -> Page:
        began = time.perf_counter_ns()
        world = self._world(search.as_of)
        found = world.find(search.scans)
        if trace is not None:
            trace.step("memory: look at everything", actual=len(found), since=began)
        place = position_key(search.sort)
        at: dict[int, Cursor] = {
            e.rid: cursor_of(search.sort, e.stored.key, e.stored.updated, e.rid, e.values)
            for e in found
        }
        rest = sorted(found, key=lambda e: place(at[e.rid]))
        if search.after is not None:
            after = place(search.after)
            rest = [e for e in rest if after < place(at[e.rid])]
        page = rest[: search.count]
        last = at[page[-1].rid] if page else None
        if search.rest is not None:
            last, until = search.rest.until, place(search.rest.until)
            page = [e for e in rest if not until < place(at[e.rid])]
        part, more = part_of(search, world.included(search.includes, page), last)
        return Page(
            matches=[] if search.rest is not None else [e.stored for e in page],
            included=[e.stored for e in part],
            total=_total(search.total, len(found)),
            next=last if len(rest) > len(page) else None,
            rest=more,
        )

    async def current(self, keys: Sequence[Key]) -> list[Stored | None]:
        return [self._newest(k) for k in keys]

    async def version(self, key: Key, version: int) -> Stored | None:
        entries = (e.stored for e in self._feed if e.stored.key == key)
        return next((s for s in entries if s.version == version), None)

    async def versions(self, history: History) -> Versions:
        found = [
            s
            for s in (e.stored for e in reversed(self._feed))
            if history.type in (None, s.key.type)
            and history.id in (None, s.key.id)
            and (history.since is None or s.updated >= history.since)
            and (history.at is None or self._was_current(s, *history.at))
        ]
        rest = [s for s in found if history.before is None or s.seq < history.before]
        page = rest[: history.count]
        return Versions(
            entries=page,
            total=_total("limited" if history.count and not history.id else "accurate", len(found)),
            next=page[-1].seq if page and len(rest) > len(page) else None,
        )

    def _was_current(self, stored: Stored, low: int, high: int) -> bool:
        """Was this version current at some point from ``low`` to before ``high``?"""
        versions = (e.stored for e in self._feed if e.stored.key == stored.key)
        later = next((s for s in versions if s.version > stored.version), None)
        return stored.updated < high and (later is None or later.updated > low)

    async def apply(self, change_set: ChangeSet) -> Committed:
        self._check_guards(change_set.guards)
        feed, rids = len(self._feed), dict(self._rids)
        last = self._last_seq, self._last_rid
        try:
            seqs = tuple(self._add(c) for c in change_set.changes)
            self._ledger.write_all(change_set.ledger)
        except Stale:
            del self._feed[feed:]
            self._rids = rids
            self._last_seq, self._last_rid = last
            raise
        return Committed(seqs)

    def _check_guards(self, guards: Iterable[Guard]) -> None:
        world = self._world()
        for guard in guards:
            if {e.stored.key.id for e in world.find([guard.scan])} != set(guard.ids):
                raise Stale()

    def _add(self, change: Change) -> int:
        newest = self._newest(change.key)
        if change.expect != (newest.version if newest else 0):
            raise Stale((change.key,))
        seq = self._last_seq = self._last_seq + 1
        if change.key not in self._rids:
            self._last_rid += 1
        rid = self._rids.setdefault(change.key, self._last_rid)
        stored = Stored(change.key, change.version, change.updated, change.body, seq, change.method)
        self._feed.append(Entry(rid, stored, change.values or IndexValues()))
        return seq

    async def erase(self, erase_set: EraseSet) -> Erased:
        found = [self._erasable(erasure) for erasure in erase_set.erasures]
        moved = [e.key for e, gone in zip(erase_set.erasures, found, strict=True) if gone is None]
        if moved:
            raise Stale(tuple(moved))
        self._ledger.write_all(erase_set.ledger)
        all_gone = {(e.stored.key, e.stored.version) for gone in found for e in gone or ()}
        self._feed = [e for e in self._feed if (e.stored.key, e.stored.version) not in all_gone]
        for erasure in erase_set.erasures:
            if erasure.versions is None:
                self._rids.pop(erasure.key, None)
        return Erased(tuple(len(gone or ()) for gone in found))

    def _erasable(self, erasure: Erasure) -> list[Entry] | None:
        """The versions that go; None if another version is current than was expected."""
        newest = self._newest(erasure.key)
        current = newest.version if newest else 0
        if current != erasure.expect:
            return None
        wanted = erasure.versions
        entries = [e for e in self._feed if e.stored.key == erasure.key]
        return [e for e in entries if wanted is None or e.stored.version in wanted]

    async def scrub(self) -> bool:
        return True

    async def formerly(self, patient: str) -> dict[Key, tuple[int, ...]]:
        newest = {e.stored.key: e.stored.version for e in self._feed}
        found: dict[Key, tuple[int, ...]] = {}
        for entry in self._feed:
            key, version = entry.stored.key, entry.stored.version
            if patient in entry.values.patients and version != newest[key]:
                found[key] = (*found.get(key, ()), version)
        return found

    async def reindex(self, fresh: Sequence[Reindexed]) -> int:
        newest = {entry.stored.key: at for at, entry in enumerate(self._feed)}
        changed = 0
        for item in fresh:
            at = newest.get(item.key)
            entry = None if at is None else self._feed[at]
            if at is None or entry is None or entry.stored.deleted:
                continue
            if entry.stored.version == item.version and entry.values != item.values:
                self._feed[at] = replace(entry, values=item.values)
                changed += 1
        return changed

    async def changes(self, since: int) -> AsyncIterator[Stored]:
        for entry in [e for e in self._feed if e.stored.seq > since]:
            yield entry.stored

    async def position(self) -> int:
        return self._last_seq

    async def trouble(self) -> str | None:
        return None

    async def counts(self) -> dict[str, int]:
        newest = {e.stored.key: e.stored for e in self._feed}
        return dict(Counter(s.key.type for s in newest.values() if not s.deleted))

    async def close(self) -> None:
        return None


def _total(asked: str, found: int) -> int | None:
    if asked == "none" or (asked == "limited" and found > plan.TOTAL_LIMIT):
        return None
    return found
