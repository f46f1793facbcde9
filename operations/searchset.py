"""What operations that answer with a searchset are handed: understanding of queries, page
links and the splicing of stored bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fhir_server.access.principal import Principal
from fhir_server.model.resource import Stored
from fhir_server.search.parameters import Context
from fhir_server.search.plan import Cursor
from fhir_server.search.schema import SearchSchema

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
    -> the bytes of one entry. ``most``: the largest page."""

    schema: SearchSchema
    context: Callable[[], Context]
    cursors: Cursors
    bundle: BundleOf
    entry: Callable[[bytes, Stored, bytes], bytes]
    most: int = 1000
