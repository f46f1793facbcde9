"""Session: the only way to data. Made by the gate, bound to one principal and its policy.

Reading is a plan, restricted; writing is a list of drafts that becomes one change set.
Hidden and absent look the same from here on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from fhir_server.access.contents import (
    Content,
    apart,
    blob_of,
    in_bundle,
    needed,
    permitted,
)
from fhir_server.access.engine import Engine
from fhir_server.access.policy import BINARY, Policy
from fhir_server.access.principal import Principal
from fhir_server.access.restrict import restrict, restrict_scan
from fhir_server.access.writing import Draft, Writing, Written
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Forbidden, Gone, NotFound
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import TRUE, History, IdIn, InPatient, Predicate, Scan, Search
from fhir_server.store.base import Guard, Page, Versions
from fhir_server.store.blobs import Blob
from fhir_server.store.ledger import LedgerWrite


class Session:
    """One principal's view of one face."""

    def __init__(self, engine: Engine, principal: Principal, policy: Policy) -> None:
        self.principal = principal
        self.policy = policy
        self._engine = engine

    def allow(self, letter: str, type_: str) -> None:
        """Refuse from metadata alone (scope and type), never from data."""
        if not self.policy.allows(letter, type_):
            raise Forbidden(f"not permitted: {_ACTIONS[letter]} {type_}")

    async def read(self, key: Key) -> Stored:
        """The current version. NotFound if absent or hidden, Gone if it was visibly deleted."""
        self.allow("r", key.type)
        living = await self._living(key)
        if living is not None:
            return living
        latest = await self._tombstone(key)
        if latest is not None:
            raise Gone(f"{key} was deleted", headers={"ETag": latest.etag})
        raise NotFound(f"{key} is not known")

    async def vread(self, key: Key, version: int) -> Stored:
        """One version, if it and the newest living version are visible."""
        await self._require_known(key)
        stored = await self._engine.store.version(key, version)
        if stored is None or not (stored.deleted or await self._sees(stored)):
            raise NotFound(f"{key} has no version {version}")
        if stored.deleted:
            raise Gone(f"{key} was deleted in version {version}", headers={"ETag": stored.etag})
        return stored

    async def history(self, key: Key, history: History) -> Versions:
        """Versions of one resource, newest first; hidden versions are left out."""
        await self._require_known(key)
        versions = await self._engine.store.versions(replace(history, type=key.type, id=key.id))
        if key.type == BINARY:
            versions = replace(versions, entries=[in_bundle(e) for e in versions.entries])
        if self.policy.sees("r", key.type) == TRUE:
            return versions
        seen = [entry for entry in versions.entries if entry.deleted or await self._sees(entry)]
        return Versions(seen, total=None, next=versions.next)

    async def search(self, search: Search) -> Page:
        """One page; Forbidden if the principal may search none of the types."""
        scans = tuple(s for s in search.scans if self.policy.allows("s", s.type))
        if not scans:
            self.allow("s", search.scans[0].type)
        page = await self._engine.store.run(restrict(replace(search, scans=scans), self.policy))
        if any(scan.type == BINARY for scan in scans):
            page = replace(page, matches=[in_bundle(match) for match in page.matches])
        if page.included:
            page = replace(page, included=[in_bundle(added) for added in page.included])
        return page

    async def position(self) -> int:
        """The newest position of the change feed, for ``Search.as_of``."""
        return await self._engine.store.position()

    async def everything(self, patient: str) -> AsyncIterator[Stored]:
        """The patient, then its whole compartment, as of one point."""
        types = self._engine.definitions.compartment("Patient")
        yield await self.read(Key("Patient", patient))
        scans = tuple(
            Scan(type_, InPatient((patient,)))
            for type_ in sorted(types)
            if type_ != "Patient" and self.policy.allows("s", type_)
        )
        as_of = await self._engine.store.position()
        search = Search(scans, count=500, total="none", as_of=as_of) if scans else None
        while search is not None:
            page = await self.search(search)
            for stored in page.matches:
                yield stored
            search = replace(search, after=page.next) if page.next else None

    async def find(self, scan: Scan) -> Guard:
        """Up to two ids that a condition matches, and the guard that holds the write to it."""
        restricted = restrict_scan(scan, self.policy, "s")
        page = await self._engine.store.run(Search((restricted,), count=2, total="none"))
        return Guard(restricted, tuple(match.key.id for match in page.matches))

    async def write(
        self, drafts: list[Draft], ledger: tuple[LedgerWrite, ...] = ()
    ) -> list[Written]:
        """All drafts in one change set, committed together or not at all.

        ``ledger``: rows that commit with them.
        """
        return await Writing(self._engine, self.principal, self.policy).run(drafts, ledger)

    async def upload(self, letter: str, content: AsyncIterator[bytes]) -> Blob:
        """Raw content for a Binary that is then written with it (``Draft.blob``)."""
        self.allow(letter, BINARY)
        return await needed(self._engine.blobs).put(content)

    async def content(self, stored: Stored) -> Content | None:
        """The content in a blob of a version that this session has read; None without one."""
        blob = await blob_of(self._engine.store.ledger, stored.key, stored.version)
        return Content(needed(self._engine.blobs), blob, stored.key) if blob else None

    def validate(self, resource: Json) -> None:
        """The structure of a resource that is used but not written. Raises Unprocessable."""
        self._engine.validate(resource)

    def new_id(self) -> str:
        return self._engine.new_id()

    async def _require_known(self, key: Key) -> None:
        """NotFound unless the resource, or its last living version, is visible."""
        self.allow("r", key.type)
        if await self._living(key) is None and await self._tombstone(key) is None:
            raise NotFound(f"{key} is not known")

    async def _living(self, key: Key) -> Stored | None:
        """The current version, if it is visible."""
        if apart(self.policy, "r", key.type):
            [stored] = await self._engine.store.current([key])
            visible_ = stored is not None and not stored.deleted and await self._sees(stored)
            return stored if visible_ else None
        if self.policy.sees("r", key.type) == TRUE:
            # The plan would be the key alone.
            [stored] = await self._engine.store.current([key])
            return stored if stored is not None and not stored.deleted else None
        scan = restrict_scan(Scan(key.type, IdIn((key.id,))), self.policy, "r")
        page = await self._engine.store.run(Search((scan,), count=1, total="none"))
        return page.matches[0] if page.matches else None

    async def _tombstone(self, key: Key) -> Stored | None:
        """The deletion that is current, if the version before it was visible."""
        latest = (await self._engine.store.current([key]))[0]
        if latest is None or not latest.deleted:
            return None
        if self.policy.sees("r", key.type) == TRUE:
            return latest
        living = await self._engine.store.version(key, latest.version - 1)
        return latest if living is not None and await self._sees(living) else None

    async def _sees(self, stored: Stored) -> bool:
        if apart(self.policy, "r", stored.key.type):
            return await permitted(self._engine, self.policy, "r", loads(stored.body))
        return visible(self._engine, self.policy.sees("r", stored.key.type), stored)


def visible(engine: Engine, predicate: Predicate, stored: Stored) -> bool:
    """Does a predicate without joins hold for this version?"""
    if predicate == TRUE:
        return True
    resource: Json = loads(stored.body)
    return engine.matches(predicate, stored.key.id, engine.extract(resource))


_ACTIONS = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}
