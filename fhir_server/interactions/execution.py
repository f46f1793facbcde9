"""The writes of one Bundle: https://hl7.org/fhir/R4/http.html#trules

They become one list of drafts and one commit. Conditions are decided by searches that the
commit repeats; if an answer moved, everything is resolved once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.drafts import Draft, Written
from fhir_server.access.ports import Guard, LedgerWrite
from fhir_server.access.session import Session
from fhir_server.definitions.registry import Definitions
from fhir_server.interactions.conditional import few, one_or_none, settle
from fhir_server.interactions.delete import deletion
from fhir_server.interactions.entries import METHODS, Entry, entry_problems
from fhir_server.interactions.links import Condition, Links, Piece, Site, Target, Version, fill
from fhir_server.interactions.patch import drafted
from fhir_server.interactions.ports import Criteria
from fhir_server.interactions.preconditions import checked, given_id, versions
from fhir_server.interactions.target import pairs
from fhir_server.model.problem import (
    BadRequest,
    Issue,
    NotFound,
    NotSupported,
    PreconditionFailed,
)
from fhir_server.model.resource import ID_PATTERN, Key, Stored
from fhir_server.search.plan import Scan

PAUSE: Final = 50
"""After so many entries other requests get a turn."""


@dataclass(slots=True)
class Result:
    """What became of a write: 200, 201 or 204, and the version that is now current (of a
    deletion only where it may be told).

    ``written`` False: it existed already, and was left as it is.
    """

    status: int
    stored: Stored | None
    written: bool = True
    issues: tuple[Issue, ...] = ()


async def execute(
    writes: list[Entry],
    session: Session,
    criteria: Criteria,
    definitions: Definitions,
    ledger: tuple[LedgerWrite, ...] = (),
    deletes: int = 1,
) -> dict[int, Result]:
    """Commit the writes of one Bundle, and ledger rows with them; the results by index.

    ``deletes``: resources that one conditional delete may remove.
    """
    execution = await Execution.prepare(writes, session, criteria, definitions, deletes)
    return await settle(lambda: execution.attempt(ledger))


class Execution:
    """The writes of one Bundle: what can be done once, and attempts to commit."""

    def __init__(
        self,
        writes: list[Entry],
        session: Session,
        criteria: Criteria,
        definitions: Definitions,
        deletes: int,
    ) -> None:
        self._writes = writes
        self._session = session
        self._criteria = criteria
        self._definitions = definitions
        self._most = deletes
        self._links = Links(_by_full_url(writes), definitions)
        self._deleted: dict[int, list[Key]] = {}
        self._sites: list[tuple[Entry, Site]] = []
        self._new_ids: dict[int, str] = {}
        self._found: dict[Condition, Guard] = {}

    @classmethod
    async def prepare(
        cls,
        writes: list[Entry],
        session: Session,
        criteria: Criteria,
        definitions: Definitions,
        deletes: int,
    ) -> Execution:
        """Check every entry and find the places where links stand."""
        self = cls(writes, session, criteria, definitions, deletes)
        for turn, entry in enumerate(writes):
            with entry_problems(entry):
                _check(entry, definitions)
                if entry.resource is not None and entry.method != "PATCH":
                    sites = self._links.sites(entry.resource, entry.full_url)
                    self._sites += [(entry, site) for site in sites]
            if len(entry.path) == 1:
                self._new_ids[entry.index] = session.new_id()
            if turn % PAUSE == PAUSE - 1:
                await asyncio.sleep(0)
        return self

    async def attempt(self, ledger: tuple[LedgerWrite, ...] = ()) -> dict[int, Result]:
        """Resolve, write, commit; raises Stale if a condition moved meanwhile."""
        self._found.clear()
        keys, existing = await self._identify()
        patched = await self._patched(keys)
        await self._resolve(keys, existing, patched)
        drafts = self._drafts(keys, existing, patched)
        guards = tuple(self._found.values())
        listed = [draft for _, draft in drafts]
        if listed and guards:
            listed[0] = replace(listed[0], guards=guards)
        written = await self._session.write(listed, ledger) if listed else []
        results = {entry.index: Result(204, None) for entry in self._writes}
        done: dict[int, list[Written]] = {}
        for (index, _), one in zip(drafts, written, strict=True):
            done.setdefault(index, []).append(one)
        results |= {index: self._result(of_entry) for index, of_entry in done.items()}
        for index in existing:
            results[index] = Result(200, await self._session.read(keys[index]), False)
        return results

    def _result(self, written: list[Written]) -> Result:
        """``written``: by one entry; several only of a conditional delete."""
        stored = written[0].stored
        if stored is None or stored.deleted:
            return Result(204, deletion(self._session, written))
        status = 201 if written[0].created else 200
        return Result(status, stored, issues=written[0].issues)

    async def _identify(self) -> tuple[dict[int, Key], set[int]]:
        """The identity of every entry; those whose ifNoneExist found one exist already."""
        keys: dict[int, Key] = {}
        existing: set[int] = set()
        seen: dict[object, Entry] = {}
        self._deleted.clear()
        for entry in self._writes:
            with entry_problems(entry):
                asked = _condition(entry)
                found = [Key(entry.path[0], id_) for id_ in await self._matches(entry, asked)]
                if entry.method == "POST" and found:
                    existing.add(entry.index)
                if entry.method == "DELETE" and asked is not None:
                    self._deleted[entry.index] = found
                else:
                    found = [keys.setdefault(entry.index, self._key(entry, found))]
                for claim in (*found, *([asked] if asked else ())):
                    other = seen.setdefault(claim, entry)
                    if other is not entry:
                        raise BadRequest(f"the same resource as {other.place}", code="duplicate")
        return keys, existing

    async def _matches(self, entry: Entry, asked: Condition | None) -> tuple[str, ...]:
        """The ids that the condition of an entry finds."""
        if asked is None:
            return ()
        most = self._most if entry.method == "DELETE" else 1
        return few(await self._find(asked), asked.query, most)

    def _key(self, entry: Entry, found: list[Key]) -> Key:
        if found and entry.method != "PUT":
            return found[0]
        if entry.method == "PATCH" and entry.conditional:
            raise NotFound("the condition matches no resource")
        if len(entry.path) > 1:
            return Key(*entry.path)
        new = self._new_ids[entry.index]
        if entry.method == "POST":
            return Key(entry.path[0], new)
        assert entry.resource is not None
        given = given_id(entry.resource)
        if found and given not in (None, found[0].id):
            raise BadRequest("the id of the resource is not that of the one that matches")
        return found[0] if found else Key(entry.path[0], given or new)

    async def _find(self, condition: Condition) -> Guard:
        guard = self._found.get(condition)
        if guard is None:
            scan = await self._criteria(condition.type, pairs(condition.query))
            guard = self._found[condition] = await self._session.find(scan, self._most + 1)
        return guard

    def _alone(self, entry: Entry) -> Scan | None:
        """The condition of an entry that creates, since it found nothing."""
        asked = _condition(entry) if entry.method in ("POST", "PUT") else None
        guard = self._found[asked] if asked is not None else None
        return guard.scan if guard is not None and not guard.ids else None

    async def _resolve(
        self, keys: dict[int, Key], existing: set[int], patched: dict[int, Draft]
    ) -> None:
        """Fill every site. A conditional reference must find exactly one resource."""
        targets: dict[Condition, str] = {}
        created = {e.index for e in self._writes if e.method == "POST"} - existing
        texts = {index: str(key) for index, key in keys.items()}

        def render(piece: Piece) -> str:
            match piece:
                case Target(index):
                    return texts[index]
                case Version(index, text):
                    return "1" if index in created else text
                case Condition():
                    return targets[piece]
                case str():
                    return piece

        sites = list(self._sites)
        for entry in self._writes:
            if entry.index in patched:
                resource = patched[entry.index].resource or {}
                with entry_problems(entry):
                    found = self._links.sites(resource, entry.full_url)
                sites += [(entry, site) for site in found]
        for turn, (entry, site) in enumerate(sites, 1):
            if turn % (PAUSE * 10) == 0:
                await asyncio.sleep(0)
            if entry.index in existing:
                continue
            first = site.pieces[0]
            if type(first) is Target and len(site.pieces) == 1:  # most of them
                site.holder[site.key] = texts[first.entry]
                continue
            for piece in site.pieces:
                if isinstance(piece, Condition) and piece not in targets:
                    with entry_problems(entry):
                        targets[piece] = await self._one(piece)
            fill(site, render)

    async def _one(self, condition: Condition) -> str:
        text = f"{condition.type}?{condition.query}"
        found = one_or_none(await self._find(condition), text)
        if found is None:
            raise PreconditionFailed(f"the reference matches no resource: {text[:200]}")
        return f"{condition.type}/{found}"

    async def _patched(self, keys: dict[int, Key]) -> dict[int, Draft]:
        """The results of the patches; what they link to is then filled in as elsewhere."""
        drafts: dict[int, Draft] = {}
        for entry in self._writes:
            if entry.method == "PATCH":
                assert entry.resource is not None
                with entry_problems(entry):
                    header = entry.headers.get("if-match")
                    tags = versions(header) if header is not None else None
                    key, patch = keys[entry.index], entry.resource
                    draft = await drafted(self._session, key, patch, self._definitions, tags)
                    drafts[entry.index] = replace(draft, place=entry.place)
        return drafts

    def _drafts(
        self, keys: dict[int, Key], existing: set[int], patched: dict[int, Draft]
    ) -> list[tuple[int, Draft]]:
        """What is written, by entry, in the order of the rules."""
        drafts: list[tuple[int, Draft]] = []
        for entry in self._writes:
            if entry.index in existing:
                continue
            if entry.index in patched:
                drafts.append((entry.index, patched[entry.index]))
                continue
            version = _expected(entry)
            meant = self._deleted.get(entry.index)
            meant = [keys[entry.index]] if meant is None else meant
            alone = self._alone(entry)
            drafts += [(entry.index, _draft(entry, key, version, alone)) for key in meant]
        return sorted(drafts, key=lambda item: METHODS.index(item[1].method))


def _by_full_url(writes: Iterable[Entry]) -> dict[str, int]:
    """fullUrl -> index; the same fullUrl on two entries is refused (bdl-7)."""
    by_url: dict[str, int] = {}
    for entry in writes:
        if entry.full_url is not None and entry.method != "DELETE":
            if entry.full_url in by_url:
                raise BadRequest(
                    f"the same fullUrl as Bundle.entry[{by_url[entry.full_url]}]",
                    code="duplicate",
                    expression=entry.place,
                )
            by_url[entry.full_url] = entry.index
    return by_url


def _check(entry: Entry, definitions: Definitions) -> None:
    """The shape of a write: its URL, its resource, its conditions."""
    parts = 1 if entry.method == "POST" or entry.conditional else 2
    if entry.query and not entry.conditional:
        raise BadRequest("parameters do not go with this request")
    if entry.operates:
        raise NotSupported("operations that change something are not supported in a transaction")
    if len(entry.path) != parts:
        raise BadRequest(f"not a URL for {entry.method}: {entry.url[:100]}", code="value")
    if entry.path[0] not in definitions.resource_types:
        raise BadRequest(f"unknown resource type: {entry.path[0][:64]}", code="not-supported")
    if parts == 2 and ID_PATTERN.fullmatch(entry.path[1]) is None:
        raise BadRequest(f"not an id: {entry.path[1][:80]}", code="value")
    if "if-none-match" in entry.headers or "if-modified-since" in entry.headers:
        raise NotSupported(f"ifNoneMatch and ifModifiedSince do not go with {entry.method}")
    if "if-none-exist" in entry.headers and entry.method != "POST":
        raise BadRequest(f"ifNoneExist does not go with {entry.method}")
    if "if-match" in entry.headers and entry.method == "POST":
        raise BadRequest("ifMatch does not go with POST")
    if entry.method != "DELETE" and entry.resource is None:
        raise BadRequest("a resource is needed", code="required")
    if entry.method in ("POST", "PUT"):
        assert entry.resource is not None
        checked(entry.resource, *entry.path)


def _condition(entry: Entry) -> Condition | None:
    """The search that says which resource an entry means."""
    if entry.conditional:
        return Condition(entry.path[0], entry.url.partition("?")[2])
    header = entry.headers.get("if-none-exist") if entry.method == "POST" else None
    return None if header is None else Condition(entry.path[0], header.removeprefix("?"))


def _draft(entry: Entry, key: Key, version: str | None, alone: Scan | None) -> Draft:
    if entry.method == "DELETE":
        return Draft("DELETE", key, None, version, place=entry.place)
    resource = entry.resource
    if entry.conditional and resource is not None:
        resource = {**resource, "id": key.id}
    return Draft(entry.method, key, resource, version, place=entry.place, alone=alone)


def _expected(entry: Entry) -> str | None:
    header = entry.headers.get("if-match")
    if header is None:
        return None
    with entry_problems(entry):
        candidates = versions(header)
        if len(candidates) != 1:
            raise BadRequest("ifMatch names one version")
        return candidates[0]
