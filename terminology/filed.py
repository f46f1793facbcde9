"""Concepts of one version of a code system in an indexed file that is only read.

A code system of hundreds of thousands of concepts is not held in memory: what is asked for is
looked up. The file is a SQLite database, made whole by ``filing.py`` and never changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

from fhir_server.formats.json import dumps, loads
from terminology.concepts import ALL, ALWAYS, Concepts, Json

FORMAT: Final = 1
"""Another number is another layout."""
PAGE: Final = 1000
"""Rows that are fetched at a time where all are wanted."""


class Damaged(Exception):
    """Not a file of concepts, or one of another format."""


class Filed(Concepts):
    """Reads on the calling thread; each question is a few point look-ups or one scan of an index.

    Raises Damaged when it is opened.
    """

    indexed = True

    def __init__(self, path: Path) -> None:
        self._rows = _opened(path)
        super().__init__(_resource(self._rows, path))
        self.content = "complete"
        self.by_code = _Bodies(self._rows)
        self._names = dict(_all(self._rows, "SELECT name, id FROM property_name"))

    def close(self) -> None:
        self._rows.close()

    def find(self, code: str) -> str | None:
        if code in self.by_code or self.resource.get("caseSensitive") is not False:
            return code if code in self.by_code else None
        sql = "SELECT code FROM concept JOIN folded USING (id) WHERE folded.folded = ?"
        found: str | None = _one(self._rows, sql, code.casefold())
        return found

    def children(self, code: str) -> tuple[str, ...]:
        return _column(self._rows, _CHILDREN, code)

    def parents(self, code: str) -> tuple[str, ...]:
        return _column(self._rows, _PARENTS, code)

    def below(self, code: str, most: int = ALL) -> set[str]:
        return {code, *_column(self._rows, _BELOW, code, most)} if self.is_a else {code}

    def above(self, code: str) -> set[str]:
        return {code, *_column(self._rows, _ABOVE, code)} if self.is_a else {code}

    def ordered(self, codes: Set[str]) -> list[str]:
        return list(_column(self._rows, _ORDERED, dumps([*codes]).decode()))

    def bearing(self, name: str, value: str | None = None) -> set[str]:
        if name in ("concept", "code"):
            return set(self.by_code) if value is None else {value} & {*self.ordered({value})}
        if name == "parent" and value is not None:
            return set(self.children(value))
        if name == "child" and value is not None:
            return set(self.parents(value))
        if name in _BEARING:
            return set(_column(self._rows, _BEARING[name]))
        if name == "definition":
            return {code for code in self.by_code if self.has(code, name, value)}
        given = self._names.get(name)
        if value is None:
            return set(_column(self._rows, _WITH_PROPERTY, given))
        return set(_column(self._rows, _WITH_VALUE, given, value))

    def defines(self, name: str) -> bool:
        stated = {row.get("code") for row in self.resource.get("property", ())}
        return name in self._names or name in ALWAYS or name in stated

    def sought(self, beginnings: Sequence[str]) -> Iterable[str]:
        return _each(self._rows, _SOUGHT, _words(beginnings))

    def hits(self, beginnings: Sequence[str]) -> int:
        sql = "SELECT COUNT(*) FROM words WHERE words MATCH ?"
        return int(_one(self._rows, sql, _words(beginnings)))

    def page(self, offset: int, count: int) -> list[str]:
        sql = "SELECT code FROM concept WHERE id > ? ORDER BY id LIMIT ?"
        return list(_column(self._rows, sql, offset, count))

    def some_inactive(self) -> bool:
        return bool(_one(self._rows, "SELECT EXISTS (SELECT 1 FROM concept WHERE inactive)"))


class _Bodies(Mapping[str, Json]):
    """code -> its JSON; the one that was asked for last is kept."""

    def __init__(self, rows: sqlite3.Connection) -> None:
        self._rows = rows
        self._size = int(_one(rows, "SELECT COUNT(*) FROM concept"))
        self._last: tuple[str, Json] | None = None

    def __getitem__(self, code: str) -> Json:
        last = self._last
        if last is not None and last[0] == code:
            return last[1]
        body = _one(self._rows, "SELECT body FROM concept WHERE code = ?", code)
        if body is None:
            raise KeyError(code)
        concept = loads(body)
        self._last = (code, concept)
        return concept

    def __contains__(self, code: object) -> bool:
        if self._last is not None and self._last[0] == code:
            return True
        return _one(self._rows, "SELECT 1 FROM concept WHERE code = ?", code) is not None

    def __iter__(self) -> Iterator[str]:
        return _each(self._rows, "SELECT code FROM concept ORDER BY id")

    def __len__(self) -> int:
        return self._size


_CHILDREN: Final = """SELECT b.code FROM concept a JOIN down d ON d.above = a.id
  JOIN concept b ON b.id = d.below WHERE a.code = ? ORDER BY d.place"""
_PARENTS: Final = """SELECT a.code FROM concept b JOIN up u ON u.below = b.id
  JOIN concept a ON a.id = u.above WHERE b.code = ? ORDER BY u.place"""
_BELOW: Final = """WITH RECURSIVE found(id) AS (SELECT id FROM concept WHERE code = ?
  UNION SELECT down.below FROM found JOIN down ON down.above = found.id)
  SELECT code FROM found CROSS JOIN concept USING (id) LIMIT ?"""
_ABOVE: Final = """WITH RECURSIVE found(id) AS (SELECT id FROM concept WHERE code = ?
  UNION SELECT up.above FROM found JOIN up ON up.below = found.id)
  SELECT code FROM found JOIN concept USING (id)"""
_ORDERED: Final = """SELECT code FROM concept WHERE code IN (SELECT value FROM json_each(?))
  ORDER BY id"""
_BEARING: Final[Mapping[str, str]] = {
    "parent": "SELECT code FROM concept WHERE id IN (SELECT below FROM up)",
    "child": "SELECT code FROM concept WHERE id IN (SELECT above FROM down)",
}
_WITH_PROPERTY: Final = """SELECT code FROM concept WHERE id IN
  (SELECT concept FROM property WHERE name = ?)"""
_WITH_VALUE: Final = """SELECT c.code FROM property p JOIN concept c ON c.id = p.concept
  WHERE p.name = ? AND p.value = ?"""
_SOUGHT: Final = """SELECT c.code FROM words w JOIN concept c ON c.id = w.rowid
  WHERE words MATCH ? ORDER BY w.rowid"""


def _words(beginnings: Sequence[str]) -> str:
    """What the index of words is asked; each beginning is of letters and digits alone."""
    return " ".join(f'"{one}"*' for one in beginnings)


def _opened(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        return sqlite3.connect(uri, uri=True, check_same_thread=False)
    except sqlite3.Error as error:
        raise Damaged(f"{path.name}: {error}") from error


def _resource(rows: sqlite3.Connection, path: Path) -> Json:
    try:
        found = dict(_all(rows, "SELECT name, value FROM about"))
    except sqlite3.Error as error:
        rows.close()
        raise Damaged(f"{path.name}: {error}") from error
    if found.get("format") != str(FORMAT):
        rows.close()
        raise Damaged(f"{path.name}: another format")
    resource: Json = loads(found["resource"].encode())
    return resource


def _all(rows: sqlite3.Connection, sql: str) -> list[Any]:
    return rows.execute(sql).fetchall()


def _one(rows: sqlite3.Connection, sql: str, *given: object) -> Any:
    found = rows.execute(sql, given).fetchone()
    return None if found is None else found[0]


def _column(rows: sqlite3.Connection, sql: str, *given: object) -> tuple[str, ...]:
    return tuple(row[0] for row in rows.execute(sql, given).fetchall())


def _each(rows: sqlite3.Connection, sql: str, *given: object) -> Iterator[str]:
    found = rows.execute(sql, given)
    while part := found.fetchmany(PAGE):
        for row in part:
            yield row[0]
