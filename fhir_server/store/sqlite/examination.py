"""What can be wrong with a database file, and looking for it: for ``vehr doctor``.

Every look is at one snapshot by a connection that cannot write, so it may be taken beside a
running server.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem
from fhir_server.model.resource import Key
from fhir_server.search.values import IndexValues
from fhir_server.store.codec import Codec
from fhir_server.store.sqlite import dictionaries, schema, text
from fhir_server.store.sqlite.keys import Keys
from fhir_server.store.sqlite.rows import COLUMNS, Row, holds_rows, index_rows

SAMPLE: Final = 1_000
SHOWN: Final = 20
"""Faults of one kind that are named one by one."""

_JOIN: Final = " FROM version v CROSS JOIN resource r ON r.rid = v.rid"
_VERSIONS: Final = "".join(("SELECT ", COLUMNS, _JOIN, " ORDER BY v.seq"))
_CURRENT: Final = "".join(
    ("SELECT ", COLUMNS, " FROM resource r CROSS JOIN version v ON v.seq = r.seq WHERE r.rid = ?")
)
_TABLES: Final = {
    "postings": "SELECT count(*) FROM posting",
    "strings": "SELECT count(*) FROM string",
    "spans": "SELECT count(*) FROM span",
}
_LIVE: Final = "SELECT type, count(*) FROM resource WHERE live = 1 GROUP BY type"
_ALL: Final = "SELECT count(*) FROM posting WHERE h = ? AND s = ?"


_OTHER: Final = frozenset({"date", "patients", "contained"})
"""Of a resource's values: what is no list of values of parameters."""


class Look(NamedTuple):
    """One look: what at, whether it is well, and what was seen or is wrong."""

    name: str
    well: bool
    text: str


Extract = Callable[[Json], IndexValues]
Waiting = Callable[[str], Collection[str]]
"""Resource type -> parameters that not every resource is indexed by yet."""


def _none(_: str) -> Collection[str]:
    return ()


