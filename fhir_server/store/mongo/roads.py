"""Which way into the data: one index drives, ours and by name, the rest is tested on what
it yields. MongoDB never chooses: a missing index is an error that names it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from fhir_server.search import plan
from fhir_server.search.explain import short
from fhir_server.search.plan import Predicate, Scan
from fhir_server.store.mongo.documents import Document, wanted
from fhir_server.store.mongo.filters import Filters, both
from fhir_server.store.mongo.keys import Keys

FEW: Final = 1000
"""Lists are counted up to this; a longer one drives only in an order that it has."""
FRESH: Final = 60.0
"""Seconds that a count is remembered."""
REMEMBERED: Final = 20_000

By: TypeAlias = Literal["date", "updated"]
FIELD: Final[dict[By, str]] = {"date": "d", "updated": "u"}
Note: TypeAlias = tuple[Predicate | None, int]


@dataclass(frozen=True, slots=True)
class Order:
    """Newest first where ``descending``; ``after``: (date or lastUpdated, number)."""

    by: By = "date"
    descending: bool = True
    after: tuple[int, int] | None = None

    def passed(self, place: tuple[int, int]) -> bool:
        """Whether a place lies behind the cursor."""
        if self.after is None:
            return True
        return place < self.after if self.descending else place > self.after

    def sort(self) -> list[tuple[str, int]]:
        way = -1 if self.descending else 1
        return [(FIELD[self.by], way), ("n", way)]

    def condition(self) -> list[Document]:
        """What lies behind the cursor; the first condition bounds the index."""
        if self.after is None:
            return []
        field, (place, number) = FIELD[self.by], self.after
        within, beyond = ("$lte", "$lt") if self.descending else ("$gte", "$gt")
        behind = [{field: {beyond: place}}, {field: place, "n": {beyond: number}}]
        return [{field: {within: place}}, {"$or": behind}]


BY_DATE: Final = Order()


@dataclass(frozen=True, slots=True)
class Way:
    """An index and the filter that bounds it; ``parts``: what it answers by itself."""

    index: str
    query: Document
    parts: tuple[Predicate, ...] = ()


@dataclass(slots=True)
class Road:
    """How to evaluate one scan. ``residual``: to be looked up in the values of what the filter
    lets pass. ``texts``: ids that each result bears as text, or a hash collided. ``few``: it is
    known that the way yields less than ``FEW``."""

    way: Way
    tests: list[Document]
    residual: list[Predicate] = field(default_factory=list)
    texts: list[tuple[bytes, ...]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    few: bool = False

    def filter(self, *more: Document) -> Document:
        """The whole filter."""
        rest = both([*self.tests, *more])
        if rest is None:
            return self.way.query
        return {**self.way.query, **(rest if "$and" in rest else {"$and": [rest]})}

    def __str__(self) -> str:
        parts = ", ".join(short(p) for p in self.way.parts) or "everything of the type"
        looked = "; values are looked into" if self.residual else ""
        return f"index {self.way.index} by {parts}{looked}"


class Counts:
    """Lengths of lists, counted up to ``FEW`` and remembered for a while by the process."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}

    async def of(self, way: Way, count: Callable[[Way], Awaitable[int]]) -> int:
        now, text = time.monotonic(), repr((way.index, way.query))
        known = self._known.get(text)
        if known is not None and known[1] > now:
            return known[0]
        found = await count(way)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[text] = (found, now + FRESH)
        return found


def conjuncts(predicate: Predicate) -> list[Predicate]:
    """The parts that must all hold."""
    if isinstance(predicate, plan.All):
        return [inner for part in predicate.parts for inner in conjuncts(part)]
    return [predicate]


def listed(keys: tuple[int, ...]) -> Document:
    """The filter by which the array of hashes drives."""
    return {"k": keys[0] if len(keys) == 1 else {"$in": list(keys)}}


