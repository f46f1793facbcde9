"""Session: the only way to data. Made by the gate, bound to one principal and its policy.

Reading is a plan, restricted; writing is a list of drafts that becomes one change set.
Hidden and absent look the same from here on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Literal

from fhir_server.access.audit.crossing import Crossing, crosses
from fhir_server.access.audit.decisions import DecisionRecord, decided
from fhir_server.access.audit.entry import Entry, Recording
from fhir_server.access.audit.joined import Joining, concerns, traced
from fhir_server.access.audit.narrowing import Narrow
from fhir_server.access.audit.noting import Cut, context_noted, noted, noting
from fhir_server.access.audit.writes import WriteRecord
from fhir_server.access.ceremony import attesting, ceremony
from fhir_server.access.conformance.epoch import changed
from fhir_server.access.conformance.targets import Targets
from fhir_server.access.consent.codes import BREAK_GLASS
from fhir_server.access.consent.epoch import marks
from fhir_server.access.consent.policy import ConsentPolicy
from fhir_server.access.contents import (
    Content,
    blob_of,
    in_bundle,
    needed,
)
from fhir_server.access.denied import unseen
from fhir_server.access.drafts import Draft, Written
from fhir_server.access.engine import Engine, is_large
from fhir_server.access.erasing import Erasing
from fhir_server.access.exporting import Exporting
from fhir_server.access.masking import Masking
from fhir_server.access.parameters import NOTICED
from fhir_server.access.parameters import TYPE as DEFINING
from fhir_server.access.policy import BINARY, Policy
from fhir_server.access.principal import Principal
from fhir_server.access.restrict import restrict, restrict_scan
from fhir_server.access.roles import AUDIT
from fhir_server.access.shown import as_shown
from fhir_server.access.versions import VersionFilter, living, sees, trace_of
from fhir_server.access.writing import Writing
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Forbidden, Gone, NotFound
from fhir_server.model.resource import Key, Stored
from fhir_server.search.explain import Trace
from fhir_server.search.plan import FALSE, TRUE, History, InPatient, Scan, Search
from fhir_server.store.base import Guard, Page, Versions
from fhir_server.store.blobs import Blob
from fhir_server.store.ledger import LedgerWrite


class Session:
    """One principal's view of one face. ``recording``: of the request that it serves. ``renew``:
    the gate's, for what goes on after the answer has begun."""

    def __init__(
        self,
        engine: Engine,
        principal: Principal,
        policy: Policy,
        recording: Recording | None = None,
        renew: Renew | None = None,
    ) -> None:
        self.principal = principal
        self.policy = policy
        self._engine = engine
        self._recording = recording
        self._renew = renew

    def recorded(self, recording: Recording) -> Session:
        """The same, for one request whose writes are recorded with it."""
        return Session(self._engine, self.principal, self.policy, recording, self._renew)

    async def renewed(self) -> Session:
        """As the gate would make it now; Unauthorized if it would not. Nothing is recorded by it:
        the request has been."""
        return self if self._renew is None else await self._renew()

    def recording(self, other: Session) -> Session:
        """``other``, whose writes are recorded with the request that this one serves."""
        return other if self._recording is None else other.recorded(self._recording)

    def note(self, rows: Iterable[Stored]) -> None:
        """Records with the request whom these are about: its answer does not say so itself."""
        noted(self._recording, rows)

    def noting(self, cut: Cut | None) -> Cut | None:
        """The cut, of whose pieces that is recorded."""
        return noting(self._recording, cut)

    def told(self, rule: str, patient: str, reason: str) -> None:
        """Records with the request why data of this patient was given out beyond policy."""
        record = DecisionRecord(self.principal, patient, (), rule, "permit", reason)
        decided(self._recording, record)

    def ceremony(self, patient: str) -> Session:
        """The same, by which decisions of this patient are recorded: a Consent with its
        Provenance. Forbidden or NotFound for whom it is not."""
        policy = ceremony(self.principal, self.policy, patient)
        return Session(self._engine, self.principal, policy, self._recording)

    def attesting(self) -> Session:
        """The same, by which the server records the Provenance of what it writes; a Provenance
        of the client's own is never written with it."""
        return Session(self._engine, self.principal, attesting(self.policy), self._recording)

    @property
    def at_once(self) -> bool:
        """Is nothing of it left to a job, because what permits it ends soon?"""
        return self.principal.purpose == BREAK_GLASS

    @property
    def stamp(self) -> str:
        """What consents decide by for this principal (``ConsentPolicy.stamp``); "" without them."""
        return self.policy.stamp if isinstance(self.policy, ConsentPolicy) else ""

    def allow(self, letter: str, type_: str) -> None:
        """Refuse from metadata alone (scope and type), never from data."""
        if not self.policy.allows(letter, type_):
            raise Forbidden(f"not permitted: {_ACTIONS[letter]} {type_}")

    def reads_what_it_deletes(self, type_: str) -> bool:
        """Is everything of the type that may be deleted also seen? Judged from metadata alone."""
        policy = self.policy
        seen = policy.sees("r", type_)
        return policy.allows("r", type_) and seen != FALSE and seen == policy.sees("d", type_)

    async def read(self, key: Key, letter: Literal["r", "u"] = "r") -> Stored:
        """The current version. NotFound if absent or hidden, Gone if it was visibly deleted.

        ``letter``: u for what is to be patched, whether or not it may be read.
        """
        self.allow(letter, key.type)
        current = await living(self._engine, self.policy, letter, key)
        if current is not None:
            return await self._shown(current)
        latest, hidden = await trace_of(self._engine, self.policy, letter, key)
        if latest is not None:
            raise Gone(f"{key} was deleted", headers={"ETag": latest.etag})
        if (event := await self._traced(key)) is not None:
            return event
        self._unseen(hidden)
        raise NotFound(f"{key} is not known")

    async def vread(self, key: Key, version: int) -> Stored:
        """One version, if it and the newest living version are visible."""
        if version == 1 and (event := await self._traced(key)) is not None:
            return event
        await self._require_known(key)
        stored = await self._engine.store.version(key, version)
        if stored is None or not (stored.deleted or await self._sees(stored)):
            self._unseen(stored)
            raise NotFound(f"{key} has no version {version}")
        if stored.deleted:
            raise Gone(f"{key} was deleted in version {version}", headers={"ETag": stored.etag})
        return await self._shown(stored)

    async def _shown(self, stored: Stored) -> Stored:
        """As this principal may see it."""
        if self.policy.whole:
            return stored
        return (await Masking(self._engine, self.policy).masked((stored,)))[0]

    async def history(self, history: History) -> Versions:
        """Versions of one resource, of a type or of everything, newest first.

        Hidden versions are left out as if they had never been, and so are the totals of
        those from whom something may be hidden.
        """
        key = Key(history.type, history.id) if history.type and history.id else None
        if key is not None:
            if (event := await self._traced(key)) is not None:
                return Versions([event], 1)
            await self._require_known(key)
        letter = "r" if key is not None else "s"
        types = [history.type] if history.type else sorted(self._engine.definitions.resource_types)
        allowed = {type_ for type_ in types if self.policy.allows(letter, type_)}
        if not allowed:
            self.allow(letter, types[0])
        store = self._engine.store
        if len(allowed) == len(types) and all(self.policy.sees(letter, t) == TRUE for t in types):
            versions = await store.versions(history)
        else:
            shown = VersionFilter(self._engine, self.policy, letter, allowed)
            versions = await shown.page(replace(history, count=history.count or 1), key)
            masked = await Masking(self._engine, self.policy).masked(versions.entries)
            versions = replace(versions, entries=masked)
        if history.type in (None, BINARY):
            versions = replace(versions, entries=[in_bundle(e) for e in versions.entries])
        return versions

    async def search(self, search: Search, trace: Trace | None = None) -> Page:
        """One page; Forbidden if the principal may search none of the types.

        ``trace``: only for who sees the domain whole; it tells of everybody's data.
        """
        if trace is not None and not self.policy.whole:
            raise Forbidden("not permitted: _explain")
        scans = tuple(s for s in search.scans if self.policy.allows("s", s.type))
        if not scans:
            self.allow("s", search.scans[0].type)
        if search.total == "estimate" and not self.policy.whole:
            # What is hidden would show in it: it lengthens the lists that are sampled.
            search = replace(search, total="limited")
        shown = [await as_shown(self._engine, self.policy, scan) for scan in scans]
        search = replace(search, scans=tuple(shown))
        restricted = restrict(search, self.policy)
        if trace is not None:
            trace.search = restricted
        page = await self._page(search, restricted, trace)
        if not self.policy.whole:
            masked = await Masking(self._engine, self.policy).masked(
                [*page.matches, *page.included]
            )
            found = len(page.matches)
            page = replace(page, matches=masked[:found], included=masked[found:])
        if any(scan.type == BINARY for scan in scans):
            page = replace(page, matches=[in_bundle(match) for match in page.matches])
        if page.included:
            page = replace(page, included=[in_bundle(added) for added in page.included])
        return page

    async def _page(self, asked: Search, restricted: Search, trace: Trace | None) -> Page:
        trail = self._engine.trail
        if trail is None or not (crosses(asked) or concerns(restricted)):
            return await self._engine.store.run(restricted, trace)
        async with trail.turns.turn():
            crossing = None
            if crosses(asked):
                crossing = Crossing(self._engine, trail, self.policy, restricted.as_of)
                restricted = await crossing.resolved(restricted)
            if concerns(restricted):
                page = await Joining(self._engine, trail, self.policy).run(restricted, trace)
            else:
                page = await self._engine.store.run(restricted, trace)
            return page if crossing is None else await crossing.added(restricted, page)

    async def _traced(self, key: Key) -> Stored | None:
        """An event of the audit trail, which is no resource of the store."""
        return await traced(self._engine, self.policy, "r", key)

    async def trail(self, low: int, high: int) -> AsyncIterator[Entry]:
        """What was recorded in ``[low, high)`` (microseconds), the latest first: for who audits."""
        self.allow("s", AUDIT)
        if not self.policy.audits:
            raise Forbidden("not permitted: the whole audit trail")
        if self._engine.trail is not None:
            async for entry in self._engine.trail.entries(Narrow(low, high)):
                yield entry

    async def position(self) -> int:
        """The newest position of the change feed, for ``Search.as_of``."""
        return await self._engine.store.position()

    async def populated(self) -> frozenset[str]:
        """The types that the store holds at all: to save looking, never to be shown."""
        return frozenset(await self._engine.store.counts())

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

    async def find(self, scan: Scan, most: int = 2) -> Guard:
        """Up to ``most`` ids that a condition matches, and the guard that holds the write to
        it.
        """
        self.allow("s", scan.type)
        scan = await as_shown(self._engine, self.policy, scan)
        restricted = restrict_scan(scan, self.policy, "s")
        trail = self._engine.trail
        if trail is not None and crosses(Search((scan,))):
            restricted = await Crossing(self._engine, trail, self.policy, None).scan(restricted)
        page = await self._engine.store.run(Search((restricted,), count=most, total="none"))
        return Guard(restricted, tuple(match.key.id for match in page.matches))

    async def write(
        self, drafts: list[Draft], ledger: tuple[LedgerWrite, ...] = ()
    ) -> list[Written]:
        """All drafts in one change set, committed together or not at all.

        ``ledger``: rows that commit with them. Posted SearchParameters are everybody's: only
        who sees the domain whole writes them.
        """
        parameters = self._engine.parameters
        if parameters is not None:
            await parameters.refresh()
            types = {draft.key.type for draft in drafts}
            if DEFINING in types and not self.policy.whole:
                raise Forbidden(f"not permitted: write {DEFINING}")
            if not NOTICED.isdisjoint(types):
                ledger = (*ledger, parameters.mark)
        written = {draft.key.type for draft in drafts}
        ledger = (*ledger, *marks(written), *changed(written))
        record = WriteRecord(self._recording, self.principal) if self._recording else None
        targets = Targets(self._engine, self, drafts)
        writing = Writing(self._engine, self.principal, self.policy, record, targets)
        told = await self._told(await writing.run(drafts, ledger))
        return [self._of_patch(draft, one) for draft, one in zip(drafts, told, strict=True)]

    def _of_patch(self, draft: Draft, written: Written) -> Written:
        """Without the resource, if its author may change it and not read it."""
        stored = written.stored
        if stored is None or draft.method != "PATCH" or self.policy.allows("r", draft.key.type):
            return written
        return replace(written, stored=stored._replace(body=b""))

    async def _told(self, written: list[Written]) -> list[Written]:
        """What was written, as its author may see it."""
        rows = [one.stored for one in written if one.stored is not None]
        if self.policy.whole or not rows:
            return written
        masked = iter(await Masking(self._engine, self.policy).masked(rows))
        return [one if one.stored is None else replace(one, stored=next(masked)) for one in written]

    def erasing(self, types: Iterable[str]) -> Erasing:
        """Erases resources of these types for good. Forbidden without the right to it, or
        where anything of a type is out of reach: judged from metadata alone.
        """
        if not self.policy.erases:
            raise Forbidden("not permitted: erase")
        for type_ in types:
            for letter in "rd":
                self.allow(letter, type_)
                if self.policy.sees(letter, type_) != TRUE:
                    raise Forbidden(f"not permitted: erase {type_}")
        return Erasing(self._engine, self.principal.id)

    def exporting(self) -> Exporting:
        """What an export needs beside searches."""
        policy = self.policy
        plain = policy.inner if isinstance(policy, ConsentPolicy) else policy
        return Exporting(self._engine, policy, plain)

    async def upload(self, letter: str, content: AsyncIterator[bytes]) -> Blob:
        """Raw content for a Binary that is then written with it (``Draft.blob``)."""
        self.allow(letter, BINARY)
        return await needed(self._engine.blobs).put(content)

    async def content(self, stored: Stored) -> Content | None:
        """The content in a blob of a version that this session has read; None without one."""
        blob = await blob_of(self._engine.store.ledger, stored.key, stored.version)
        await context_noted(self._engine, self._recording, stored)
        return Content(needed(self._engine.blobs), blob, stored.key) if blob else None

    def validate(self, resource: Json) -> None:
        """The structure of a resource that is used but not written. Raises Unprocessable."""
        self._engine.validate(resource)

    async def judge(self, resource: Json) -> None:
        """The same for a resource of any size: others get their turns meanwhile."""
        if is_large(resource):
            await asyncio.to_thread(self._engine.validate, resource)
        else:
            self._engine.validate(resource)

    def new_id(self) -> str:
        return self._engine.new_id()

    async def _require_known(self, key: Key) -> None:
        """NotFound unless the resource, or its last living version, is visible."""
        self.allow("r", key.type)
        about = self._engine, self.policy, "r", key
        if await living(*about) is None:
            latest, hidden = await trace_of(*about)
            if latest is None:
                self._unseen(hidden)
                raise NotFound(f"{key} is not known")

    def _unseen(self, stored: Stored | None) -> None:
        unseen(self._recording, self._engine, self.policy, "r", stored)

    async def _sees(self, stored: Stored) -> bool:
        return await sees(self._engine, self.policy, "r", stored)


Renew = Callable[[], Awaitable[Session]]

_ACTIONS = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}
