"""Contained resources: https://hl7.org/fhir/R4/references.html#contained

The index has their rows under the rid of their container, with type names of their own (``#Type``,
``keys.contained_in``). So a list finds containers; which contained resource is meant is told by the
values of the container.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, Protocol

from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan
from fhir_server.search.values import ContainedValue, IndexValues
from fhir_server.search.words import Words, contained_body, words_of
from fhir_server.store.sqlite.keys import Keys, List, contained_in, whole
from fhir_server.store.sqlite.probes import Looks, Prober, conjuncts
from fhir_server.store.sqlite.rows import Row

_IN_LIST: Final = (
    "SELECT DISTINCT p.rid FROM posting p CROSS JOIN resource r ON r.rid = p.rid"
    " WHERE p.h = ? AND p.s = ? AND p.date BETWEEN ? AND ? AND r.type = ? LIMIT ?"
)
_LISTED: Final = "SELECT rid FROM posting WHERE h = ? AND s = ? AND date BETWEEN ? AND ?"
_ANY: Final = "SELECT 1 FROM posting WHERE h = ? AND s = ? LIMIT 1"


class Counts(Looks, Protocol):
    """A prober's looks, and the length of lists together, counted up to a limit."""

    def count(self, lists: Iterable[List], limit: int) -> int: ...


class InnerRow(Row):
    """A contained resource as a row; ``container``: that of the resource around it."""

    __slots__ = ("_key", "_number", "container")

    def __init__(self, container: Row, number: int, inner: ContainedValue) -> None:
        super().__init__(container.columns, container._codec)
        self._key = Key(inner.type, inner.id)
        self.container = container
        self._values = inner.values
        self._number = number

    @property
    def key(self) -> Key:
        return self._key

    @property
    def words(self) -> Words:
        if self._words is None:
            body = self.container.raw[: self.columns[8]]
            self._words = words_of(contained_body(body, self._number))
        return self._words

    def within(self, values: IndexValues) -> Row:
        inner = ContainedValue(self.key.type, self.key.id, values)
        return InnerRow(self.container, self._number, inner)


def contained(row: Row) -> list[InnerRow]:
    """What a resource contains; for what is contained itself, that and what lies beside it."""
    top = row.container if isinstance(row, InnerRow) else row
    return [InnerRow(top, number, one) for number, one in enumerate(top.values.contained)]


def led(row: Row, param: str) -> list[InnerRow]:
    """The contained resources that a row refers to by ``param``."""
    named = {r.url for r in row.values.references if r.param == param and r.url[:1] == "#"}
    return [inner for inner in contained(row) if f"#{inner.key.id}" in named] if named else []


def containers(
    connection: sqlite3.Connection,
    keys: Keys,
    looks: Counts,
    type_: str,
    scans: tuple[Scan, ...],
    limit: int,
) -> list[int] | None:
    """The resources of a type that may contain what one of the scans finds; None: they are
    ``limit`` or more."""
    found: set[int] = set()
    for scan in scans:
        every_type = contained_in(scan.type)
        every = keys.everything(every_type)
        if connection.execute(_ANY, every).fetchone() is None:
            continue
        best = [whole(every)]
        prober, shortest = Prober(keys, every_type, looks), looks.count(best, limit)
        for part in conjuncts(scan.where):
            lists = prober.lists(part)
            if lists is not None and (length := looks.count(lists, shortest)) < shortest:
                best, shortest = lists, length
        for one in best:
            rows = connection.execute(_IN_LIST, (*one, type_, limit + 1))
            found.update(rid for (rid,) in rows)
            if len(found) >= limit:
                return None
    return sorted(found)


def united(connection: sqlite3.Connection, rids: list[int], lists: list[List]) -> list[int]:
    """These resources and those of the lists."""
    found = set(rids)
    for one in lists:
        found.update(rid for (rid,) in connection.execute(_LISTED, one))
    return sorted(found)
