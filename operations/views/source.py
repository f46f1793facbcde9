"""Where the rows of a view come from: what the caller may see, some resources at a time.

A view that is stored is a Library: R4 knows no ViewDefinition. Its ``content`` holds the
definition as JSON, and its ``url`` is that of the definition; so the gate, search and history of
the server are those of any resource.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.lasting import FRESH
from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, NotFound, Problem, Unprocessable
from fhir_server.model.resource import ID_PATTERN, Key, Stored
from fhir_server.search.plan import Cursor, Scan, Search
from operations.bulk.delivery import permitted
from operations.bulk.wanted import Exports, Wanted, members_of, visible_patients

from .definition import TYPE, View, read_view
from .rows import Row, Rows

PAGE: Final = 500
TURN: Final = 25
"""Resources after which others get a turn on the loop."""
LIBRARY: Final = "Library"
MEDIA: Final = frozenset({"application/json", "application/fhir+json"})

Again = Callable[[], Awaitable[Session]]
"""The Session as it is now."""


@dataclass(frozen=True, slots=True)
class Source:
    """``exports``: how patients, groups and ``_since`` become searches."""

    exports: Exports

    def read(self, definition: Json) -> View:
        return read_view(definition, self.exports.schema.types)

    async def stored(self, reference: str, session: Session) -> View:
        """The view of ``ViewDefinition/[id]``, ``Library/[id]`` or a canonical URL.

        NotFound: absent or hidden; Unprocessable: the Library holds no view.
        """
        type_, _, id_ = reference.rpartition("/")
        if type_ in (TYPE, LIBRARY) and ID_PATTERN.fullmatch(id_):
            return self.read(_content(await _library(Key(LIBRARY, id_), session)))
        url, _, version = reference.partition("|")
        if ":" not in url:
            raise BadRequest("viewReference: Type/id or a canonical URL is needed", code="value")
        query = [("url", url), *([("version", version)] if version else [])]
        found = await session.search(
            Search((await self.exports.read(LIBRARY, query),), count=2, total="none")
        )
        if len(found.matches) != 1:
            text = "is not known" if not found.matches else "is there more than once"
            raise NotFound(f"the ViewDefinition {reference[:200]} {text}")
        return self.read(_content(loads(found.matches[0].body)))

    async def wanted(
        self, patients: Sequence[str], groups: Sequence[str], since: str, session: Session
    ) -> Wanted:
        """What is narrowed to these patients and members of groups, as of now.

        NotFound: a patient or Group that is absent or hidden.
        """
        cohort: dict[str, None] = {}
        if patients:
            session.allow("s", "Patient")
            seen = await visible_patients(session, patients)
            for id_ in patients:
                if id_ not in seen:
                    raise NotFound(f"Patient/{id_} is not known")
                cohort[id_] = None
        for id_ in groups:
            members = members_of(await session.exporting().group(id_))
            cohort |= dict.fromkeys(members)
        narrowed = bool(patients or groups)
        wanted = Wanted("Group" if narrowed else "system", (), since=since)
        return replace(
            wanted,
            patients=tuple(cohort) if narrowed else None,
            as_of=await session.position(),
        )

    async def pages(
        self, view: View, wanted: Wanted, session: Session
    ) -> AsyncIterator[Sequence[Stored]]:
        """The resources of a view, in the order of a search."""
        session.allow("s", view.resource)
        if wanted.patients is not None and view.resource not in self.exports.types("Patient"):
            text = f"{view.resource} belongs to no patient: patient and group do not narrow it"
            raise BadRequest(text, code="not-supported")
        asked = replace(wanted, types=(view.resource,))
        for scan in await self.exports.scans(asked, wanted.patients):
            async for found in _walk(scan, wanted.as_of, session):
                yield found

    async def rows(
        self, view: View, wanted: Wanted, session: Session, *, again: Again | None = None
    ) -> AsyncIterator[list[Row]]:
        """``again``: only of what may be seen now as well as at that point, judged anew for each
        page and whenever a moment has passed."""
        rows = Rows(view)
        async for found in self.pages(view, wanted, session):
            left = found
            while left:
                began = time.monotonic()
                if again is not None:
                    left = await _still(left, session, await again(), wanted.as_of)
                given = 0
                for start in range(0, len(left), TURN):
                    if start and again is not None and time.monotonic() - began > FRESH:
                        break
                    given = start + TURN
                    session.note(left[start:given])
                    some = [
                        row for stored in left[start:given] for row in rows.of(loads(stored.body))
                    ]
                    if some:
                        yield some
                    await asyncio.sleep(0)
                left = left[given:]


async def _still(
    found: Sequence[Stored], session: Session, now: Session, as_of: int
) -> Sequence[Stored]:
    """Those of one type, which ``session`` found, that may be seen now."""
    if now.policy.whole or (now.policy is session.policy and await now.position() == as_of):
        return found
    ids = tuple(stored.key.id for stored in found)
    return await permitted(now, found[0].key.type, ids, as_of)


async def _walk(scan: Scan, as_of: int, session: Session) -> AsyncIterator[Sequence[Stored]]:
    after: Cursor | None = None
    while True:
        search = Search((scan,), count=PAGE, after=after, total="none", as_of=as_of)
        page = await session.search(search)
        yield page.matches
        after = page.next
        if after is None:
            return


async def of_given(view: View, resources: Sequence[Json]) -> AsyncIterator[list[Row]]:
    """Of resources that came with the request."""
    rows = Rows(view)
    for number, resource in enumerate(resources):
        found = rows.of(resource)
        if found:
            yield found
        if number % TURN == 0:
            await asyncio.sleep(0)


async def _library(key: Key, session: Session) -> Json:
    try:
        return loads((await session.read(key)).body)
    except Problem as problem:
        if problem.status not in (404, 410):
            raise
        raise NotFound(f"the {TYPE} {key.id} is not known") from None


def _content(library: Json) -> Json:
    """The definition in a Library. Unprocessable if there is none."""
    for attachment in library.get("content", ()):
        media = attachment.get("contentType", "").partition(";")[0]
        if media in MEDIA and "data" in attachment:
            try:
                definition = loads(base64.b64decode(attachment["data"], validate=True))
            except (binascii.Error, Problem):
                break
            if definition.get("resourceType") == TYPE:
                return definition
    raise Unprocessable(f"Library/{library['id']} holds no {TYPE} as JSON", code="invalid")
