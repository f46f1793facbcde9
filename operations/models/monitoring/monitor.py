"""Counts of this process, and the rows of the ledger that all processes write theirs into."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.access.ports import Ledger

from .distributions import Reference
from .tally import Sample, Tally

KIND, FIRST = "model-monitor", "model-baseline"
DAY: Final = 86_400_000_000
"""Microseconds."""
KEPT: Final = 90
"""Days."""
BASELINE: Final = 200
"""Uses of a version without a reference that become its reference."""
MOST_SHADOWS: Final = 64
"""Runs of challengers that may wait; further ones are left out."""


@dataclass(slots=True)
class _Row:
    tally: Tally = field(default_factory=Tally)
    revision: int = 0
    written: int = -1


@dataclass(slots=True)
class _First:
    """Values that wait to become a reference."""

    inputs: dict[str, list[float]] = field(default_factory=dict)
    outputs: dict[str, list[float]] = field(default_factory=dict)
    n: int = 0

    def add(self, sample: Sample) -> None:
        self.n += 1
        for kept, values in ((self.inputs, sample.inputs), (self.outputs, sample.outputs)):
            for name, value in values.items():
                kept.setdefault(name, []).append(value)

    def merged(self, value: Mapping[str, Any]) -> _First:
        """With what another process has kept."""
        both = _First(n=self.n + value["n"])
        for target, mine, its in (
            (both.inputs, self.inputs, value["inputs"]),
            (both.outputs, self.outputs, value["outputs"]),
        ):
            for name in {*mine, *its}:
                target[name] = [*mine.get(name, ()), *its.get(name, ())]
        return both


class Monitor:
    """``now``: microseconds since the epoch."""

    def __init__(self, ledger: Ledger, now: Callable[[], int]) -> None:
        self.ledger = ledger
        self.now = now
        self.own: dict[str, Tally] = {}
        """Of this process since it began, by id of the version."""
        self._name = secrets.token_hex(8)
        self._rows: dict[tuple[str, int], _Row] = {}
        self.references: dict[str, Reference] = {}
        self._first: dict[str, _First] = {}
        self._shadows: set[asyncio.Task[None]] = set()
        self._flushing = asyncio.Lock()

    def knows(self, id_: str, reference: Reference) -> None:
        """The reference that comes with a version."""
        self.references[id_] = reference

    def seen(self, id_: str, sample: Sample) -> None:
        """A use of a version on a record."""
        reference = self.references.get(id_)
        for tally in self._tallies(id_):
            tally.seen(sample, reference)
        if reference is None and sample.outputs:
            self._first.setdefault(id_, _First()).add(sample)

    def failed(self, id_: str, seconds: float) -> None:
        for tally in self._tallies(id_):
            tally.failed(seconds)

    def beside(self, id_: str, sample: Sample, champion: Mapping[str, float]) -> None:
        """A use of a challenger, whose results nobody sees."""
        self.seen(id_, sample)
        for tally in self._tallies(id_):
            tally.beside(sample.outputs, champion)

    def shadow(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it when there is time."""
        if len(self._shadows) >= MOST_SHADOWS:
            work.close()
            return
        task = asyncio.ensure_future(work)
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def settled(self) -> None:
        """No challenger runs any more."""
        await asyncio.gather(*self._shadows, return_exceptions=True)

    def _tallies(self, id_: str) -> tuple[Tally, Tally]:
        row = self._rows.setdefault((id_, self.now() // DAY), _Row())
        return self.own.setdefault(id_, Tally()), row.tally

    async def flush(self) -> None:
        """Writes what was counted since the last time."""
        async with self._flushing:
            for (id_, day), row in list(self._rows.items()):
                if row.written != row.tally.calls:
                    await self._write(id_, day, row)
                elif day < self.now() // DAY:
                    del self._rows[id_, day]
            for id_ in list(self._first):
                await self._settle_first(id_)

    async def _write(self, id_: str, day: int, row: _Row) -> None:
        key, value, calls = f"{id_}/{day}/{self._name}", row.tally.value(), row.tally.calls
        until = (day + KEPT) * DAY / 1e6
        if row.revision == 0:
            done = await self.ledger.insert_unique(KIND, key, value, until)
        else:
            done = await self.ledger.cas(KIND, key, value, row.revision, until)
        if done:
            row.revision += 1
            row.written = calls

    async def _settle_first(self, id_: str) -> None:
        """The first values of all processes; enough of them are the reference."""
        row = await self.ledger.get(FIRST, id_)
        if row is not None and "reference" in row.value:
            self.references.setdefault(id_, Reference.read(row.value["reference"]))
            del self._first[id_]
            return
        mine = self._first[id_]
        if not mine.n:
            return
        both = mine.merged(row.value) if row is not None else mine
        value: dict[str, Any] = {"n": both.n, "inputs": both.inputs, "outputs": both.outputs}
        if both.n >= BASELINE:
            reference = Reference.of(both.inputs, both.outputs, "first")
            value = {"reference": reference.to_json()}
        if row is None:
            done = await self.ledger.insert_unique(FIRST, id_, value)
        else:
            done = await self.ledger.cas(FIRST, id_, value, row.revision)
        if done:
            self._first[id_] = _First()

    async def reference(self, id_: str) -> Reference | None:
        """That of a version, which another process may have made."""
        if id_ not in self.references:
            row = await self.ledger.get(FIRST, id_)
            if row is not None and "reference" in row.value:
                self.references[id_] = Reference.read(row.value["reference"])
        return self.references.get(id_)

    async def tally(self, id_: str, days: int) -> Tally:
        """Of all processes over the last days, what was just counted included."""
        await self.flush()
        since, whole = self.now() // DAY - days, Tally()
        for row in await self.ledger.scan(KIND, f"{id_}/"):
            if int(row.key.split("/")[-2]) > since:
                whole.add(Tally.of(row.value))
        return whole

    async def close(self) -> None:
        for task in list(self._shadows):
            task.cancel()
        await self.settled()
        await self.flush()
