"""Everything that a store holds of a patient, as an erase takes it.

https://hl7.org/fhir/R4/compartmentdefinition-patient.html says what belongs to the patient.
Beyond what a search finds, that is what was in the compartment: deleted resources and old
versions. Binaries are in no compartment; theirs are those that their record refers to and those
whose securityContext names it. What is in another patient's compartment too is kept, and so are
AuditEvents.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Final

from fhir_server.access.engine import Engine
from fhir_server.access.policy import BINARY
from fhir_server.access.roles import AUDIT
from fhir_server.access.versions import versions_of
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key, Stored
from fhir_server.search.extract import local_references
from fhir_server.search.plan import Cursor, History, InPatient, Scan, Search
from fhir_server.store.base import Erasure

PAGE: Final = 1000
TURN: Final = 25
"""Resources that are looked at before others get a turn on the loop."""


@dataclass(slots=True)
class Record:
    """``erasures``: the patient's own, the Patient last. ``kept``: relative references of what
    belongs to others too.
    """

    erasures: list[Erasure] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


class Gathering:
    """One patient's record. ``base``: the own base URL, with which references may begin."""

    def __init__(self, engine: Engine, patient: str, base: str) -> None:
        self._engine = engine
        self._patient = patient
        self._root = Key("Patient", patient)
        self._base = base
        self._whole: dict[Key, int] = {}
        self._parts: dict[Key, Erasure] = {}
        self._kept: list[str] = []
        self._binaries: set[Key] = set()
        self._looked = 0

    async def run(self) -> Record:
        async for stored in self._living():
            if await self._own(stored):
                self._whole[stored.key] = stored.version
            else:
                self._kept.append(str(stored.key))
        [root] = await self._engine.store.current([self._root])
        if root is not None:
            self._whole[self._root] = root.version
        for key, versions in (await self._engine.store.formerly(self._patient)).items():
            if key not in self._whole and key.type != AUDIT:
                await self._former(key, versions)
        for key in tuple(self._whole):
            await self._old_versions(key)
        await self._add_binaries()
        last = self._whole.pop(self._root, None)
        whole = [Erasure(key, version) for key, version in self._whole.items()]
        record = Record([*self._parts.values(), *whole], self._kept)
        if last is not None:
            record.erasures.append(Erasure(self._root, last))
        return record

    async def _living(self) -> AsyncIterator[Stored]:
        types = sorted(self._engine.definitions.compartment("Patient").keys() - {AUDIT})
        scans = tuple(Scan(type_, InPatient((self._patient,))) for type_ in types)
        after: Cursor | None = None
        search = Search(scans, count=PAGE, total="none")
        while True:
            page = await self._engine.store.run(replace(search, after=after))
            for stored in page.matches:
                yield stored
            if page.next is None:
                return
            after = page.next

    async def _own(self, stored: Stored) -> bool:
        """Is the version this patient's alone? Notes the Binaries that it refers to."""
        self._looked += 1
        if self._looked % TURN == 0:
            await asyncio.sleep(0)
        resource = loads(stored.body)
        patients = set(self._engine.extract(resource).patients)
        if stored.key != self._root and patients - {self._patient}:
            return False
        self._binaries |= binaries(resource, self._base)
        return True

    async def _former(self, key: Key, versions: tuple[int, ...]) -> None:
        """A resource that is deleted, or not this patient's any more."""
        store = self._engine.store
        [current] = await store.current([key])
        if current is None:
            return
        own: list[int] = []
        for version in versions:
            stored = await store.version(key, version)
            if stored is not None and await self._own(stored):
                own.append(version)
            elif stored is not None:
                self._kept.append(f"{key}/_history/{version}")
        every = [s async for s in versions_of(store, History(key.type, key.id))]
        if current.deleted and {s.version for s in every if not s.deleted} == set(own):
            self._whole[key] = current.version
        elif own:
            self._parts[key] = Erasure(key, current.version, tuple(own))

    async def _old_versions(self, key: Key) -> None:
        """Their Binaries."""
        if self._whole[key] == 1:
            return
        async for stored in versions_of(self._engine.store, History(*key)):
            if not stored.deleted:
                self._binaries |= binaries(loads(stored.body), self._base)

    async def _add_binaries(self) -> None:
        """Those that the record refers to, and those whose context is in it."""
        contexts: dict[Key, Key | None] = {}
        current: dict[Key, int] = {}
        async for stored in versions_of(self._engine.store, History(BINARY)):
            current.setdefault(stored.key, stored.version)
            if not stored.deleted and stored.key not in contexts:
                contexts[stored.key] = self._context(stored)
        for key, context in contexts.items():
            if context in self._whole or (context is None and key in self._binaries):
                self._whole[key] = current[key]
            elif key in self._binaries:
                self._kept.append(str(key))

    def _context(self, stored: Stored) -> Key | None:
        """What the securityContext names; None without one."""
        if b'"securityContext"' not in stored.body:
            return None
        named = {"reference": loads(stored.body).get("securityContext", {}).get("reference")}
        found = local_references(named, self._base) if named["reference"] else ()
        return next((Key(type_, id_) for type_, id_, _ in found), None)


def binaries(resource: Json, base: str) -> set[Key]:
    """The Binaries of this server that a resource refers to, also as an attachment."""
    found: set[Key] = set()
    stack: list[object] = [resource]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack += node.values()
            for name in ("url", "reference"):
                literal = node.get(name)
                if isinstance(literal, str) and BINARY in literal:
                    found.update(
                        Key(type_, id_)
                        for type_, id_, _ in local_references({"reference": literal}, base)
                        if type_ == BINARY
                    )
        elif isinstance(node, list):
            stack += node
    return found
