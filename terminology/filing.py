"""Makes the file of concepts that ``filed.py`` reads; concepts come as a stream."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from fhir_server.formats.json import dumps
from terminology.concepts import (
    Json,
    is_inactive,
    links,
    meanings,
    value_of,
    walk,
    words_of,
    written,
)
from terminology.filed import FORMAT
from terminology.service import Refused

TOGETHER: Final = 2000
"""Concepts that are written at a time."""
_TABLES: Final = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE concept (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, inactive INTEGER NOT NULL,
  body BLOB NOT NULL);
CREATE TABLE folded (folded TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE down (above INTEGER, place INTEGER, below INTEGER, PRIMARY KEY (above, place))
  WITHOUT ROWID;
CREATE TABLE up (below INTEGER, place INTEGER, above INTEGER, PRIMARY KEY (below, place))
  WITHOUT ROWID;
CREATE TABLE property_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE property (name INTEGER, value TEXT, concept INTEGER,
  PRIMARY KEY (name, value, concept)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(folded, content='', columnsize=0, detail=none,
  prefix='1 2 3', tokenize='unicode61 remove_diacritics 0');
CREATE TEMPORARY TABLE link (place INTEGER PRIMARY KEY, above TEXT, below TEXT);
"""
_LINKED: Final = """
INSERT OR IGNORE INTO down SELECT a.id, min(l.place), b.id FROM link l
  JOIN concept a ON a.code = l.above JOIN concept b ON b.code = l.below GROUP BY a.id, b.id;
INSERT OR IGNORE INTO up SELECT below, place, above FROM down;
CREATE INDEX concept_inactive ON concept (id) WHERE inactive;
INSERT INTO words (words) VALUES ('optimize');
"""

Progress = Callable[[int], None]
"""Told how many concepts are written."""


def write_file(
    path: Path, code_system: Json, concepts: Iterable[Json], progress: Progress = lambda _: None
) -> int:
    """The file at ``path``; how many concepts it holds.

    ``code_system``: the resource without its concepts. ``concepts``: as in
    ``CodeSystem.concept``, flat or nested; places also by the properties parent, child and
    subsumedBy. It is durable and whole, or not there. Raises Refused (a code twice, none at all).
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        rows = sqlite3.connect(part, isolation_level=None)
        try:
            count = _filled(rows, code_system, concepts, progress)
        finally:
            rows.close()
        _settle(part)
        part.replace(path)
        _settle(path.parent)
    finally:
        part.unlink(missing_ok=True)
    return count


def _filled(
    rows: sqlite3.Connection, code_system: Json, concepts: Iterable[Json], progress: Progress
) -> int:
    rows.execute("PRAGMA journal_mode=OFF")
    rows.execute("PRAGMA synchronous=OFF")
    rows.executescript(_TABLES)
    rows.execute("BEGIN")
    kept = {name: value for name, value in code_system.items() if name != "concept"}
    about = [("format", str(FORMAT)), ("resource", dumps(kept).decode())]
    rows.executemany("INSERT INTO about VALUES (?, ?)", about)
    writer = _Writer(rows, kept)
    each = walk(concepts)
    while part := list(islice(each, TOGETHER)):
        writer.write(part)
        progress(writer.count)
    if not writer.count:
        raise Refused("invalid", "there is no concept in it")
    rows.executescript(_LINKED)
    return writer.count


class _Writer:
    def __init__(self, rows: sqlite3.Connection, code_system: Json) -> None:
        self._rows = rows
        self._meanings = meanings(code_system)
        self._folds = code_system.get("caseSensitive") is False
        self._names: dict[str, int] = {}
        self.count = 0
        self._links = 0

    def write(self, part: list[tuple[Json, str | None]]) -> None:
        numbered = list(enumerate((concept for concept, _ in part), self.count + 1))
        rows = self._rows
        try:
            rows.executemany(
                "INSERT INTO concept VALUES (?, ?, ?, ?)",
                ((n, c["code"], self._inactive(c), _body(c)) for n, c in numbered),
            )
        except sqlite3.IntegrityError:
            raise Refused("invalid", f"a code is there twice: {self._twice(part)}") from None
        rows.executemany(
            "INSERT INTO words (rowid, folded) VALUES (?, ?)",
            ((n, words_of(c)) for n, c in numbered),
        )
        if self._folds:
            rows.executemany(
                "INSERT OR REPLACE INTO folded VALUES (?, ?)",
                ((c["code"].casefold(), n) for n, c in numbered),
            )
        rows.executemany(
            "INSERT OR IGNORE INTO property VALUES (?, ?, ?)",
            (row for n, c in numbered for row in self._properties(n, c)),
        )
        rows.executemany("INSERT INTO link VALUES (NULL, ?, ?)", _links(part))
        self.count += len(part)

    def _twice(self, part: list[tuple[Json, str | None]]) -> str:
        seen: set[str] = set()
        for concept, _ in part:
            code = concept["code"]
            sql = "SELECT 1 FROM concept WHERE code = ? AND id <= ?"
            if code in seen or self._rows.execute(sql, (code, self.count)).fetchone():
                return str(code)[:100]
            seen.add(code)
        return ""

    def _inactive(self, concept: Json) -> bool:
        properties = (
            (self._meanings.get(one["code"], one["code"]), value_of(one)[1])
            for one in concept.get("property", ())
            if "code" in one
        )
        return is_inactive(properties)

    def _properties(self, number: int, concept: Json) -> Iterator[tuple[int, str, int]]:
        if "display" in concept:
            yield self._name("display"), str(concept["display"]), number
        for one in concept.get("property", ()):
            if "code" in one:
                yield self._name(one["code"]), written(value_of(one)[1]), number

    def _name(self, name: str) -> int:
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = len(self._names) + 1
            self._rows.execute("INSERT INTO property_name VALUES (?, ?)", (found, name))
        return found


def _links(part: list[tuple[Json, str | None]]) -> Iterator[tuple[str, str]]:
    for concept, parent in part:
        yield from links(concept, parent)


def _body(concept: Json) -> bytes:
    kept: dict[str, Any] = {name: value for name, value in concept.items() if name != "concept"}
    return dumps(kept)


def _settle(place: Path) -> None:
    """On the disk before it is named."""
    file = os.open(place, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
