"""Documents into the record, by the same write path as REST.

Safe to run again: a resource with an id is a PUT and makes no new version if nothing
changed; what has no id of its own, and a Bundle, is remembered by the hash of its content
in the commit that stores it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from fhir_server.access.drafts import Draft
from fhir_server.access.gate import system_session
from fhir_server.access.ports import LedgerWrite
from fhir_server.access.session import Session
from fhir_server.app import Domain
from fhir_server.cli.mending import Mender, Notes
from fhir_server.cli.sources import Document
from fhir_server.formats.json import Limits, loads, stored_form
from fhir_server.interactions.entries import Entry, parse_entry, raw_entries
from fhir_server.interactions.execution import execute
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Problem, Unprocessable
from fhir_server.model.resource import ID_PATTERN, Key, Stored
from fhir_server.search.plan import IdIn, Scan, Search, SortKey

CHUNK: Final = 200
"""Resources in one commit."""

MOST_ENTRIES: Final = 1_000_000
LIMITS: Final = Limits(body=2**30, values=50_000_000, array=1_000_000)
"""Files of the operator may be larger than requests."""

KIND: Final = "loaded"
EXECUTED: Final = ("transaction", "batch", "collection", "searchset")


@dataclass(slots=True)
class Report:
    """Stored resources by type, those that were there already, what was mended or accepted
    with a note, files of a folder that hold no resource, and what failed and why."""

    stored: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    notes: Notes = field(default_factory=Notes)
    skipped: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, place: str, problem: Problem) -> None:
        shown = [
            f"{i.expression}: {i.diagnostics}" if i.expression else i.diagnostics
            for i in problem.issues[:3]
        ]
        more = len(problem.issues) - len(shown)
        self.failed.append((place, "; ".join(shown) + (f" (and {more} more)" if more else "")))


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A resource of the next commit. ``digest``: of a resource without an id."""

    draft: Draft
    place: str
    digest: str = ""