class Examination:
    """One database file. Raises sqlite3.Error if it cannot be opened."""

    def __init__(self, folder: Path) -> None:
        self._connection = schema.connect(folder / schema.FILE, readonly=True)
        # It costs a third of a small read, so a server goes without.
        self._connection.execute("PRAGMA cell_size_check = ON")
        self.version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        self._connection.close()

    def schema(self) -> Look:
        known = schema.VERSION
        said = f"version {self.version} of {known}"
        if self.version > known:
            return Look("schema", False, f"{said}: use the newer program")
        if self.version <= schema.UNRELEASED:
            return Look("schema", False, f"{said}: of an unreleased program")
        if self.version < known:
            said += ": the next start of a server migrates it"
        return Look("schema", True, said)

    def integrity(self) -> Look:
        """SQLite's own check of every page and index."""
        found = [row[0] for row in self._connection.execute("PRAGMA integrity_check(20)")]
        return Look("integrity", found == ["ok"], "; ".join(found)[:2000])

    def counters(self) -> Look:
        """The counters and the lists of whole types against the resources."""
        keys = Keys(schema.secret(self._connection))
        live = dict(self._connection.execute(_LIVE).fetchall())
        counted = dict(
            self._connection.execute("SELECT type, live FROM counter WHERE live <> 0").fetchall()
        )
        wrong = [
            f"{type_}: {live.get(type_, 0)} resources, counter {counted.get(type_, 0)}"
            for type_ in sorted(live.keys() | counted.keys())
            if live.get(type_, 0) != counted.get(type_, 0)
        ]
        for type_, count in live.items():
            (listed,) = self._connection.execute(_ALL, keys.everything(type_)).fetchone()
            if listed != count:
                wrong.append(f"{type_}: {count} resources, {listed} in the index")
        return Look("counters", not wrong, _said(wrong, f"{sum(live.values()):,} resources"))

    def index(
        self, extract: Extract, sample: int | None = SAMPLE, waiting: Waiting = _none
    ) -> Iterator[Look]:
        """The index against a scan of the resources; ``sample`` None: all of them, and that
        nothing else is in it. What is ``waiting`` for a reindex may be there or not. Gives one
        Look at its end."""
        self._connection.execute("BEGIN")
        try:
            keys, frames = self._tools()
            wrong: list[str] = []
            rows: Counter[str] = Counter()
            looked = 0
            for rid in self._rids(sample):
                row = Row(self._connection.execute(_CURRENT, (rid,)).fetchone(), frames)
                wrong += self._astray(row, extract, waiting, keys, rows)
                if not text.holds_words(self._connection, frames, rid):
                    wrong.append(f"{row.key}: is not completely in the index of words")
                looked += 1
            if sample is None:
                wrong += self._surplus(rows)
                if miscounted := text.miscounted(self._connection, frames):
                    wrong.append(f"{miscounted:,} words are in the index for other resources")
        finally:
            self._connection.execute("COMMIT")
        yield Look("index", not wrong, _said(wrong, f"{looked:,} resources as a scan finds them"))

    def _tools(self) -> tuple[Keys, Codec]:
        return Keys(schema.secret(self._connection)), dictionaries.load(self._connection)

    def _rids(self, sample: int | None) -> list[int]:
        found = self._connection.execute("SELECT rid FROM resource WHERE live = 1").fetchall()
        rids = [rid for (rid,) in found]
        return rids if sample is None or len(rids) <= sample else random.sample(rids, sample)

    def _astray(
        self, row: Row, extract: Extract, waiting: Waiting, keys: Keys, rows: Counter[str]
    ) -> Iterator[str]:
        try:
            values = extract(loads(row.raw[: row.columns[8]]))
            kept = row.values
        except Problem as problem:
            yield f"{row.key}: {problem}"
            return
        type_ = row.key.type
        if alike(_settled(kept, type_, waiting), _settled(values, type_, waiting)):
            values = kept
        made = keys.rows(type_, values)
        rows.update({table: len(some) for table, some in index_rows(row.rid, made).items()})
        if not alike(kept, values) or row.columns[3] != made.date:
            yield f"{row.key}: is indexed by other values than it has"
        elif not holds_rows(self._connection, row.rid, made):
            yield f"{row.key}: is not completely in the index"

    def _surplus(self, rows: Counter[str]) -> Iterator[str]:
        for table, sql in _TABLES.items():
            (there,) = self._connection.execute(sql).fetchone()
            if there != rows[table]:
                yield f"{there:,} {table} in the index, {rows[table]:,} expected"

    def scrub(self, tell: Callable[[int, int], None]) -> Look:
        """Opens every body of every version: its checksum, its JSON, its identity."""
        frames = dictionaries.load(self._connection)
        (total,) = self._connection.execute("SELECT count(*) FROM version").fetchone()
        wrong: list[str] = []
        done = 0
        try:
            for done, columns in enumerate(self._connection.execute(_VERSIONS), 1):
                wrong += _damage(Row(columns, frames))
                if done % 1000 == 0:
                    tell(done, total)
        except sqlite3.DatabaseError as error:
            wrong.append(f"after {done:,} versions: {error}")
        if done < total and not wrong:
            wrong.append(f"{total - done:,} versions belong to no resource")
        return Look("bodies", not wrong, _said(wrong, f"{done:,} versions are sound"))


def _damage(row: Row) -> Iterator[str]:
    key, version = row.key, row.columns[4]
    if row.columns[7] == "DELETE":
        return
    try:
        body: Any = loads(row.raw[: row.columns[8]])
        found = Key(body["resourceType"], body["id"]), body["meta"]["versionId"]
        for field in fields(IndexValues):
            getattr(row.values, field.name)
    except (Problem, KeyError, TypeError, ValueError) as error:
        yield f"{key} version {version} is damaged: {error}"
        return
    if found != (key, str(version)):
        yield f"{key} version {version} is damaged: it holds {found[0]} version {found[1]}"


def _said(wrong: list[str], well: str) -> str:
    if not wrong:
        return well
    more = len(wrong) - SHOWN
    return "\n".join(wrong[:SHOWN]) + (f"\nand {more:,} more" if more > 0 else "")


def alike(one: IndexValues, other: IndexValues) -> bool:
    """The same values, in whatever order: labels that rose later stand behind the others."""
    return one == other or _sorted(one) == _sorted(other)


def _settled(values: IndexValues, type_: str, waiting: Waiting) -> IndexValues:
    """Without what waits for a reindex."""
    codes = waiting(type_)
    lists = {
        f.name: [
            value for value in getattr(values, f.name) if value.param.partition("@")[0] not in codes
        ]
        for f in fields(values)
        if f.name not in _OTHER
    }
    contained = [v._replace(values=_settled(v.values, v.type, waiting)) for v in values.contained]
    return IndexValues(values.date, values.patients, contained=contained, **lists)


def _sorted(values: IndexValues) -> list[str]:
    parts = ((f.name, getattr(values, f.name)) for f in fields(values))
    return [
        f"{name} {sorted(map(repr, part)) if isinstance(part, list) else part!r}"
        for name, part in parts
    ]
