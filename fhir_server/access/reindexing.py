"""Reindexing: the index values of current resources, extracted anew.

Type by type in order of ``lastUpdated``: what is written meanwhile moves to the end, so every
resource that stays as it is comes once. Then what the change feed says happened during it,
because a write that was under way when it began may know older parameters. The steps are
short and independent of each other, and ``State`` is all that is to be kept between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from fhir_server.access.engine import Engine
from fhir_server.access.propagating import propagate, with_inherited
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem, ServerError, Unprocessable
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import Cursor, Scan, Search, SortKey
from fhir_server.store.base import Reindexed

PAGE: Final = 250
TURN: Final = 25
"""Resources that are extracted before others get a turn on the loop."""
ORDER: Final = (SortKey("_lastUpdated", "updated"),)


@dataclass(frozen=True, slots=True)
class State:
    """``left``: types, the first is under way; ``after``: where it stands; ``seen``: how many
    of it. ``feed``: position of the change feed, until ``upto`` (-1: not known yet). ``marks``:
    what will be covered at the end. ``renewed``: how many were not as they should be.
    """

    left: tuple[str, ...]
    total: int
    feed: int
    marks: Mapping[str, tuple[str, ...]]
    types: tuple[str, ...] = ()
    after: tuple[Any, ...] | None = None
    seen: int = 0
    done: int = 0
    renewed: int = 0
    upto: int = -1
    finished: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> Json:
        found: Json = msgspec.to_builtins(self)
        return found

    @classmethod
    def of(cls, value: Json) -> State:
        return msgspec.convert(value, cls, strict=False)

    @property
    def text(self) -> str:
        """Where it is, for people."""
        if self.finished:
            return "reindexed"
        return f"reindexing {self.left[0]}" if self.left else "following the changes"


class Reindexing:
    """The steps, on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def begin(self, types: Iterable[str] = ()) -> State:
        """``types``: none are all."""
        await self.refresh()
        wanted = tuple(sorted(set(types) or self._engine.definitions.resource_types))
        counts = await self._engine.store.counts()
        parameters = self._engine.parameters
        marks = parameters.waiting(wanted) if parameters is not None else {}
        return State(
            left=wanted,
            total=sum(counts.get(type_, 0) for type_ in wanted),
            feed=await self._engine.store.position(),
            marks={type_: tuple(found) for type_, found in marks.items() if found},
            types=wanted,
        )

    async def refresh(self) -> None:
        if self._engine.parameters is not None:
            await self._engine.parameters.refresh()

    async def step(self, state: State) -> State:
        """The state after a short piece of work. Raises ServerError if resources were missed."""
        if state.left:
            return await self._page(state)
        if state.upto < 0:
            return replace(state, upto=await self._engine.store.position())
        if state.feed < state.upto:
            return await self._changes(state)
        if self._engine.parameters is not None:
            await self._engine.parameters.covered(state.marks)
        return replace(state, finished=True)

    async def one(self, key: Key) -> int:
        """One resource; how many values were renewed."""
        await self.refresh()
        found = await self._engine.store.current([key])
        return await self._renew([one for one in found if one is not None])

    async def _page(self, state: State) -> State:
        type_, store = state.left[0], self._engine.store
        before = (await store.counts()).get(type_, 0)
        after: Cursor | None = state.after
        search = Search((Scan(type_),), ORDER, PAGE, after, total="none")
        page = await store.run(search)
        renewed = await self._renew(page.matches)
        seen = state.seen + len(page.matches)
        made = replace(
            state,
            after=page.next,
            seen=seen,
            done=state.done + len(page.matches),
            total=max(state.total, state.done + len(page.matches)),
            renewed=state.renewed + renewed,
        )
        if page.next is not None:
            return made
        there = min(before, (await store.counts()).get(type_, 0))
        if seen < there:
            raise ServerError(f"reindexing {type_} has seen {seen} of {there} resources")
        return replace(
            made,
            left=state.left[1:],
            seen=0,
            counts={**state.counts, type_: seen} if seen else state.counts,
        )

    async def _changes(self, state: State) -> State:
        """What was written since the beginning, as far as it is still current."""
        found: list[Stored] = []
        at, types = state.feed, frozenset(state.types)
        async for stored in self._engine.store.changes(state.feed):
            at = stored.seq
            if stored.key.type in types and not stored.deleted:
                found.append(stored)
            if len(found) >= PAGE or at >= state.upto:
                break
        else:
            at = state.upto
        renewed = await self._renew(found)
        return replace(state, feed=at, renewed=state.renewed + renewed)

    async def _renew(self, found: Sequence[Stored]) -> int:
        fresh: list[Reindexed] = []
        for number, stored in enumerate(found, 1):
            if stored.deleted:
                continue
            try:
                values = self._engine.extract(loads(stored.body))
            except Problem as problem:
                raise Unprocessable(f"{stored.key}: {problem}") from None
            fresh.append(Reindexed(stored.key, stored.version, values))
            if number % TURN == 0:
                await asyncio.sleep(0)
        labelled = await with_inherited(self._engine, fresh)
        renewed = await self._engine.store.reindex(fresh)
        if labelled:
            await propagate(self._engine, labelled)
        return renewed
