"""The audit trail of one process: a line before every answer, on disk within a second.

What cannot be recorded is not answered. After an error the chain is left as it is and another
one begun, so that a line that was cut, or that a disk has lost, never lies inside of a chain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from fhir_server.access.audit.chain import Chain, Place, end_of
from fhir_server.access.audit.entry import Entry, Recording
from fhir_server.access.audit.heads import KIND, HeadKey, place_of
from fhir_server.access.commit import Commit
from fhir_server.model.problem import Problem, Unavailable
from fhir_server.store.ledger import Ledger

log = structlog.get_logger("vehr.audit")

FOLDER: Final = "audit"
SYNC_SECONDS: Final = 0.5
ANCHOR_TICKS: Final = 120
"""Syncs between two heads: a minute."""
LARGEST: Final = 1_000_000
"""Lines of a chain; then another one begins."""
KNOWN: Final = 8
"""Heads that a new chain names."""

MOST_UNWRITTEN: Final = 10_000

_ENCODE = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Heads:
    """Where heads are anchored."""

    ledger: Ledger
    commit: Commit
    now: Callable[[], int]


class AuditLog:
    """``data``: the data directory. ``trouble``: why nothing can be recorded at present."""

    def __init__(self, data: Path, heads: Heads) -> None:
        self._data = data
        self._heads = heads
        self._key: HeadKey | None = None
        self._chain: Chain | None = None
        self._known: list[Place] = []
        self._left: list[Place] = []
        """Chains that were left behind whose heads are not anchored yet."""
        self._anchored = -1
        self._synced = -1
        self._begun = 0
        self._unwritten: list[Entry] = []
        self._busy = asyncio.Lock()
        self.trouble: str | None = None

    def begin(self, request: str) -> Recording:
        """For a request that wants to be served. Unavailable if it could not be recorded."""
        chain = self._ready()
        self._begun += 1
        return Recording(f"{chain.id}/{self._begun:012}", request)

    def write(self, entry: Entry) -> None:
        """One line; Unavailable if it is not written. It is then the first of the next chain, as
        what it became, so that a write that has committed is never without a line.
        """
        try:
            chain = self._ready()
            chain.append(_ENCODE(entry))
        except OSError as error:
            problem = self._failed(error)
        except Unavailable as error:
            problem = error
        else:
            return
        if len(self._unwritten) < MOST_UNWRITTEN:
            self._unwritten.append(msgspec.structs.replace(entry, status=503, why="transient"))
        raise problem

    def _ready(self) -> Chain:
        """The chain; after trouble or when one has become long, another one."""
        chain = self._chain
        if chain is not None and chain.n < LARGEST:
            return chain
        try:
            self._leave()
            return self._begin()
        except OSError as error:
            raise self._failed(error) from None

    def _begin(self) -> Chain:
        if self._key is None:
            self._key = HeadKey.of(self._data)
        known = [*self._known, *self._left][-KNOWN:]
        chain = Chain(self._data / FOLDER, self._key.name, known, self._heads.now())
        self._chain, self._anchored, self._synced, self._begun = chain, -1, 0, 0
        for entry in self._unwritten:
            chain.append(_ENCODE(entry))
        self._unwritten.clear()
        if self.trouble is not None:
            log.warning("the audit trail goes on", chain=chain.id)
        self.trouble = None
        return chain

    def _leave(self) -> None:
        """What was written of the chain stays; its head is anchored with the next one."""
        chain, self._chain = self._chain, None
        if chain is None:
            return
        self._left.append(chain.head)
        with contextlib.suppress(OSError):
            chain.sync()
        with contextlib.suppress(OSError):
            chain.close()

    def _failed(self, error: OSError) -> Unavailable:
        reason = error.strerror or str(error)
        if self.trouble is None:
            log.error("the audit trail cannot be written", error=reason)
        self.trouble = f"the audit trail cannot be written: {reason}"
        self._leave()
        return Unavailable("the request cannot be recorded now", headers={"Retry-After": "5"})

    async def start(self) -> None:
        """Begin, knowing the chains before; what cannot be written now is trouble."""
        rows = await self._heads.ledger.scan(KIND)
        rows.sort(key=lambda row: row.value["at"])
        heads = [place_of(row) for row in rows[-KNOWN:]]
        self._known = [end_of(self._data / FOLDER, head) or head for head in heads]
        try:
            self._ready()
        except Unavailable:
            return
        await self.anchor()

    async def sync(self) -> None:
        """What is written is on disk when it returns; after trouble it is tried again."""
        async with self._busy:
            try:
                chain = self._ready()
            except Unavailable:
                return
            n = chain.n
            if n <= self._synced:
                return
            try:
                await asyncio.to_thread(chain.sync)
            except OSError as error:
                if chain is self._chain:
                    self._failed(error)
                return
            self._synced = n

    async def anchor(self, *, closed: bool = False) -> None:
        """The heads into the ledger. What fails is tried again with the next."""
        chain, key = self._chain, self._key
        if key is None:
            return
        head = chain.head if chain is not None else None
        await self.sync()
        now, left = self._heads.now(), list(self._left)
        rows = [key.row(place, now, closed=True) for place in left]
        if head is not None and chain is self._chain and (head.n != self._anchored or closed):
            rows.append(key.row(head, now, closed=closed))
        if not rows:
            return
        try:
            await self._heads.commit(tuple(rows))
        except Problem as problem:
            log.warning("the head of the audit trail is not anchored", error=str(problem))
            return
        self._left = self._left[len(left) :]
        if head is not None and chain is self._chain:
            self._anchored = head.n

    async def run(self) -> None:
        """For ever."""
        while True:
            for _ in range(ANCHOR_TICKS):
                await asyncio.sleep(SYNC_SECONDS)
                await self.sync()
                if self._left or (self._chain is not None and self._anchored < 0):
                    break
            await self.anchor()

    async def close(self) -> None:
        await self.anchor(closed=True)
        if self._chain is not None:
            with contextlib.suppress(OSError):
                self._chain.close()
            self._chain = None


Trouble = Callable[[], Awaitable[str | None]]


def either(store: Trouble, audit: AuditLog | None) -> Trouble:
    """Why requests are refused at present, by the store or by the audit trail."""

    async def trouble() -> str | None:
        return await store() or (audit.trouble if audit is not None else None)

    return trouble
