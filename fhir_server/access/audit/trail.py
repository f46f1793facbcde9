"""The trail as resources: AuditEvents that are made of its lines when somebody asks.

A page of the latest events opens few blocks; what cannot be found within ``BLOCKS`` blocks and
``EVENTS`` events is too costly, and the search is to be narrowed (a patient, an agent, days).
"""

from __future__ import annotations

import asyncio
import heapq
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fhir_server.access.audit.chain import SUFFIX
from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.events import Part, event_of, parts_of, suffix
from fhir_server.access.audit.index import FOLDER, Block, TrailIndex, names_of
from fhir_server.access.audit.narrowing import NOTHING, Narrow, narrowed
from fhir_server.access.audit.pieces import View
from fhir_server.access.audit.turns import Turns
from fhir_server.formats.json import stored_form
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.match import Joined, matches
from fhir_server.search.plan import Cursor, Scan, SortKey
from fhir_server.search.values import IndexValues
from fhir_server.search.words import remembered
from fhir_server.store.order import position_key, sort_value

TYPE: Final = "AuditEvent"
BLOCKS: Final = 2000
EVENTS: Final = 20_000
TURN: Final = 25
"""Events that are judged before others get a turn on the loop."""
FINENESS: Final = 1000
"""Microseconds within which events may be told apart by their ids alone."""
_ID: Final = re.compile(r"(\d{8}T\d{6}\.\d{6}-\d+-[0-9a-f]{8})-(\d+)-([0-9a-f]+)")


class _Line(Entry, frozen=True):
    """An entry with its number."""

    n: int = 0


_DECODE: Final = msgspec.json.Decoder(_Line).decode


class Traced(NamedTuple):
    """One event, as search sees it. ``tie``: tells those of one moment apart."""

    stored: Stored
    values: IndexValues
    tie: str

    def cursor(self, sort: tuple[SortKey, ...]) -> Cursor:
        key, updated = self.stored.key, self.stored.updated
        return (*(sort_value(k, key, updated, self.values) for k in sort), self.tie)


@dataclass(frozen=True, slots=True)
class Wish:
    """A page of the trail, as of ``Search``. ``whole``: for who audits (``View``)."""

    scans: tuple[Scan, ...]
    sort: tuple[SortKey, ...]
    count: int
    after: Cursor | None = None
    total: str = "none"
    whole: bool = True


@dataclass(slots=True)
class TrailPage:
    """``more``: there are further ones. ``total``: as of ``Page``."""

    events: list[Traced] = field(default_factory=list)
    more: bool = False
    total: int | None = None


class Trail:
    """Of one data directory. ``base``: the URL of the FHIR base."""

    def __init__(self, data: Path, base: str, extract: Callable[[Json], IndexValues]) -> None:
        self._folder = data / FOLDER
        self._index = TrailIndex(data)
        self.turns: Final = Turns()
        self._base = base
        self._extract = extract

    def close(self) -> None:
        self._index.close()

    async def page(self, wish: Wish) -> TrailPage:
        """Raises BadRequest (too-costly)."""
        return await _Paging(self, wish).run()

    async def read(self, id_: str, scan: Scan, *, whole: bool) -> Stored | None:
        """The event with this id, if it is in the scan."""
        async for event in self.named((id_,), View(self._base, whole)):
            if self.holds(scan.where, event):
                return event.stored
        return None

    async def entries(self, narrow: Narrow) -> AsyncIterator[Entry]:
        """Lines, the latest first. Raises BadRequest (too-costly) where the budget ends."""
        async for _, line in self.lines(narrow):
            yield line

    async def lines(self, narrow: Narrow) -> AsyncIterator[tuple[str, _Line]]:
        """Lines with their chains, the latest first."""
        ordered = narrow.ordered
        if ordered.low >= ordered.high or frozenset() in ordered.names:
            return
        blocks = await asyncio.to_thread(
            self._index.blocks, ordered.low, ordered.high, ordered.names, BLOCKS
        )
        wanted = _filter(ordered)
        heap: list[tuple[int, str, int, _Line]] = []
        for block in blocks:
            while heap and -heap[0][0] > block.high:
                _, chain, _, line = heapq.heappop(heap)
                yield chain, line
            for line in await self._read(block, wanted):
                heapq.heappush(heap, (-line.at, block.chain, -line.n, line))
        # Behind the last block there may be lines of others that were not opened.
        last = blocks[-1].high if len(blocks) >= BLOCKS else 0
        while heap and -heap[0][0] >= last:
            _, chain, _, line = heapq.heappop(heap)
            yield chain, line
        if len(blocks) >= BLOCKS:
            raise too_costly()

    async def named(self, ids: Iterable[str], view: View) -> AsyncIterator[Traced]:
        """The events with these ids."""
        for id_ in sorted(ids):
            found = _ID.fullmatch(id_)
            if found is None or len(found[2]) > 9:
                continue
            n = int(found[2])
            for block in await asyncio.to_thread(self._index.block_of, found[1], n):
                for line in await self._read(block, partial(_numbered, n)):
                    for event in self.events(found[1], line, Narrow(), view):
                        if event.stored.key.id == id_:
                            yield event

    async def _read(self, block: Block, wanted: Callable[[bytes], _Line | None]) -> list[_Line]:
        data = await asyncio.to_thread(_bytes_of, self._folder / (block.chain + SUFFIX), block)
        lines = (wanted(raw) for raw in data.split(b"\n")[:-1])
        return [line for line in lines if line is not None and line.interaction]

    def events(self, chain: str, line: _Line, narrow: Narrow, view: View) -> Iterable[Traced]:
        """The events of a line that may match."""
        own = [names for names in narrow.names if min(names, default="").startswith("p:")]
        acts = line.person.replace("Patient/", "p:") if line.person else ""
        for part in parts_of(line):
            named = f"p:{part.patient}"
            if part.decision is not None and part.decision.private and not view.whole:
                continue
            if all(named in names or acts in names for names in own):
                yield self._event(chain, line, part, view)

    def _event(self, chain: str, line: _Line, part: Part, view: View) -> Traced:
        id_ = f"{chain}-{line.n}-{suffix(part)}"
        resource = event_of(line, part, view)
        body = stored_form(resource, id_, "1", format_instant(line.at))
        stored = Stored(Key(TYPE, id_), 1, line.at, body, method="POST")
        tie = f"{line.at:020}/{chain}/{line.n:09}/{id_}"
        return Traced(stored, self._extract({"id": id_} | resource), tie)

    def holds(self, predicate: plan.Predicate, event: Traced) -> bool:
        """Joins to other resources have been resolved before (``joined.py``)."""

        def join(node: Joined) -> bool:
            match node:
                case plan.TextHas(param, words, prefix):
                    return remembered(event.stored.body).have(param, words, prefix=prefix)
                case _:
                    return False

        stored = event.stored
        return matches(predicate, stored.key.id, event.values, stored.updated, join)

    def view(self, *, whole: bool) -> View:
        return View(self._base, whole)


