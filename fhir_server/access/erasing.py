"""Erasing for good: what goes, what is recorded of it, and what is left to do afterwards.

The erase, its entries in the erase log and the names of its blobs commit together. What lies
outside of the store follows: the file of the log, the files of the blobs, and what deleted rows
leave in the files of the store. Ledger rows of the kind ``erase-due`` name that, so that it is
done also if the server is killed in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from fhir_server.access.conformance.epoch import changed
from fhir_server.access.consent.epoch import marks
from fhir_server.access.contents import CONTENT, USE, is_referenced, row_key
from fhir_server.access.engine import Engine
from fhir_server.access.own_words import OWN_WORDS
from fhir_server.access.parameters import NOTICED
from fhir_server.access.patient_record import Gathering, Record
from fhir_server.access.policy import BINARY
from fhir_server.access.raising import PARTED
from fhir_server.access.versions import versions_of
from fhir_server.model.datatypes import format_instant
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.plan import Cursor, History, Scan, Search
from fhir_server.store.base import ChangeSet, Erased, EraseSet, Erasure
from fhir_server.store.erase_log import Entry
from fhir_server.store.ledger import LedgerWrite, Row

DUE: Final = "erase-due"
LOG: Final = "log/"
BLOB: Final = "blob/"
SCRUB: Final = "scrub"

AT_ONCE: Final = 1000
"""Resources that one commit erases; more are several commits."""
SHOWN: Final = 10
"""Resources that stand in the way and are named."""
SETTLED: Final = 60.0
"""Seconds after which an upload has been committed or given up."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a resource goes. ``everything``: it is erased whole, also if it is not deleted;
    ``deleted``: whole, if it is deleted; ``previous``: its versions that are not current.
    """

    everything: bool = False
    deleted: bool = False
    previous: bool = False


class Erasing:
    """Erases by one principal. Made by the Session, which has looked at its rights."""

    def __init__(self, engine: Engine, by: str) -> None:
        self._engine = engine
        self._by = by

    async def of_resource(self, key: Key, wanted: Wanted) -> list[Erasure]:
        """What goes of one resource; nothing if the id was never used."""
        [current] = await self._engine.store.current([key])
        if current is None:
            return []
        if wanted.everything or (wanted.deleted and current.deleted):
            return [Erasure(key, current.version)]
        if not wanted.previous:
            return []
        versions = [s async for s in versions_of(self._engine.store, History(key.type, key.id))]
        old = tuple(sorted(s.version for s in versions if s.version != current.version))
        return [Erasure(key, current.version, old)] if old else []

    async def of_type(self, type_: str, wanted: Wanted, limit: int) -> tuple[list[Erasure], bool]:
        """What goes of a type, about ``limit`` versions, and whether that is not all."""
        whole: dict[Key, Erasure] = {}
        parts: dict[Key, Erasure] = {}
        count = 0
        async for stored in versions_of(self._engine.store, History(type_)):
            key = stored.key
            if key not in whole:
                [current] = await self._engine.store.current([key])
                if current is None:
                    continue
                if wanted.deleted and current.deleted:
                    fresh = Erasure(key, current.version)
                elif wanted.previous and stored.version != current.version:
                    known = parts.get(key, Erasure(key, current.version, ()))
                    fresh = replace(known, versions=(stored.version, *(known.versions or ())))
                else:
                    continue
                if count >= limit:
                    return [*whole.values(), *parts.values()], True
                (whole if fresh.versions is None else parts)[key] = fresh
            count += 1
        return [*whole.values(), *parts.values()], False

    async def of_patient(self, patient: str, base: str) -> Record:
        """What goes with a patient, and what is kept because others share it."""
        return await Gathering(self._engine, patient, base).run()

    async def referring(self, scans: Sequence[Scan], gone: Collection[Key]) -> list[Key]:
        """What of ``scans`` is not among ``gone``, up to ``SHOWN``."""
        found: list[Key] = []
        after: Cursor | None = None
        while len(found) < SHOWN:
            search = Search(tuple(scans), count=AT_ONCE, after=after, total="none")
            page = await self._engine.store.run(search)
            found += [match.key for match in page.matches if match.key not in gone]
            if page.next is None:
                break
            after = page.next
        return found[:SHOWN]

    async def erase(self, erasures: Sequence[Erasure], purpose: str) -> Erased:
        """Erases and settles. Raises Stale if something moved; the commits before it stand."""
        counts: list[int] = []
        for start in range(0, len(erasures), AT_ONCE):
            counts += await self._commit(erasures[start : start + AT_ONCE], purpose)
        await settle(self._engine)
        return Erased(tuple(counts))

    async def _commit(self, erasures: Sequence[Erasure], purpose: str) -> tuple[int, ...]:
        store, parameters = self._engine.store, self._engine.parameters
        current = await store.current([e.key for e in erasures])
        rows: list[LedgerWrite] = [LedgerWrite(DUE, SCRUB, {})]
        for erasure, stored in zip(erasures, current, strict=True):
            if stored is None:
                continue
            at = max(self._engine.now(), stored.updated)
            entry = Entry(
                format_instant(at),
                *erasure.key,
                by=self._by,
                purpose=purpose,
                versions=None if erasure.versions is None else list(erasure.versions),
            )
            rows += [entry.row(), replace(entry.row(), kind=DUE, key=LOG + entry.key)]
            if erasure.key.type == BINARY:
                rows += await self._unnamed(erasure, stored.updated)
            if erasure.versions is None:
                rows.append(LedgerWrite(PARTED, str(erasure.key), None))
                rows.append(LedgerWrite(OWN_WORDS, str(erasure.key), None))
        if parameters is not None and any(e.key.type in NOTICED for e in erasures):
            rows.append(parameters.mark)
        rows += marks((e.key.type for e in erasures), erased=True)
        rows += changed(e.key.type for e in erasures)
        erased = await store.erase(EraseSet(tuple(erasures), tuple(rows)))
        return erased.versions

    async def _unnamed(self, erasure: Erasure, updated: int) -> list[LedgerWrite]:
        """The versions name their blobs no more."""
        rows: list[LedgerWrite] = []
        wanted = erasure.versions
        keys = None if wanted is None else {row_key(erasure.key, v) for v in wanted}
        for row in await self._engine.store.ledger.scan(CONTENT, f"{erasure.key}/"):
            if keys is not None and row.key not in keys:
                continue
            sha256 = row.value["sha256"]
            rows += [
                LedgerWrite(CONTENT, row.key, None),
                LedgerWrite(USE, f"{sha256}/{row.key}", None),
                LedgerWrite(DUE, BLOB + sha256, {"updated": updated}),
            ]
        return rows


async def settle(engine: Engine) -> bool:
    """Does what erases have left to do; whether all of it is done.

    Raises Unavailable if the erase log cannot be written.
    """
    due = await engine.store.ledger.scan(DUE)
    if not due:
        return True
    logged = [row for row in due if row.key.startswith(LOG)]
    if logged and engine.erase_log is not None:
        entries = [msgspec.convert(row.value, Entry) for row in logged]
        try:
            await asyncio.to_thread(engine.erase_log.append, entries)
        except OSError as error:
            text = f"erased, but the erase log cannot be written: {error.strerror}; call again"
            raise Unavailable(text) from error
    for start in range(0, len(logged), AT_ONCE):
        gone = [LedgerWrite(DUE, row.key, None) for row in logged[start : start + AT_ONCE]]
        await engine.store.apply(ChangeSet(ledger=tuple(gone)))
    left = 0
    for row in due:
        if row.key.startswith(LOG):
            continue
        work = engine.store.scrub() if row.key == SCRUB else _discarded(engine, row)
        # A row that an erase has renewed meanwhile stays for the next time.
        if not await work or not await engine.store.ledger.cas(DUE, row.key, None, row.revision):
            left += 1
    return not left


async def _discarded(engine: Engine, row: Row) -> bool:
    """Is the blob gone, or named by another version?

    One that was stored after the version that named it may be on its way into another: it
    stays until that must be settled.
    """
    sha256, blobs = row.key.removeprefix(BLOB), engine.blobs
    if blobs is None or await is_referenced(engine.store.ledger, sha256):
        return True
    named = row.value["updated"] / 1e6 + 0.001
    try:
        return await blobs.discard(sha256, max(named, engine.now() / 1e6 - SETTLED))
    except Unavailable as problem:
        text = f"erased, but a content is still to be removed: {problem}"
        raise Unavailable(text, headers=problem.headers) from problem


def keys_of(erasures: Iterable[Erasure]) -> frozenset[Key]:
    """The resources that go whole."""
    return frozenset(e.key for e in erasures if e.versions is None)
