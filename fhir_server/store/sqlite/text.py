"""The index of words, for ``_text`` and ``_content``: it follows the change feed.

Indexing words costs as much as all the other rows of a small resource, so writes leave it for
later: ``followed`` says up to which position of the feed the words are in the index. What has
changed since is looked into. A search that finds too much unlooked at has the writer catch up
first; the writer also does so by itself when it has little else to do.

The index (FTS5, contentless) finds candidates, never an answer: each is tested on its body. Its
rows bear the words that ``words_of`` gives, so a row is deleted by naming the words again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Collection
from typing import Any, Final

import msgspec

from fhir_server.search import plan
from fhir_server.search.plan import Predicate
from fhir_server.search.words import REVISION, Words, words_of
from fhir_server.store.codec import Codec, Damaged
from fhir_server.store.sqlite.rows import Budget

UNREAD: Final = 256
"""A search looks into at most so many versions that the index has not followed yet."""
PIECE: Final = 256
"""Versions that the index follows in one transaction."""
ANEW: Final = -1
TURN: Final = 32
"""Resources between which others get a turn on the loop."""
MANY: Final = 1_000
MOST: Final = 100_000
"""Where many candidates are not too many, a search in a thread takes so many from the index:
looking into bodies without it is dearer."""
COST: Final = 30
"""Work units of looking into one body."""

DELTA: Final = (
    "CREATE VIRTUAL TABLE words USING fts5(narrative, rest,"
    " content = '', columnsize = 0, detail = column, tokenize = 'ascii')",
    """CREATE TABLE followed (
        name TEXT PRIMARY KEY, revision INTEGER NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID""",
    "INSERT INTO followed VALUES ('words', 0, 0)",
    "CREATE TABLE worded (rid INTEGER PRIMARY KEY, seq INTEGER NOT NULL)",
)
"""Only ASCII letters mean something to the tokenizer: words come folded and between spaces.
``worded`` says the words of which version are in the index."""

_STATE: Final = "SELECT revision, seq FROM followed WHERE name = 'words'"
_MATCHING: Final = (
    "SELECT w.rowid FROM words w CROSS JOIN resource r ON r.rid = w.rowid"
    " WHERE words MATCH ? AND r.type = ? AND r.live = 1 LIMIT ?"
)
_UNREAD: Final = "SELECT count(*) FROM (SELECT 1 FROM version WHERE seq > ? LIMIT ?)"
_CHANGED: Final = (
    "SELECT DISTINCT v.rid FROM version v CROSS JOIN resource r ON r.rid = v.rid"
    " WHERE v.seq > ? AND r.type = ? AND r.live = 1"
)
_NEXT: Final = (
    "SELECT seq, rid, version, method, split, frame FROM version WHERE seq > ? ORDER BY seq LIMIT ?"
)
_WORDED: Final = (
    "SELECT v.seq, v.split, v.frame FROM worded w CROSS JOIN version v ON v.seq = w.seq"
    " WHERE w.rid = ?"
)
_ADD: Final = "INSERT INTO words (rowid, narrative, rest) VALUES (?, ?, ?)"
_REMOVE: Final = "INSERT INTO words (words, rowid, narrative, rest) VALUES ('delete', ?, ?, ?)"
_SET: Final = "INSERT OR REPLACE INTO worded VALUES (?, ?)"
_UNSET: Final = "DELETE FROM worded WHERE rid = ?"
_CLEAR: Final = (
    "INSERT INTO words (words) VALUES ('delete-all')",
    "DELETE FROM worded",
    "UPDATE followed SET revision = 0, seq = 0 WHERE name = 'words'",
)
_FOLLOWED: Final = "UPDATE followed SET revision = ?, seq = ? WHERE name = 'words'"


class Behind(Exception):
    """The index has too much to catch up with for this search."""


def position(connection: sqlite3.Connection) -> int:
    """What the index has followed of the change feed; 0 if other words are in it."""
    revision, seq = connection.execute(_STATE).fetchone()
    return int(seq) if revision == REVISION else 0


def expression(predicate: Predicate) -> str | None:
    """A query to FTS5 that finds at least what the predicate finds; None: it cannot say."""
    match predicate:
        case plan.TextHas(param, words, prefix) if predicate.of_body:
            quoted = [f'"{word}"' for word in words]
            if prefix:
                quoted[-1] += " *"
            found = f"({' AND '.join(quoted)})"
            return f"(narrative : {found})" if param == "_text" else found
        case plan.All(parts):
            some = [said for part in parts if (said := expression(part)) is not None]
            return f"({' AND '.join(some)})" if some else None
        case plan.Any(parts):
            every = [expression(part) for part in parts]
            some = [said for said in every if said is not None]
            return f"({' OR '.join(some)})" if some and len(some) == len(every) else None
        case _:
            return None


def candidates(
    connection: sqlite3.Connection, type_: str, query: str, limit: int, budget: Budget
) -> list[int] | None:
    """The resources of a type that may be meant; None: they are ``limit`` or more.

    Raises Behind, unless the search has no budget: then the writer itself is asking.
    """
    if limit >= MANY and not budget.inline:
        limit = MOST
    upto = position(connection)
    (unread,) = connection.execute(_UNREAD, (upto, UNREAD + 1)).fetchone()
    if unread > UNREAD and budget.limited:
        raise Behind
    rows = connection.execute(_MATCHING, (query, type_, limit)).fetchall()
    found = {rid for (rid,) in rows}
    if unread:
        found.update(rid for (rid,) in connection.execute(_CHANGED, (upto, type_)))
    return sorted(found) if len(found) < limit else None


async def follow(connection: sqlite3.Connection, codec: Codec, most: int) -> int:
    """Reads up to ``most`` further versions into the index; how many there were.

    ``ANEW``: the index is to be made anew.
    """
    if most == ANEW or position(connection) == 0:
        clear(connection)
    rows = connection.execute(_NEXT, (position(connection), abs(most))).fetchall()
    last = list({row[1]: row for row in rows}.values())
    for start in range(0, len(last), TURN):
        if start:
            await asyncio.sleep(0)
        _read_in(connection, codec, last[start : start + TURN])
    if rows:
        connection.execute(_FOLLOWED, (REVISION, rows[-1][0]))
    return len(rows)


def _read_in(connection: sqlite3.Connection, codec: Codec, rows: list[tuple[Any, ...]]) -> None:
    """The words of these versions in place of those of the versions before."""
    for _, rid, version, *_ in rows:
        if version > 1:  # the first is in place of none
            _remove(connection, codec, rid)
    living = [row for row in rows if row[3] != "DELETE"]
    words = [(row[1], *_words(codec, row[4], row[5])) for row in living]
    connection.executemany(_ADD, words)
    connection.executemany(_SET, [(row[1], row[0]) for row in living])


def clear(connection: sqlite3.Connection) -> None:
    """Empties the index: all is still to be read."""
    for statement in _CLEAR:
        connection.execute(statement)


def _remove(connection: sqlite3.Connection, codec: Codec, rid: int) -> None:
    row = connection.execute(_WORDED, (rid,)).fetchone()
    if row is not None:
        connection.execute(_REMOVE, (rid, *_words(codec, *row[1:])))
        connection.execute(_UNSET, (rid,))


def forget(connection: sqlite3.Connection, codec: Codec, rid: int, gone: Collection[int]) -> None:
    """Takes out the words of a resource if they are those of a version that will be erased."""
    row = connection.execute(_WORDED, (rid,)).fetchone()
    if row is None or row[0] not in gone:
        return
    try:
        codec.open(row[2])
    except Damaged:  # what is to be taken out cannot be said
        clear(connection)
    else:
        _remove(connection, codec, rid)


def merge(connection: sqlite3.Connection) -> None:
    """Leaves nothing in the index of what was taken out."""
    connection.execute("INSERT INTO words (words) VALUES ('optimize')")


def _words(codec: Codec, split: int, frame: bytes) -> Words:
    """A damaged body has none: to say so is the matter of the scrub and of who reads it."""
    try:
        return words_of(codec.open(frame)[:split])
    except (Damaged, msgspec.DecodeError):
        return Words("", "")


# --- examination ------------------------------------------------------------------------

_IN_INDEX: Final = (
    "SELECT v.split, v.frame, w.seq FROM resource r CROSS JOIN version v ON v.seq = r.seq"
    " LEFT JOIN worded w ON w.rid = r.rid AND w.seq = r.seq"
    " WHERE r.rid = ? AND r.live = 1 AND r.seq <= ?"
)
_ALL: Final = "SELECT v.split, v.frame FROM worded w CROSS JOIN version v ON v.seq = w.seq"
_VOCABULARY: Final = "CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, words, 'col')"
_FORGET: Final = "DROP TABLE temp.vocabulary"
_TERMS: Final = "SELECT col, term, doc FROM temp.vocabulary"
_HELD: Final = "SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?"


def holds_words(connection: sqlite3.Connection, codec: Codec, rid: int) -> bool:
    """Whether the index has every word of a resource that it has followed to its present."""
    row = connection.execute(_IN_INDEX, (rid, position(connection))).fetchone()
    if row is None:
        return True
    split, frame, there = row
    terms = _terms(_words(codec, split, frame))
    query = " AND ".join(f'{column} : "{word}"' for column, word in terms)
    if there is None or not query:
        return there is not None
    return connection.execute(_HELD, (query, rid)).fetchone() is not None


def miscounted(connection: sqlite3.Connection, codec: Codec) -> int:
    """Words that the index has for another number of resources than there are with it."""
    expected: Counter[tuple[str, str]] = Counter()
    for split, frame in connection.execute(_ALL):
        expected.update(_terms(_words(codec, split, frame)))
    connection.execute(_VOCABULARY)
    try:
        found = {(column, term): count for column, term, count in connection.execute(_TERMS)}
    finally:
        connection.execute(_FORGET)
    return sum(found.get(key, 0) != expected[key] for key in found.keys() | expected.keys())


def _terms(words: Words) -> set[tuple[str, str]]:
    return {(column, word) for column, text in words._asdict().items() for word in text.split()}
