"""What the pipeline works with, and how the record remembers whom the bank holds."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fhir_server.access.bank import Feed
from fhir_server.access.ports import Ledger
from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Conflict
from fhir_server.model.resource import Key
from fhir_server.search.plan import IdIn, InPatient, Scan, Search
from operations.deid.assembly import Deidentification

HELD: Final = "research-patient"
STATE: Final = "research"
RUNNING: Final = "running"
LEASE_SECONDS: Final = 120
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Bank:
    """``reader``: a Session that sees of the record what patients permit for research, judged
    anew; ``record``: of the record's ledger; ``writer``: of the bank, which may write and erase
    there; ``lineage``: the bank's ledger; ``compartment``: types that belong to a
    patient. ``now``: microseconds."""

    feed: Feed
    reader: Callable[[], Awaitable[Session]]
    record: Ledger
    writer: Session
    lineage: Ledger
    deid: Deidentification
    project: str
    base: str
    compartment: frozenset[str]
    now: Callable[[], int]

    async def identity(self) -> str:
        """Of this bank; a new one is not taken for another that was lost."""
        await self.lineage.insert_unique(STATE, "bank", {"id": secrets.token_hex(16)})
        row = await self.lineage.get(STATE, "bank")
        assert row is not None
        return str(row.value["id"])

    async def note(self, patient: str, value: Json | None) -> None:
        """What the record remembers of a patient; None: the bank does not hold that one."""
        row = await self.record.get(HELD, patient)
        if row is not None:
            await self.record.cas(HELD, patient, value, row.revision)
        elif value is not None:
            await self.record.insert_unique(HELD, patient, value)

    async def keys_of(self, pseudonym: str) -> list[Key]:
        """What the bank holds of a patient."""
        scans = [Scan("Patient", IdIn((pseudonym,)))]
        types = sorted(self.compartment & await self.writer.populated())
        scans += [Scan(type_, InPatient((pseudonym,))) for type_ in types if type_ != "Patient"]
        found: list[Key] = []
        search: Search | None = Search(tuple(scans), count=PAGE, total="none")
        while search is not None:
            page = await self.writer.search(search)
            found += [stored.key for stored in page.matches]
            more = page.next
            search = Search(search.scans, count=PAGE, total="none", after=more) if more else None
        return found


class Lease:
    """One run at a time, in all processes: a row of the record's ledger that ends by itself."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._holder = secrets.token_hex(8)
        self._renewed = 0.0

    async def take(self) -> None:
        """Conflict while another run goes on."""
        until = time.time() + LEASE_SECONDS
        if not await self._ledger.insert_unique(STATE, RUNNING, self._value, until):
            raise Conflict("a run of the research pipeline goes on")
        self._renewed = time.monotonic()

    async def renew(self) -> None:
        """Conflict if it was lost."""
        if time.monotonic() - self._renewed < LEASE_SECONDS / 4:
            return
        row = await self._ledger.get(STATE, RUNNING)
        until = time.time() + LEASE_SECONDS
        mine = row is not None and row.value == self._value
        if (
            row is None
            or not mine
            or not await self._ledger.cas(STATE, RUNNING, self._value, row.revision, until)
        ):
            raise Conflict("this run of the research pipeline was too slow: another one goes on")
        self._renewed = time.monotonic()

    async def leave(self) -> None:
        row = await self._ledger.get(STATE, RUNNING)
        if row is not None and row.value == self._value:
            await self._ledger.cas(STATE, RUNNING, None, row.revision)

    @property
    def _value(self) -> Json:
        return {"holder": self._holder}
