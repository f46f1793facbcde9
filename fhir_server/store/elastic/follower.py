"""The index follows the change feed of the store, and is made anew beside the one in use.

Whoever holds the lease reads a piece of the feed, writes its documents under the position of
their version, makes them visible and then notes the position: what a crash repeats changes
nothing. ``State.seq`` is what every search surely sees.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, NamedTuple

import structlog

from fhir_server.model.problem import Problem, Unavailable
from fhir_server.model.resource import Key, Stored
from fhir_server.search.values import IndexValues
from fhir_server.search.words import Words, words_of
from fhir_server.store.base import Store
from fhir_server.store.elastic.cluster import RETRY, Cluster, Missing
from fhir_server.store.elastic.documents import REVISION, document
from fhir_server.store.elastic.index import Index, Put, Remove, new_name
from fhir_server.store.elastic.state import Kept, Lease, State, States
from fhir_server.store.elastic.vectors import Embedder, text_of

log = structlog.get_logger("vehr")

PIECE: Final = 500
"""Versions of one request, or so many that their bodies are longer than:"""
BYTES: Final = 4_000_000
PIECES: Final = 10
"""Requests after which what was written is made visible and noted."""
LARGE: Final = 200_000
"""Bytes of a body that is looked into beside the loop."""
TURN: Final = 16
"""Resources between which others get a turn on the loop."""
QUIET: Final = 1.0
"""Seconds that the index waits after a write, so that many are followed together."""
UNREAD: Final = 256
"""A search looks by itself into at most so many versions that the index does not show yet."""
PATIENCE: Final = 3.0
"""Seconds that a search waits for an index that is further behind."""
POLL: Final = 0.05
AGAIN: Final = 5.0
"""Seconds after which it is tried again when the engine does not answer."""

Read = Callable[[Stored], IndexValues]
"""The index values of a version, by FHIR's own search parameters."""


class Made(NamedTuple):
    """A piece of the feed up to ``seq``."""

    changes: list[Put | Remove]
    seq: int