class Loader:
    """Takes documents one by one; ``finish`` writes what still waits."""

    def __init__(self, domain: Domain, *, strict: bool = False) -> None:
        self._mender = Mender(domain.definitions)
        self._strict = strict
        self.report = Report(notes=self._mender.notes)
        self._domain = domain
        engine = replace(domain.engine, validate=self._mender.admit)
        self._session: Session = system_session(engine, "load")
        self._criteria = domain.searching.criteria()
        self._waiting: dict[Key, _Waiting] = {}

    async def take(self, document: Document) -> None:
        """Load one document; a failure goes to the report and nowhere else."""
        try:
            if document.fault:
                raise BadRequest(document.fault)
            resource = loads(document.body, LIMITS)
            if document.met and "resourceType" not in resource:
                self.report.skipped.append(document.place)
            elif resource.get("resourceType") == "Bundle" and resource.get("type") in EXECUTED:
                await self.finish()
                await self._whole(document, resource)
            else:
                await self._resource(document, resource)
        except Problem as problem:
            self.report.fail(document.place, problem)

    async def finish(self) -> None:
        """Commit the resources that wait; if that fails, mended; if that fails, each alone."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        try:
            await self._commit(waiting)
        except Problem:
            await self._mended(waiting)

    async def _mended(self, waiting: list[_Waiting]) -> None:
        items = waiting if self._strict else [self._mend(item) for item in waiting]
        with self._leniently():
            try:
                await self._commit(items)
            except Problem:
                for item in items:
                    await self._alone(item)

    async def _alone(self, item: _Waiting) -> None:
        try:
            await self._commit([item])
        except Problem as problem:
            self.report.fail(item.place, problem)

    def _mend(self, item: _Waiting) -> _Waiting:
        resource = item.draft.resource
        if resource is None:
            return item
        return replace(item, draft=replace(item.draft, resource=self._mender.mend(resource)))

    @contextmanager
    def _leniently(self) -> Iterator[None]:
        self._mender.lenient = not self._strict
        try:
            yield
        finally:
            self._mender.lenient = False

    async def _whole(self, document: Document, bundle: Json) -> None:
        """A Bundle as it is; if it is refused, mended."""
        try:
            await self._bundle(document, bundle)
        except Unprocessable:
            if self._strict:
                raise
            entries = [self._mender.mend_entry(entry) for entry in bundle.get("entry", ())]
            with self._leniently():
                await self._bundle(document, {**bundle, "entry": entries})

    async def _resource(self, document: Document, resource: Json) -> None:
        type_ = resource.get("resourceType")
        if type_ not in self._domain.definitions.resource_types:
            raise BadRequest("not a FHIR resource: the resourceType is not known")
        id_ = resource.get("id")
        if isinstance(id_, str) and ID_PATTERN.fullmatch(id_):
            item = _Waiting(Draft("PUT", Key(type_, id_), resource), document.place)
        elif id_ is None:
            digest = hashlib.sha256(document.body.strip()).hexdigest()
            key = Key(type_, self._session.new_id())
            item = _Waiting(Draft("POST", key, resource), document.place, digest)
        else:
            raise BadRequest("the id of the resource is not valid")
        if item.draft.key in self._waiting:
            await self.finish()
        self._waiting[item.draft.key] = item
        if len(self._waiting) >= CHUNK:
            await self.finish()

    async def _commit(self, waiting: list[_Waiting]) -> None:
        current = await self._current([w.draft.key for w in waiting if not w.digest])
        fresh = [w for w in waiting if not await self._known(w, current)]
        if fresh:
            rows = tuple(LedgerWrite(KIND, w.digest, {}) for w in fresh if w.digest)
            await self._session.write([w.draft for w in fresh], rows)
        self.report.unchanged += len(waiting) - len(fresh)
        self.report.stored.update(w.draft.key.type for w in fresh)

    async def _known(self, item: _Waiting, current: dict[Key, Stored]) -> bool:
        if item.digest:
            return await self._remembered(item.digest)
        stored = current.get(item.draft.key)
        if stored is None or item.draft.resource is None:
            return False
        same = stored_form(
            item.draft.resource, stored.key.id, str(stored.version), format_instant(stored.updated)
        )
        return same == stored.body

    async def _current(self, keys: list[Key]) -> dict[Key, Stored]:
        by_type: dict[str, list[str]] = {}
        for key in keys:
            by_type.setdefault(key.type, []).append(key.id)
        found: dict[Key, Stored] = {}
        for type_, ids in by_type.items():
            scan = Scan(type_, IdIn(tuple(ids)))
            plan = Search((scan,), sort=(SortKey("_id", "id"),), count=len(ids), total="none")
            page = await self._session.search(plan)
            found.update((stored.key, stored) for stored in page.matches)
        return found

    async def _remembered(self, digest: str) -> bool:
        return await self._domain.store.ledger.get(KIND, digest) is not None

    async def _bundle(self, document: Document, resource: Json) -> None:
        digest = hashlib.sha256(document.body.strip()).hexdigest()
        raws = raw_entries(resource, MOST_ENTRIES)
        if await self._remembered(digest):
            self.report.unchanged += len(raws)
            return
        executed = resource["type"] in ("transaction", "batch")
        entries = [
            parse_entry(index, raw if executed else _as_write(raw))
            for index, raw in enumerate(raws)
            if executed or not _is_outcome(raw)
        ]
        if resource["type"] != "batch":
            await self._execute(entries, (LedgerWrite(KIND, digest, {}),))
            return
        failed = len(self.report.failed)
        for entry in entries:
            try:
                await self._execute([entry], ())
            except Problem as problem:
                self.report.fail(document.place, problem)
        if len(self.report.failed) == failed:
            await self._domain.store.ledger.insert_unique(KIND, digest, {})

    async def _execute(self, entries: list[Entry], ledger: tuple[LedgerWrite, ...]) -> None:
        for entry in entries:
            if entry.method not in ("POST", "PUT", "DELETE"):
                raise BadRequest(f"{entry.method} cannot be loaded", expression=entry.place)
        results = await execute(
            entries, self._session, self._criteria, self._domain.definitions, ledger
        )
        for result in results.values():
            stored = result.stored
            if stored is not None and result.written and not stored.deleted:
                self.report.stored[stored.key.type] += 1
            else:
                self.report.unchanged += 1


def _is_outcome(raw: object) -> bool:
    """The warning entry of a searchset."""
    search = raw.get("search") if isinstance(raw, dict) else None
    return isinstance(search, dict) and search.get("mode") == "outcome"


def _as_write(raw: object) -> object:
    """An entry of a collection as the request that stores its resource."""
    resource = raw.get("resource") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(resource, dict):
        return raw
    type_, id_ = resource.get("resourceType"), resource.get("id")
    request = {"method": "PUT", "url": f"{type_}/{id_}"}
    if id_ is None:
        request = {"method": "POST", "url": str(type_)}
    full_url = {"fullUrl": raw["fullUrl"]} if "fullUrl" in raw else {}
    return {**full_url, "resource": resource, "request": request}
