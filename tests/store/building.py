"""Short ways to build changes and index values in store tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import Cursor, Search
from fhir_server.search.values import (
    ContainedValue,
    DateValue,
    GroupValue,
    IndexValues,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
)
from fhir_server.store.base import Change, ChangeSet, Page, Store

T = TypeVar("T")
LISTS = {
    TokenValue: "tokens",
    StringValue: "strings",
    DateValue: "dates",
    NumberValue: "numbers",
    QuantityValue: "quantities",
    ReferenceValue: "references",
    UriValue: "uris",
    GroupValue: "groups",
    ContainedValue: "contained",
}


def values(*found: Any, date: int = 0, patients: tuple[str, ...] = ()) -> IndexValues:
    made = IndexValues(date=date, patients=patients)
    for value in found:
        getattr(made, LISTS[type(value)]).append(value)
    return made


def to(param: str, target: str, version: str = "") -> ReferenceValue:
    type_, id_ = target.split("/")
    return ReferenceValue(param, type_, id_, "", version)


def key(text: str) -> Key:
    type_, id_ = text.split("/")
    return Key(type_, id_)


class Bench:
    """A store with an event loop and a clock of its own."""

    def __init__(self, store: Store, runner: asyncio.Runner) -> None:
        self.store = store
        self._runner = runner
        self._updated = 1_000_000
        self._versions: dict[Key, int] = {}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def change(self, name: str, found: IndexValues | None = None, **other: Any) -> Change:
        """The next version of ``name``; counts versions of what ``put`` has written."""
        where = key(name)
        before = other.pop("expect", self._versions.get(where, 0))
        self._updated += 1000
        body = b'{"resourceType":"%s","id":"%s","n":%d}' % (
            where.type.encode(),
            where.id.encode(),
            before + 1,
        )
        fields: dict[str, Any] = {
            "key": where,
            "version": before + 1,
            "updated": self._updated,
            "body": body,
            "values": found or IndexValues(),
            "method": "PUT",
            "expect": before,
        }
        return Change(**(fields | other))

    def apply(self, *changes: Change, **other: Any) -> tuple[int, ...]:
        seqs = self.do(self.store.apply(ChangeSet(changes, **other))).seqs
        self._versions.update((c.key, c.version) for c in changes)
        return seqs

    def put(self, name: str, *found: Any, date: int = 0, patients: tuple[str, ...] = ()) -> int:
        made = values(*found, date=date, patients=patients)
        return self.apply(self.change(name, made))[0]

    def delete(self, name: str) -> int:
        return self.apply(self.change(name, body=b"", values=None, method="DELETE"))[0]

    def page(self, search: Search) -> Page:
        return self.do(self.store.run(search))

    def found(self, search: Search) -> list[str]:
        return names(self.page(search).matches)

    def included(self, search: Search) -> list[str]:
        return sorted(names(self.page(search).included))


def names(stored: Any) -> list[str]:
    return [str(s.key) if isinstance(s, Stored) else str(s) for s in stored]


def walk(bench: Bench, search: Search) -> tuple[list[str], list[Cursor | None]]:
    """All pages of a search one after the other."""
    found: list[str] = []
    cursors: list[Cursor | None] = []
    while True:
        page = bench.page(search)
        found += names(page.matches)
        cursors.append(page.next)
        if page.next is None:
            return found, cursors
        search = Search(
            search.scans, search.sort, search.count, page.next, total="none", as_of=search.as_of
        )


def prepared_change(key: Key, version: int, index: IndexValues) -> Change:
    """A change with a body that names it."""
    body = b'{"resourceType":"%s","id":"%s"}' % (key.type.encode(), key.id.encode())
    return Change(key, version, 1_000_000 + version, body, index, "PUT", version - 1)
