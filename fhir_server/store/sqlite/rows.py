"""Rows of versions as searches read them, and the budget of one search."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import perf_counter, thread_time
from typing import Any, Final, TypeAlias

from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key, Stored
from fhir_server.search.values import IndexValues
from fhir_server.search.words import Words, words_of
from fhir_server.store.codec import Codec, Damaged, unpack
from fhir_server.store.sqlite.keys import Rows

Columns: TypeAlias = tuple[Any, ...]

COLUMNS: Final = (
    "r.rid, r.type, r.id, r.date, v.version, v.updated, v.seq, v.method, v.split, v.frame"
)
_FROM_RID: Final = " FROM json_each(?) j CROSS JOIN resource r ON r.rid = j.value "
_BODIES: Final = "CROSS JOIN version v ON v.seq = r.seq"
FETCH: Final = "".join(("SELECT ", COLUMNS, _FROM_RID, _BODIES))
FETCH_ONE: Final = "".join(
    ("SELECT ", COLUMNS, " FROM resource r ", _BODIES, " WHERE r.type = ? AND r.id = ?")
)
FETCH_NAMED: Final = "".join(
    (
        "SELECT ",
        COLUMNS,
        " FROM json_each(?) j CROSS JOIN resource r ON r.type = ? AND r.id = j.value ",
        _BODIES,
    )
)

TESTED: Final = 10
"""Work units of looking into one candidate."""


class Row:
    """One version with what search knows of it; opened when it is looked into."""

    __slots__ = ("_codec", "_raw", "_values", "_words", "columns", "rid")

    def __init__(self, columns: Columns, codec: Codec) -> None:
        self.columns = columns
        self.rid: int = columns[0]
        self._codec = codec
        self._raw: bytes | None = None
        self._values: IndexValues | None = None
        self._words: Words | None = None

    @property
    def key(self) -> Key:
        return _key(self.columns[1:3])

    @property
    def updated(self) -> int:
        updated: int = self.columns[5]
        return updated

    @property
    def raw(self) -> bytes:
        """Body and packed values."""
        if self._raw is None:
            self._raw = self._codec.open(self.columns[9])
        return self._raw

    @property
    def values(self) -> IndexValues:
        if self._values is None:
            raw = self.raw
            self._values = unpack(raw[self.columns[8] :]) if raw else IndexValues()
        return self._values

    @property
    def words(self) -> Words:
        """What is written in the body."""
        if self._words is None:
            self._words = words_of(self.raw[: self.columns[8]])
        return self._words

    def within(self, values: IndexValues) -> Row:
        """The same row, seen by the values of one of its elements."""
        row = Row(self.columns, self._codec)
        row._raw, row._values, row._words = self._raw, values, self._words
        return row

    def stored(self) -> Stored:
        """Raises Damaged where the body is another one's: a flipped bit in a table, outside of
        what the checksum of the frame covers, must not show one patient as another.
        """
        _, type_, id_, _, version, updated, seq, method, split, _ = self.columns
        body = (self._raw or self.raw)[:split]
        if not body.startswith(
            f'{{"resourceType":"{type_}","id":"{id_}","meta":{{"versionId":"{version}"'.encode()
        ) and not (not body or _is(body, type_, id_, version)):
            raise Damaged(f"{self.key} version {version} is damaged: run vehr doctor --scrub")
        return _stored((_key((type_, id_)), version, updated, body, seq, method))


_key: Final[Callable[[Columns], Key]] = partial(tuple.__new__, Key)
_stored: Final[Callable[[Columns], Stored]] = partial(tuple.__new__, Stored)
"""Made of what they hold, as it is: a page has hundreds of rows."""


def _is(body: bytes, type_: str, id_: str, version: int) -> bool:
    """Whether a minified body names itself so."""
    if b'"resourceType":"%b"' % type_.encode() not in body:
        return False
    if b'"id":"%b"' % id_.encode() not in body:
        return False
    return b'"versionId":"%d"' % version in body or b'"versionId":' not in body


class Exceeded(Exception):
    """A search needs more work than it was given inline: it goes to a thread."""


LOOK: Final = 500
"""Work units between two looks at the clock, which costs as much as a row."""


class Budget:
    """Work units, about a microsecond each. ``limit`` None: no limit. ``seconds``: that pass
    while ``inline``, else of CPU in the thread that makes the budget.

    Raises Exceeded while ``inline``, else the problem that the client sees.
    """

    __slots__ = ("_clock", "_left", "_look", "_until", "inline")

    def __init__(self, limit: int | None, *, inline: bool, seconds: float | None = None) -> None:
        self._left = limit
        self._clock = perf_counter if inline else thread_time
        self._until = None if seconds is None else self._clock() + seconds
        self._look = 0 if limit is None else limit - LOOK
        self.inline = inline

    @property
    def limited(self) -> bool:
        return self._left is not None

    def spend(self, units: int) -> None:
        if self._left is None:
            return
        self._left -= units
        if self._left >= self._look and self._left >= 0:
            return
        self._look = self._left - LOOK
        if self._left < 0 or (self._until is not None and self._clock() > self._until):
            if self.inline:
                raise Exceeded
            raise BadRequest(
                "this search would look at too many resources: "
                "add a patient, a code or another selective parameter",
                code="too-costly",
            )


def batches(items: Iterator[Any], first: int, most: int) -> Iterator[list[Any]]:
    """Growing batches: the first may be all that is needed."""
    size, batch = first, []
    for item in items:
        batch.append(item)
        if len(batch) >= size:
            yield batch
            size, batch = min(size * 2, most), []
    if batch:
        yield batch


def bears(row: Row, wanted: Sequence[tuple[bytes, ...]]) -> bool:
    """Whether the row itself bears, as text, one of each group of ids.

    The lists are found by hash; an id that is not in the frame would be a collision.
    """
    if not wanted:
        return True
    raw = row._raw or row.raw
    for group in wanted:
        for needle in group:
            if needle in raw:
                break
        else:
            return False
    return True


_HELD: Final = {
    "postings": "SELECT 1 FROM posting WHERE h = ? AND s = ? AND date = ? AND rid = ?",
    "strings": "SELECT 1 FROM string WHERE h = ? AND text = ? AND rid = ?",
    "spans": "SELECT 1 FROM span WHERE h = ? AND s = ? AND lo = ? AND rid = ? AND hi = ?",
}


def index_rows(rid: int, rows: Rows) -> dict[str, list[tuple[Any, ...]]]:
    """The index rows of a resource, in the order of the columns of their table's key."""
    return {
        "postings": [(h, s, rows.date, rid) for h, s in rows.postings],
        "strings": [(h, text, rid) for h, text in rows.strings],
        "spans": [(h, s, lo, rid, hi) for h, s, lo, hi in rows.spans],
    }


def holds_rows(connection: sqlite3.Connection, rid: int, rows: Rows) -> bool:
    """Whether the index has every row of a resource."""
    return all(
        connection.execute(_HELD[table], row).fetchone() is not None
        for table, wanted in index_rows(rid, rows).items()
        for row in wanted
    )
