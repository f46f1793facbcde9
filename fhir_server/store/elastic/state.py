"""What the ledger keeps of the index: its name, how far it has followed, who follows.

| kind | key | holds |
|---|---|---|
| `search` | `index` | ``State`` |
| `search` | `lease` | who follows at present; it expires |
| `search-erase` | `Type/id` | what is still to be taken out of the index |
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import Any, Final

from fhir_server.store.elastic.documents import REVISION
from fhir_server.store.ledger import Ledger, Row

KIND: Final = "search"
ERASE: Final = "search-erase"
KINDS: Final = (KIND, ERASE)
STATE: Final = "index"
LEASE: Final = "lease"
HELD: Final = 20.0
"""Seconds after which the lease of a process that says nothing is another's."""


@dataclass(frozen=True, slots=True)
class State:
    """``index``: which searches read, ``seq``: what they see of the change feed; ``next``: what
    replaces it when it has come as far, "" without one. ``revision``, ``model``: what the
    documents hold, and the model of their vectors.
    """

    index: str
    seq: int = 0
    next: str = ""
    next_seq: int = 0
    revision: str = REVISION
    model: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.index, self.next) if self.next else (self.index,)

    def swapped(self) -> State:
        """With the index that has replaced the old one."""
        return replace(self, index=self.next, seq=self.next_seq, next="", next_seq=0)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Kept:
    """A state and the revision of its row; 0: there is none yet."""

    state: State | None
    row: int


class States:
    """The rows of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def read(self) -> Kept:
        row = await self._ledger.get(KIND, STATE)
        if row is None:
            return Kept(None, 0)
        return Kept(State(**row.value), row.revision)

    async def write(self, kept: Kept, state: State) -> Kept | None:
        """None: somebody else has written meanwhile."""
        if kept.row == 0:
            done = await self._ledger.insert_unique(KIND, STATE, state.to_json())
        else:
            done = await self._ledger.cas(KIND, STATE, state.to_json(), kept.row)
        return Kept(state, kept.row + 1) if done else None

    async def erasures(self) -> list[Row]:
        """Names that are still to be taken out."""
        return await self._ledger.scan(ERASE)

    async def erased(self, row: Row) -> None:
        await self._ledger.cas(ERASE, row.key, None, row.revision)


class Lease:
    """Only one process follows at a time; that another one does too would only be waste."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._owner = secrets.token_hex(8)
        self._renewed = 0.0

    async def take(self) -> bool:
        """Whether it is this process's turn."""
        expires = time.time() + HELD
        row = await self._ledger.get(KIND, LEASE)
        if row is None:
            taken = await self._ledger.insert_unique(
                KIND, LEASE, {"owner": self._owner}, expires=expires
            )
        elif row.value["owner"] == self._owner:
            taken = await self._ledger.cas(KIND, LEASE, row.value, row.revision, expires=expires)
        else:
            return False
        self._renewed = time.monotonic()
        return taken

    async def keep(self) -> bool:
        """``take`` if it is time to."""
        if time.monotonic() - self._renewed < HELD / 4:
            return True
        return await self.take()

    async def leave(self) -> None:
        row = await self._ledger.get(KIND, LEASE)
        if row is not None and row.value["owner"] == self._owner:
            await self._ledger.cas(KIND, LEASE, None, row.revision)
