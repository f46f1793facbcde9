"""transaction: https://hl7.org/fhir/R4/http.html#trules

All writes of the Bundle become one list of drafts and one commit. Conditions are decided
by searches that the commit repeats; if an answer moved, everything is resolved once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from fhir_server.access.ports import Guard, LedgerWrite
from fhir_server.access.session import Session
from fhir_server.access.writing import Draft, Written
from fhir_server.definitions.registry import Definitions
from fhir_server.interactions.answer import preference, stored_outcome
from fhir_server.interactions.conditional import one_or_none, settle
from fhir_server.interactions.entries import (
    METHODS,
    Entry,
    answered,
    failed,
    parse_entry,
    raw_entries,
    status_line,
)
from fhir_server.interactions.links import (
    Condition,
    Links,
    Piece,
    Site,
    Target,
    Version,
    fill,
)
from fhir_server.interactions.ports import Criteria, Handler, Perform
from fhir_server.interactions.preconditions import checked, versions
from fhir_server.interactions.splice import bundle
from fhir_server.interactions.splice import entry as entry_bytes
from fhir_server.interactions.target import pairs
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import (
    BadRequest,
    NotSupported,
    PreconditionFailed,
    Problem,
)
from fhir_server.model.resource import ID_PATTERN, Key, Stored

WRITES: Final = frozenset({"DELETE", "POST", "PUT"})
PAUSE: Final = 50
"""After so many entries other requests get a turn."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a write: 200, 201 or 204, and the version that is now current.

    ``written`` False: it existed already, and was left as it is.
    """

    status: int
    stored: Stored | None
    written: bool = True


def transaction(
    perform: Perform, criteria: Criteria, definitions: Definitions, most: int
) -> Handler:
    """The handler of transaction; ``most``: entries."""

    async def transaction_(request: Request, session: Session) -> Response:
        assert request.body is not None
        entries = await parsed(raw_entries(request.body, most))
        writes = [entry for entry in entries if entry.method in WRITES]
        reads = [entry for entry in entries if entry.method not in WRITES]
        await probe(reads, writes, request, session)
        results = await execute(writes, session, criteria, definitions)
        answers = {index: _shown(result, request) for index, result in results.items()}
        for entry in reads:
            answers[entry.index] = await late(entry, request, session)
        shown = [answers[entry.index] for entry in entries]
        return Response(200, bundle("transaction-response", shown))

    async def probe(
        reads: list[Entry], writes: list[Entry], request: Request, session: Session
    ) -> None:
        """A read that cannot succeed fails the whole before anything is written."""
        touched = {entry.path for entry in writes if entry.method != "POST"}
        for entry in reads:
            if entry.path[:2] not in touched:
                with entry_problems(entry):
                    await perform(entry.call(None), request, session)

    async def late(entry: Entry, request: Request, session: Session) -> bytes:
        """A read after the writes; by then only its own entry can tell of a failure."""
        try:
            return answered(await perform(entry.call(None), request, session), request)
        except Problem as problem:
            return failed(problem)

    return transaction_


async def parsed(raws: list[Any]) -> list[Entry]:
    """The entries, with a turn for other requests now and then."""
    entries = []
    for index, raw in enumerate(raws):
        entries.append(parse_entry(index, raw))
        if index % PAUSE == 0:
            await asyncio.sleep(0)
    return entries


async def execute(
    writes: list[Entry],
    session: Session,
    criteria: Criteria,
    definitions: Definitions,
    ledger: tuple[LedgerWrite, ...] = (),
) -> dict[int, Result]:
    """Commit the writes of one Bundle, and ledger rows with them; the results by index."""
    execution = await Execution.prepare(writes, session, criteria, definitions)
    return await settle(lambda: execution.attempt(ledger))


class entry_problems:
    """Problems raised inside name the entry."""

    def __init__(self, entry: Entry) -> None:
        self._place = entry.place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Problem):
            raise error.under(self._place) from None


class Execution:
    """The writes of one Bundle: what can be done once, and attempts to commit."""

    def __init__(
        self, writes: list[Entry], session: Session, criteria: Criteria, links: Links
    ) -> None:
        self._writes = writes
        self._session = session
        self._criteria = criteria
        self._links = links
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
    ) -> Execution:
        """Check every entry and find the places where links stand."""
        self = cls(writes, session, criteria, Links(_by_full_url(writes), definitions))
        for turn, entry in enumerate(writes):
            with entry_problems(entry):
                _check(entry, definitions)
                if entry.resource is not None:
                    sites = self._links.sites(entry.resource, entry.full_url)
                    self._sites += [(entry, site) for site in sites]
            if entry.method == "POST":
                self._new_ids[entry.index] = session.new_id()
            if turn % PAUSE == PAUSE - 1:
                await asyncio.sleep(0)
        return self

    async def attempt(self, ledger: tuple[LedgerWrite, ...] = ()) -> dict[int, Result]:
        """Resolve, write, commit; raises Stale if a condition moved meanwhile."""
        self._found.clear()
        keys, existing = await self._identify()
        await self._resolve(keys, existing)
        drafts = self._drafts(keys, existing)
        order = sorted(drafts, key=lambda index: METHODS.index(drafts[index].method))
        guards = tuple(self._found.values())
        listed = [drafts[index] for index in order]
        if listed and guards:
            listed[0] = replace(listed[0], guards=guards)
        written = await self._session.write(listed, ledger) if listed else []
        results = {i: _result(w) for i, w in zip(order, written, strict=True)}
        for index in existing:
            results[index] = Result(200, await self._session.read(keys[index]), False)
        return results

    async def _identify(self) -> tuple[dict[int, Key], set[int]]:
        """The identity of every entry; those whose ifNoneExist found one exist already."""
        keys: dict[int, Key] = {}
        existing: set[int] = set()
        seen: dict[object, Entry] = {}
        for entry in self._writes:
            claims: list[object] = []
            with entry_problems(entry):
                condition = entry.headers.get("if-none-exist") if entry.method == "POST" else None
                if condition is not None:
                    asked = Condition(entry.path[0], condition.removeprefix("?"))
                    claims.append(asked)
                    found = one_or_none(await self._find(asked), condition)
                    if found is not None:
                        existing.add(entry.index)
                        keys[entry.index] = Key(entry.path[0], found)
                if entry.index not in keys:
                    id_ = entry.path[1] if len(entry.path) > 1 else self._new_ids[entry.index]
                    keys[entry.index] = Key(entry.path[0], id_)
                claims.append(keys[entry.index])
                for claim in claims:
                    other = seen.setdefault(claim, entry)
                    if other is not entry:
                        raise BadRequest(f"the same resource as {other.place}", code="duplicate")
        return keys, existing

    async def _find(self, condition: Condition) -> Guard:
        guard = self._found.get(condition)
        if guard is None:
            scan = self._criteria(condition.type, pairs(condition.query))
            guard = self._found[condition] = await self._session.find(scan)
        return guard

    async def _resolve(self, keys: dict[int, Key], existing: set[int]) -> None:
        """Fill every site. A conditional reference must find exactly one resource."""
        targets: dict[Condition, str] = {}
        created = {e.index for e in self._writes if e.method == "POST"} - existing

        def render(piece: Piece) -> str:
            match piece:
                case Target(index):
                    return str(keys[index])
                case Version(index, text):
                    return "1" if index in created else text
                case Condition():
                    return targets[piece]
                case str():
                    return piece

        for turn, (entry, site) in enumerate(self._sites, 1):
            if turn % (PAUSE * 10) == 0:
                await asyncio.sleep(0)
            if entry.index in existing:
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

    def _drafts(self, keys: dict[int, Key], existing: set[int]) -> dict[int, Draft]:
        return {
            entry.index: Draft(
                entry.method,
                keys[entry.index],
                None if entry.method == "DELETE" else entry.resource,
                _expected(entry),
                place=entry.place,
            )
            for entry in self._writes
            if entry.index not in existing
        }


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
    parts = 1 if entry.method == "POST" else 2
    if entry.query or (len(entry.path) == 1 and entry.method != "POST"):
        raise NotSupported(f"conditional {entry.method} is not supported yet")
    if len(entry.path) == parts + 1 and entry.path[-1][:1] == "$":
        raise NotSupported("operations in a transaction are not supported")
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
    if entry.method != "DELETE":
        if entry.resource is None:
            raise BadRequest("a resource is needed", code="required")
        checked(entry.resource, *entry.path)


def _expected(entry: Entry) -> str | None:
    header = entry.headers.get("if-match")
    if header is None:
        return None
    with entry_problems(entry):
        candidates = versions(header)
        if len(candidates) != 1:
            raise BadRequest("ifMatch names one version")
        return candidates[0]


def _result(written: Written) -> Result:
    stored = written.stored
    if stored is None or stored.deleted:
        return Result(204, None)
    return Result(201 if written.created else 200, stored)


def _shown(result: Result, request: Request) -> bytes:
    """The response entry; the resource only if it is preferred."""
    response: Json = {"status": status_line(result.status)}
    stored = result.stored
    body = b""
    if stored is not None:
        response["location"] = f"{stored.key}/_history/{stored.version}"
        response["etag"] = stored.etag
        response["lastModified"] = format_instant(stored.updated)
        wanted = preference(request, "return")
        if wanted == "representation":
            body = stored.body
        elif wanted == "OperationOutcome":
            response["outcome"] = stored_outcome(stored)
    return entry_bytes(None, body, {"response": response})