class _Paging:
    """One page being gathered."""

    def __init__(self, trail: Trail, wish: Wish) -> None:
        self._trail = trail
        self._wish = wish
        self._place = position_key(wish.sort)
        self._judged = self._matched = 0
        self._cut = False
        self._found: list[tuple[Cursor, Traced]] = []
        needed = [narrowed(scan.where) for scan in wish.scans]
        self._narrow = reduce(Narrow.either, needed) if needed else NOTHING
        first = wish.sort[0] if wish.sort else None
        self._timely = first is not None and first.descending and _is_time(first)

    async def run(self) -> TrailPage:
        wish = self._wish
        try:
            await self._gather()
        except BadRequest:
            if wish.total == "exact" or not self._complete():
                raise
            self._cut = True
        self._found.sort(key=lambda pair: self._place(pair[0]))
        page = [event for _, event in self._found[: wish.count]]
        return TrailPage(page, len(self._found) > wish.count, self._total())

    def _total(self) -> int | None:
        if self._wish.total == "none" or self._cut:
            return None
        many = self._wish.total != "exact" and self._matched > plan.TOTAL_LIMIT
        return None if many else self._matched

    async def _gather(self) -> None:
        wish, view = self._wish, self._trail.view(whole=self._wish.whole)
        narrow = self._narrow
        if narrow.ids is not None:
            async for event in self._trail.named(narrow.ids, view):
                await self._judge(event)
            return
        if self._timely and wish.total == "none" and wish.after is not None:
            moment = wish.after[0]
            if isinstance(moment, int):
                narrow = narrow.both(Narrow(high=moment + 2 * FINENESS))
        async for chain, line in self._trail.lines(narrow):
            if self._timely and self._complete(line.at):
                return
            for event in self._trail.events(chain, line, narrow, view):
                await self._judge(event)

    async def _judge(self, event: Traced) -> None:
        self._judged += 1
        if self._judged > EVENTS:
            raise too_costly()
        if self._judged % TURN == 0:
            await asyncio.sleep(0)
        if not any(self._trail.holds(scan.where, event) for scan in self._wish.scans):
            return
        self._matched += 1
        cursor, after = event.cursor(self._wish.sort), self._wish.after
        if after is None or self._place(after) < self._place(cursor):
            self._found.append((cursor, event))

    def _complete(self, at: int = 0) -> bool:
        """Is the page there, if all that follows was at ``at`` or before?"""
        wish = self._wish
        if wish.total == "exact" or (
            wish.total != "none" and self._matched <= plan.TOTAL_LIMIT and at
        ):
            return False
        if not self._timely or len(self._found) <= wish.count:
            return False
        # Those of one moment are in the order of their ids, so all of them are needed.
        return self._found[wish.count][1].stored.updated // FINENESS > at // FINENESS


def _is_time(key: SortKey) -> bool:
    return key.kind in ("main", "updated") or (key.kind == "date" and key.param == "date")


def _filter(narrow: Narrow) -> Callable[[bytes], _Line | None]:
    """Decodes the lines that may be meant."""
    first = narrow.names[0] if narrow.names else frozenset[str]()
    quoted = [name[2:] for name in first if name[:2] in ("p:", "a:")]
    hints = [f'"{q}"'.encode() for q in quoted] if len(quoted) == len(first) else []
    acting = [f'"Patient/{q}"'.encode() for q in quoted]

    def wanted(raw: bytes) -> _Line | None:
        if hints and not any(hint in raw for hint in (*hints, *acting)):
            return None
        try:
            line = _DECODE(raw)
        except msgspec.MsgspecError:
            return None
        if not narrow.low <= line.at < narrow.high:
            return None
        if narrow.names:
            names = set(names_of(line))
            if not all(names & one for one in narrow.names):
                return None
        return line

    return wanted


def _numbered(n: int, raw: bytes) -> _Line | None:
    if not raw.startswith(b'{"n":%d,' % n):
        return None
    try:
        return _DECODE(raw)
    except msgspec.MsgspecError:
        return None


def _bytes_of(path: Path, block: Block) -> bytes:
    """Empty if the file went meanwhile."""
    try:
        with path.open("rb") as file:
            file.seek(block.place)
            return file.read(block.stop - block.place)
    except FileNotFoundError:
        return b""


def too_costly() -> BadRequest:
    text = (
        f"more than {EVENTS:,} audit events would have to be looked at: name a patient, "
        "an agent or days (date)"
    )
    return BadRequest(text, code="too-costly")
