"""What the ledger says of models: which versions were pushed, which one answers to a name.

Every process of every worker reads it anew when the epoch has moved, so that what a person
decides acts on the next request. Rows: ``model`` by version, ``model-alias`` by name,
``model-epoch``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.access.ports import Ledger, LedgerWrite

VERSION, ALIAS, EPOCH = "model", "model-alias", "model-epoch"
CHAMPION, CHALLENGER = "champion", "challenger"
ALIASES: Final = (CHAMPION, CHALLENGER)
_ONE: Final = "epoch"
REMEMBERED: Final = 20
"""Earlier versions of an alias that a rollback can go back to."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A version that the ledger knows. ``files``: SHA-256 by name; ``binary``: the id of the
    Binary that holds its archive, "" for one of a folder; ``signer``: fingerprint of the key;
    ``pushed``: when, FHIR instant."""

    name: str
    version: str
    files: dict[str, str] = field(default_factory=dict)
    binary: str = ""
    signer: str = ""
    pushed: str = ""
    by: str = ""
    retired: bool = False

    @property
    def id(self) -> str:
        return f"{self.name}-{self.version}"

    @classmethod
    def of(cls, value: dict[str, Any]) -> Kept:
        return cls(**value)

    def value(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Alias:
    """Which version stands behind ``champion`` and ``challenger`` of one name ("": none), and
    those that did before, the latest last."""

    current: dict[str, str] = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, value: dict[str, Any]) -> Alias:
        return cls(value["current"], value["before"])

    def value(self) -> dict[str, Any]:
        return {"current": self.current, "before": self.before}

    def turned(self, alias: str, version: str, former: str) -> Alias:
        """With another version behind an alias, ``former`` remembered."""
        before = [*self.before.get(alias, []), *([former] if former else [])][-REMEMBERED:]
        return Alias({**self.current, alias: version}, {**self.before, alias: before})

    def returned(self, alias: str) -> Alias:
        """With the version before, which must exist."""
        *rest, last = self.before[alias]
        return Alias({**self.current, alias: last}, {**self.before, alias: rest})

    def without(self, version: str) -> Alias:
        """Nothing stands for a version that is retired."""
        current = {a: "" if v == version else v for a, v in self.current.items()}
        before = {a: [v for v in vs if v != version] for a, vs in self.before.items()}
        return Alias(current, before)


@dataclass(frozen=True, slots=True)
class Snapshot:
    epoch: int
    kept: dict[str, Kept]
    aliases: dict[str, Alias]


class ModelState:
    """Reads the rows; what changes them is written with the resources that tell of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def epoch(self) -> int:
        row = await self._ledger.get(EPOCH, _ONE)
        return row.revision if row is not None else 0

    async def snapshot(self) -> Snapshot:
        """The epoch is read first: what moves meanwhile is read again the next time."""
        epoch = await self.epoch()
        kept = [Kept.of(row.value) for row in await self._ledger.scan(VERSION)]
        aliases = {row.key: Alias.of(row.value) for row in await self._ledger.scan(ALIAS)}
        return Snapshot(epoch, {one.id: one for one in kept}, aliases)

    async def revision(self, kind: str, key: str) -> int:
        """0 if there is no such row."""
        row = await self._ledger.get(kind, key)
        return row.revision if row is not None else 0

    async def keeping(self, kept: Kept) -> tuple[LedgerWrite, ...]:
        """The rows that make a version known as it is here."""
        expect = await self.revision(VERSION, kept.id)
        return LedgerWrite(VERSION, kept.id, kept.value(), expect), moved()

    async def turning(self, name: str, alias: Alias) -> tuple[LedgerWrite, ...]:
        """The rows that put these versions behind a name."""
        expect = await self.revision(ALIAS, name)
        return LedgerWrite(ALIAS, name, alias.value(), expect), moved()


def moved() -> LedgerWrite:
    """Raises the epoch."""
    return LedgerWrite(EPOCH, _ONE, {})
