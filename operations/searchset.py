"""What operations that answer with a searchset are handed: understanding of queries, page
links and the splicing of stored bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from fhir_server.access.principal import Principal
from fhir_server.access.session import Session
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Stored
from fhir_server.search.parameters import Context
from fhir_server.search.parse import Parsed
from fhir_server.search.plan import Cursor, Scan, Search
from fhir_server.search.schema import SearchSchema

PAGE: Final = 1000
MOST: Final = 20_000
"""Resources that an operation looks through; more is refused."""

Pairs = Sequence[tuple[str, str]]


class Position(Protocol):
    """What a page link says: the query without it, and where the page begins."""

    @property
    def query(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def after(self) -> Cursor: ...


class Cursors(Protocol):
    """Seals and opens page links. ``place``: the path that a link belongs to."""

    def seal(self, principal: Principal, place: str, query: Pairs, after: Cursor) -> str: ...

    def open(self, principal: Principal, place: str, text: str) -> Position: ...


class BundleOf(Protocol):
    """The bytes of a Bundle around finished entries."""

    def __call__(
        self,
        type_: str,
        entries: Sequence[bytes],
        *,
        total: int | None = None,
        links: Iterable[tuple[str, str]] = (),
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Searchsets:
    """``context``: of the values in a query, now. ``entry``: (encoded base, resource, mode)
    -> the bytes of one entry. ``parse``: (type, query) -> its plan; every parameter must be
    understood. ``most``: the largest page."""

    schema: SearchSchema
    context: Callable[[], Context]
    cursors: Cursors
    bundle: BundleOf
    entry: Callable[[bytes, Stored, bytes], bytes]
    parse: Callable[[str, tuple[tuple[str, str], ...]], Awaitable[Parsed]]
    most: int = 1000


async def every(session: Session, scan: Scan) -> list[Stored]:
    """All that a scan finds, newest first, as of one point. BadRequest beyond ``MOST``."""
    as_of = await session.position()
    search: Search | None = Search((scan,), count=PAGE, total="none", as_of=as_of)
    found: list[Stored] = []
    while search is not None:
        page = await session.search(search)
        found += page.matches
        if len(found) > MOST:
            raise BadRequest(f"more than {MOST} resources to look through", code="too-costly")
        search = replace(search, after=page.next) if page.next else None
    return found