def _texts(part: Predicate) -> list[tuple[bytes, ...]]:
    match part:
        case plan.InPatient(ids):
            return [tuple(i.encode() for i in ids)]
        case plan.ReferenceIs(id=str() as id_):
            return [(id_.encode(),)]
        case _:
            return []


class Planner:
    """Chooses the road of one scan. ``count``: how many a way yields, up to ``FEW``."""

    def __init__(
        self, keys: Keys, scan: Scan, filters: Filters, counts: Counts, count: Count
    ) -> None:
        self._type = scan.type
        self._everything = Way("k_d_n", listed((keys.everything(scan.type),)))
        self._counts = counts
        self._count = count
        self._parts = conjuncts(scan.where)
        self._tests = [filters.test(part) for part in self._parts]
        self._filters = filters

    async def road(self, order: Order) -> Road:
        notes: list[Note] = []
        way = self._named() or await self._rarest(order, notes)
        tests: list[Document] = []
        residual, texts = [], []
        for part, test in zip(self._parts, self._tests, strict=True):
            if not test.exact:
                residual.append(part)
            elif isinstance(part, plan.InPatient | plan.ReferenceIs):
                texts += _texts(part)
            if test.query is not None and part not in way.parts:
                tests.append(test.query)
        few = way.index == "_id_" or any(p in way.parts and n < FEW for p, n in notes)
        return Road(way, _merged(tests), residual, texts, notes, few)

    def _named(self) -> Way | None:
        """By ids, if the scan names them."""
        for part in self._parts:
            if isinstance(part, plan.IdIn):
                names = [wanted(self._type, i) for i in part.ids]
                some = names[0] if len(names) == 1 else {"$in": names}
                return Way("_id_", {"_id": some, "y": self._type}, (part,))
        for part, test in zip(self._parts, self._tests, strict=True):
            if isinstance(part, plan.Has) and test.query is not None:
                return Way("_id_", {**test.query, "y": self._type}, (part,))
        return None

    async def _rarest(self, order: Order, notes: list[Note]) -> Way:
        lists = self._lists()
        others = [
            Way(t.by, t.query, (p,))
            for p, t in zip(self._parts, self._tests, strict=True)
            if t.by and t.query is not None
        ]
        if order.by == "date" and len(lists) == 1 and not others:
            return lists[0]
        best, least = None, FEW
        for way in (*lists, *others):
            found = await self._counts.of(way, self._count)
            notes.append((way.parts[0], found))
            if found < least:
                best, least = way, found
        if best is not None:
            return best
        if order.by == "updated":
            return Way("y_u_n", {"y": self._type})
        return lists[0] if lists else self._everything

    def _lists(self) -> list[Way]:
        """The lists of hashes that could drive; a patient's before a code's."""
        pair = self._pair()
        if pair is not None:
            return [pair]
        found = [
            Way("k_d_n", listed(t.keys), (p,))
            for p, t in zip(self._parts, self._tests, strict=True)
            if t.keys
        ]
        return sorted(found, key=lambda way: not isinstance(way.parts[0], plan.InPatient))

    def _pair(self) -> Way | None:
        for reference in self._parts:
            if not isinstance(reference, plan.ReferenceIs):
                continue
            for token in self._parts:
                keys = self._filters.pair(reference, token)
                if keys:
                    codes = token.parts if isinstance(token, plan.Any) else (token,)
                    whole = all(isinstance(c, plan.TokenIs) and c.system is None for c in codes)
                    parts = (reference, token) if whole else (reference,)
                    return Way("k_d_n", listed(keys), parts)
        return None


Count: TypeAlias = Callable[[Way], Awaitable[int]]


def _merged(tests: list[Document]) -> list[Document]:
    """Tests of single hashes as one expression."""
    single = [t["$expr"]["$in"][0] for t in tests if "$in" in t.get("$expr", {})]
    if len(single) < 2:
        return tests
    rest = [t for t in tests if "$in" not in t.get("$expr", {})]
    return [{"$expr": {"$setIsSubset": [single, "$k"]}}, *rest]
