"""Is the audit trail whole? Every line, every chain, every head, every row of a write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fhir_server.access.audit.chain import SUFFIX, Place, bound, lines
from fhir_server.access.audit.heads import KIND as HEADS
from fhir_server.access.audit.heads import holds, is_removed, names, place_of
from fhir_server.access.audit.log import FOLDER
from fhir_server.access.audit.writes import KIND as ROWS
from fhir_server.access.audit.writes import digest
from fhir_server.model.fresh import micros
from fhir_server.store.ledger import Ledger, Row

TOGETHER: Final = 10_000
"""Requests whose rows are looked at together."""
FRESH: Final = 60_000_000
"""Microseconds in which the first head of a chain is anchored, with much to spare."""
SHOWN: Final = 20
"""Faults of one kind and chain that are told one by one."""


@dataclass(slots=True)
class Report:
    """``faults``: one line each; without any the trail is whole. ``notes``: what a person may
    want to know of, such as a server that was killed.
    """

    chains: int = 0
    lines: int = 0
    writes: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def verify(data: Path, ledger: Ledger) -> Report:
    """Reads all of it; beside a running server or without one."""
    return await _Verifying(data, ledger).run()


class _Verifying:
    def __init__(self, data: Path, ledger: Ledger) -> None:
        self._data = data
        self._ledger = ledger
        self._report = Report()
        self._heads: dict[str, Row] = {}
        self._wanted: dict[str, dict[int, tuple[str, str]]] = {}
        """Chain -> number -> (hash, who says so)."""
        self._fresh: set[str] = set()
        self._elsewhere: dict[str, str] = {}
        """Rows that lines of later chains name."""

    async def run(self) -> Report:
        paths = sorted((self._data / FOLDER).glob("*" + SUFFIX), reverse=True)
        await self._read_heads()
        for path in paths:
            self._read_opening(path)
        there = {path.name.removesuffix(SUFFIX) for path in paths}
        went = {chain for chain, head in self._heads.items() if is_removed(head)}
        if went - there:
            self._report.notes.append(f"{len(went - there)} chains went after their time")
        for chain in sorted(self._wanted.keys() - there - went):
            _, who = next(iter(self._wanted[chain].values()))
            self._fault(f"chain {chain} is gone: {who} names it")
        for path in paths:
            await self._check(path)
        self._report.chains = len(paths)
        return self._report

    def _fault(self, text: str) -> None:
        self._report.faults.append(text)

    async def _read_heads(self) -> None:
        known, others = names(self._data), 0
        for row in await self._ledger.scan(HEADS):
            if row.value.get("key") not in known:
                others += 1
            elif holds(row):
                self._heads[row.key] = row
                self._want(place_of(row), "its head in the ledger")
            else:
                self._fault(f"chain {row.key}: its head in the ledger was changed")
        if others:
            self._report.notes.append(f"{others} chains of other data directories are not here")

    def _want(self, place: Place, who: str) -> None:
        self._wanted.setdefault(place.chain, {})[place.n] = (place.hash, who)

    def _read_opening(self, path: Path) -> None:
        for line in lines(path):
            content = line.content or {}
            if content.get("at", 0) > micros() - FRESH:
                self._fresh.add(path.name.removesuffix(SUFFIX))
            for chain, n, hash_ in content.get("known", ()):
                self._want(Place(chain, n, hash_), f"line 1 of {path.name}")
            return

    async def _check(self, path: Path) -> None:
        """One chain: its lines, where it ends, the rows that it names."""
        chain = path.name.removesuffix(SUFFIX)
        wanted = self._wanted.get(chain, {})
        head = self._heads.get(chain)
        if head is None:
            text = f"chain {chain}: the ledger has no head of it"
            (self._report.notes if chain in self._fresh else self._report.faults).append(text)
        named: dict[str, str] = {}
        last = -1
        for n, hash_, content, fault in _walk(path):
            if fault:
                self._fault(f"chain {chain}: {fault}")
            if content is None:
                continue
            self._report.lines += 1
            last = max(last, n)
            if n in wanted and wanted[n][0] != hash_:
                self._fault(f"chain {chain}: number {n} is not the one that {wanted[n][1]} names")
            for key, value in content.get("writes", ()):
                own = key.startswith(chain + "/")
                (named if own else self._elsewhere)[key] = value
        for n, (_, who) in sorted(wanted.items()):
            if n > last:
                self._fault(f"chain {chain} ends with number {last}: {who} has number {n}")
        closed = head is not None and head.value["closed"]
        if head is not None and closed and last > head.value["n"]:
            self._fault(f"chain {chain} goes on after it was closed")
        elif not closed:
            self._report.notes.append(f"chain {chain} is not closed: it is in use, or was cut off")
        if head is not None and is_removed(head):
            return
        await self._check_rows(chain, named, last, closed=closed)

    async def _check_rows(
        self, chain: str, named: dict[str, str], last: int, *, closed: bool
    ) -> None:
        for key in [key for key in self._elsewhere if key.startswith(chain + "/")]:
            named[key] = self._elsewhere.pop(key)
        wrong: list[str] = []
        unnamed: list[str] = []
        for page in range((last + TOGETHER) // TOGETHER + 1):
            for row in await self._ledger.scan(ROWS, f"{chain}/{page:08}"):
                self._report.writes += 1
                expected = named.pop(row.key, None)
                if expected is None:
                    unnamed.append(row.key)
                elif digest(row.value) != expected:
                    wrong.append(f"the row of the write {row.key} was changed")
        wrong += [f"the row of the write {key} is gone" for key in named]
        if closed:
            wrong += [f"no line names the write {key}" for key in unnamed]
        elif unnamed:
            text = f"chain {chain}: {len(unnamed)} writes were never answered, or are being so"
            self._report.notes.append(text)
        for text in wrong[:SHOWN]:
            self._fault(f"chain {chain}: {text}")
        if len(wrong) > SHOWN:
            self._fault(f"chain {chain}: and {len(wrong) - SHOWN} more rows like these")


def _walk(path: Path) -> Iterator[tuple[int, str, dict[str, Any] | None, str]]:
    """(number, hash, content, fault) of the lines of a file. After a fault it goes on from what
    stands there, so that one change is one fault, not one for every line behind it.
    """
    before, n = "", 0
    for line in lines(path):
        where = f"line {line.number}"
        if line.content is None:
            # A line that a crash or a full disk has cut can only be the last one.
            if line.whole:
                yield n, "", None, f"{where} is not a line of a chain"
                before = "?"
            continue
        found, fault = line.content["n"], ""
        if found > n:
            fault = f"{where} has number {found}: {n} to {found - 1} are missing"
        elif found < n:
            fault = f"{where} has number {found}, which was before"
        elif before != "?" and bound(before, line.line) != line.hash:
            fault = f"{where} or the one before it was changed"
        yield found, line.hash, line.content, fault
        before, n = line.hash, found + 1