class Follower:
    """``read``: as its type says. ``embedder``: None, and there are no vectors."""

    def __init__(
        self, store: Store, cluster: Cluster, read: Read, embedder: Embedder | None = None
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._read = read
        self._embedder = embedder
        self.states = States(store.ledger)
        self._lease = Lease(store.ledger)
        self._busy = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._hurry: asyncio.Task[bool] | None = None
        self._wanted = asyncio.Event()

    # --- following ------------------------------------------------------------------

    async def follow(self, until: float = float("inf")) -> bool:
        """Has the index come up to what is written now, or further; False: another process is
        at it, or it is ``until`` (of the steady clock). Raises Unavailable."""
        async with self._busy:
            if not await self._lease.take():
                return False
            try:
                return await self._follow(until)
            finally:
                await self._lease.leave()

    def usable(self, state: State, position: int) -> bool:
        """Can this program read the index and go on with it?"""
        model = self._embedder.name if self._embedder else ""
        return state.revision == REVISION and state.model == model and state.seq <= position

    async def reached(self, seq: int) -> State:
        """The state when searches see what was written up to ``seq``, but for a few versions;
        to these it comes itself. Raises Unavailable if that takes too long."""
        until = time.monotonic() + PATIENCE
        while True:
            state = (await self.states.read()).state
            near = state is not None and seq - state.seq <= UNREAD
            if state is not None and near:
                position = seq if state.seq <= seq else await self._store.position()
                if self.usable(state, position):
                    return state
            if time.monotonic() >= until:
                raise Unavailable("the search index is catching up", headers=RETRY)
            await self._come_on(until)

    async def _come_on(self, until: float) -> None:
        """A moment of following; it goes on beside who waits for it. Raises Unavailable."""
        if self._hurry is None:
            self._hurry = asyncio.create_task(self.follow(until))
        hurry = self._hurry
        await asyncio.wait([hurry], timeout=POLL)
        if hurry.done():
            self._hurry = None
            if not hurry.result():
                await asyncio.sleep(POLL)  # another process is at it

    async def _follow(self, until: float) -> bool:
        upto = await self._store.position()
        kept: Kept | None = await self._ready(upto)
        try:
            while kept is not None and kept.state is not None:
                state = kept.state
                if state.seq >= upto and not state.next:
                    await self._settle(state)
                    return True
                if time.monotonic() >= until or not await self._lease.keep():
                    return False
                kept = await self._advance(kept, state, upto)
        except Missing as missing:
            await self.lost(str(missing))
        return False

    async def _ready(self, upto: int) -> Kept | None:
        """The state of an index that this program can go on with."""
        kept = await self.states.read()
        if kept.state is not None and self.usable(kept.state, upto):
            return kept
        return await self._begin(kept)

    async def _begin(self, kept: Kept) -> Kept | None:
        """With an empty index; None if somebody else has begun one."""
        made = State(new_name(), model=self._embedder.name if self._embedder else "")
        await self._create(made.index)
        written = await self.states.write(kept, made)
        if written is None:
            await self.drop((made.index,))
        else:
            log.info("the search index is made anew", index=made.index)
            await self.drop(kept.state.names if kept.state is not None else ())
        return written

    async def _create(self, name: str) -> None:
        dimensions = self._embedder.dimensions if self._embedder else None
        await Index(self._cluster, name).create(dimensions)

    async def drop(self, names: Iterable[str]) -> None:
        """These indexes go."""
        for name in names:
            await Index(self._cluster, name).drop()

    async def lost(self, name: str) -> None:
        """Somebody has removed an index: if it is still the one, another is begun."""
        kept = await self.states.read()
        if kept.state is not None and name in kept.state.names:
            await self._begin(kept)

    async def _advance(self, kept: Kept, state: State, upto: int) -> Kept | None:
        """The index in use first, then the one that will replace it."""
        if state.seq < upto:
            seq = await self._pieces(Index(self._cluster, state.index), state.seq, upto)
            return await self.states.write(kept, replace(state, seq=seq))
        if state.next_seq < upto:
            seq = await self._pieces(Index(self._cluster, state.next), state.next_seq, upto)
            return await self.states.write(kept, replace(state, next_seq=seq))
        made = await self.states.write(kept, state.swapped())
        if made is not None:
            await self.drop((state.index,))
        return made

    async def _pieces(self, index: Index, seq: int, upto: int) -> int:
        """Writes some pieces and makes them visible; how far it has come."""
        for _ in range(PIECES):
            made = await self._piece(seq, upto)
            await index.write(made.changes)
            seq = made.seq
            if seq >= upto:
                break
        await index.refresh()
        return seq

    async def _piece(self, since: int, upto: int) -> Made:
        last: dict[Key, Stored] = {}
        at = size = count = 0
        async for stored in self._store.changes(since):
            last[stored.key], at = stored, stored.seq
            size, count = size + len(stored.body), count + 1
            if count >= PIECE or size >= BYTES or at >= upto:
                break
        else:
            at = upto  # what is missing at the end was erased
        return Made(await self._documents(list(last.values())), at)

    async def _documents(self, versions: list[Stored]) -> list[Put | Remove]:
        made: list[Put | Remove] = []
        texts: list[str] = []
        for turn, stored in enumerate(versions, 1):
            if stored.deleted:
                made.append(Remove(stored.key, stored.seq))
            else:
                if len(stored.body) > LARGE:
                    words, values = await asyncio.to_thread(self._looked_into, stored)
                else:
                    words, values = self._looked_into(stored)
                made.append(Put(stored.key, stored.seq, document(stored, values, words)))
                texts.append(text_of(words))
            if turn % TURN == 0:
                await asyncio.sleep(0)
        if self._embedder is not None:
            await self._embed(self._embedder, [m for m in made if isinstance(m, Put)], texts)
        return made

    def _looked_into(self, stored: Stored) -> tuple[Words, IndexValues]:
        return words_of(stored.body), self._read(stored)

    async def _embed(self, embedder: Embedder, made: list[Put], texts: list[str]) -> None:
        some = [(put, text) for put, text in zip(made, texts, strict=True) if text]
        vectors = await embedder.embed([text for _, text in some]) if some else []
        for (put, _), vector in zip(some, vectors, strict=True):
            put.document["vector"] = vector

    # --- erasing --------------------------------------------------------------------

    async def settle(self) -> None:
        """What was erased goes from the index."""
        async with self._busy:
            # Without an index there is nothing to take out, and one that is begun later reads
            # a feed that no longer has what was erased.
            await self._settle((await self.states.read()).state)

    async def _settle(self, state: State | None) -> None:
        rows = await self.states.erasures()
        if not rows:
            return
        gone: list[Put | Remove] = [Remove(_key(row.key), row.value["seq"]) for row in rows]
        for name in state.names if state is not None else ():
            await Index(self._cluster, name).write(gone, refresh=True)
        for row in rows:
            await self.states.erased(row)

    async def merge(self) -> bool:
        """Leaves nothing in the files of the index of what went; whether all has gone."""
        await self.settle()
        kept = await self.states.read()
        for name in kept.state.names if kept.state is not None else ():
            await Index(self._cluster, name).merge()
        return not await self.states.erasures()

    # --- making it anew -------------------------------------------------------------

    async def rebuild(self) -> str:
        """Begins an index that replaces the one in use when it has followed as far; its name.

        Raises Unavailable while another process writes the state.
        """
        async with self._busy:
            kept = await self._ready(await self._store.position())
            if kept is not None and kept.state is not None:
                state = kept.state
                if state.next or not state.seq:
                    return state.next or state.index
                made = replace(state, next=new_name())
                await self._create(made.next)
                if await self.states.write(kept, made) is not None:
                    return made.next
                await self.drop((made.next,))
        raise Unavailable("the search index is being changed: try again", headers=RETRY)

    # --- beside all else ------------------------------------------------------------

    def wake(self) -> None:
        """Something has been written."""
        self._wanted.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows by itself meanwhile."""
        self._task = asyncio.create_task(self._run())
        self.wake()
        try:
            yield
        finally:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """What goes on beside is given up."""
        for task in (self._task, self._hurry):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(QUIET)
            self._wanted.clear()
            try:
                if not await self.follow():
                    self._wanted.set()
            except (Problem, Missing) as problem:
                log.warning("the search index does not follow", error=str(problem))
                await asyncio.sleep(AGAIN)
                self._wanted.set()


def _key(name: str) -> Key:
    type_, _, id_ = name.partition("/")
    return Key(type_, id_)
