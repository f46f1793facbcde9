"""The audit trail of one process: a line before every answer, on disk within a second.

What cannot be recorded is not answered. After an error the chain is left as it is and another
one begun, so that a line that was cut, or that a disk has lost, never lies inside of a chain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from fhir_server.access.audit.chain import Chain, Place, end_of
from fhir_server.access.audit.entry import DECIDED, Entry, Later, Recording, decided
from fhir_server.access.audit.heads import KIND, HeadKey, is_removed, place_of
from fhir_server.access.audit.retention import expire
from fhir_server.access.commit import Commit
from fhir_server.model.problem import Problem, Unavailable
from fhir_server.store.ledger import Ledger

log = structlog.get_logger("vehr.audit")

FOLDER: Final = "audit"
SYNC_SECONDS: Final = 0.5
ANCHOR_TICKS: Final = 120
"""Syncs between two heads: a minute."""
LARGEST: Final = 256_000_000
"""Bytes of a chain; then another one begins."""
LASTS: Final = 86_400_000_000
"""Microseconds after which another one begins, if there is something in it."""
TOGETHER: Final = 1000
"""Patients that one line names; those of more are in several."""
EXPIRY_TICKS: Final = 60
"""Anchors between two looks for chains that are too old: an hour."""
KNOWN: Final = 8
"""Heads that a new chain names."""

MOST_UNWRITTEN: Final = 10_000

_ENCODE = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Heads:
    """Where heads are anchored. ``days``: how long chains are kept; 0: for ever."""

    ledger: Ledger
    commit: Commit
    now: Callable[[], int]
    days: int = 0


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
        self._later: list[tuple[Entry, tuple[Later, ...]]] = []
        self._busy = asyncio.Lock()
        self.trouble: str | None = None

    def begin(self, request: str) -> Recording:
        """For a request that wants to be served. Unavailable if it could not be recorded."""
        chain = self._ready()
        self._begun += 1
        return Recording(f"{chain.id}/{self._begun:012}", request)

    def write(self, entry: Entry, later: Sequence[Later] = ()) -> None:
        """One line; Unavailable if it is not written. It is then the first of the next chain, as
        what it became, so that a write that has committed is never without a line. ``later``: the
        decisions that these find go into another line, within a second.
        """
        self.write_all([(entry, later)])

    def write_all(self, entries: Sequence[tuple[Entry, Sequence[Later]]]) -> None:
        """As ``write``, several at once: all of them, or none."""
        self._later += [(entry, tuple(later)) for entry, later in entries if later]
        try:
            chain = self._ready()
            chain.append(*[_ENCODE(part) for entry, _ in entries for part in _parts(entry)])
        except OSError as error:
            problem = self._failed(error)
        except Unavailable as error:
            problem = error
        else:
            return
        became = [replace(entry, status=503, why="transient") for entry, _ in entries]
        self._unwritten += became[: MOST_UNWRITTEN - len(self._unwritten)]
        raise problem

    def _ready(self) -> Chain:
        """The chain; after trouble or when one has become long, another one."""
        chain = self._chain
        if chain is not None and chain.size < LARGEST:
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
        if self._unwritten:
            chain.append(*[_ENCODE(part) for entry in self._unwritten for part in _parts(entry)])
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
        rows = [row for row in await self._heads.ledger.scan(KIND) if not is_removed(row)]
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

    async def settle(self) -> None:
        """Lines of the decisions that were left for after the answer."""
        left, self._later = self._later, []
        for entry, later in left:
            found = [decision for work in later for decision in await work()]
            await asyncio.sleep(0)
            if found:
                decisions = tuple(dict.fromkeys(found))
                with contextlib.suppress(Unavailable):  # it is then the first of the next chain
                    self.write(decided(entry, decisions))

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
        for tick in count():
            if self._heads.days and tick % EXPIRY_TICKS == 0:
                await self.expire()
            for _ in range(ANCHOR_TICKS):
                await asyncio.sleep(SYNC_SECONDS)
                await self.settle()
                await self.sync()
                if self._left or (self._chain is not None and self._anchored < 0):
                    break
            self._turn()
            await self.anchor()

    def _turn(self) -> None:
        """A chain of yesterday is left, so that it can be closed, and go in its time."""
        chain = self._chain
        if chain is not None and chain.n > 0 and self._heads.now() - chain.begun > LASTS:
            self._leave()
            with contextlib.suppress(Unavailable):
                self._ready()

    async def expire(self) -> None:
        """Chains that are too old go. What fails is tried again."""
        heads, key = self._heads, self._key
        if key is None:
            return
        try:
            gone = await expire(self._data / FOLDER, key, heads.ledger, heads.commit, heads.days)
        except (OSError, Problem) as error:
            log.warning("old chains of the audit trail are not removed", error=str(error))
            return
        if gone:
            log.info("old chains of the audit trail went", chains=gone, days=heads.days)

    async def close(self) -> None:
        await self.settle()
        await self.anchor(closed=True)
        if self._chain is not None:
            with contextlib.suppress(OSError):
                self._chain.close()
            self._chain = None


def _parts(entry: Entry) -> Iterator[Entry]:
    """The lines of an entry: one, unless it names very many patients."""
    many = max(len(entry.patients), len(entry.decisions))
    if many <= TOGETHER:
        yield entry
        return
    for start in range(0, many, TOGETHER):
        some = entry.patients[start : start + TOGETHER]
        made = entry.decisions[start : start + TOGETHER]
        # What is left when no patients are names nobody, so it is of decisions alone.
        interaction = entry.interaction if some or start == 0 else DECIDED
        writes = entry.writes if start == 0 else ()
        yield replace(entry, interaction=interaction, patients=some, writes=writes, decisions=made)


Trouble = Callable[[], Awaitable[str | None]]


def either(store: Trouble, audit: AuditLog | None) -> Trouble:
    """Why requests are refused at present, by the store or by the audit trail."""

    async def trouble() -> str | None:
        return await store() or (audit.trouble if audit is not None else None)

    return trouble
