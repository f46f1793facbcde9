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
from typing import Any, Final

import msgspec

from fhir_server.search import plan
from fhir_server.search.plan import Predicate
from fhir_server.search.words import REVISION, Words, words_of
from fhir_server.store.sqlite.codec import Codec, Damaged

UNREAD: Final = 256
"""A search looks into at most so many versions that the index has not followed yet."""
PIECE: Final = 256
"""Versions that the index follows in one transaction."""
ANEW: Final = -1
TURN: Final = 32
"""Resources between which others get a turn on the loop."""
MOST: Final = 100_000
"""Candidates that the index may give a search that has gone to a thread."""
COST: Final = 30
"""Work units of looking into one body."""

DELTA: Final = (
    "CREATE VIRTUAL TABLE words USING fts5(narrative, rest,"
    " content = '', columnsize = 0, detail = column, tokenize = 'ascii')",
    """CREATE TABLE followed (
        name TEXT PRIMARY KEY, revision INTEGER NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID""",
    "INSERT INTO followed VALUES ('words', 0, 0)",
)
"""Only ASCII letters mean something to the tokenizer: words come folded and between spaces."""

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
    "SELECT seq, rid, method, split, frame FROM version WHERE seq > ? ORDER BY seq LIMIT ?"
)
_BEFORE: Final = (
    "SELECT split, frame FROM version WHERE until = ? AND rid = ? AND method <> 'DELETE'"
)
_ADD: Final = "INSERT INTO words (rowid, narrative, rest) VALUES (?, ?, ?)"
_REMOVE: Final = "INSERT INTO words (words, rowid, narrative, rest) VALUES ('delete', ?, ?, ?)"
_CLEAR: Final = "INSERT INTO words (words) VALUES ('delete-all')"
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
    connection: sqlite3.Connection, type_: str, query: str, limit: int, *, patient: bool
) -> list[int] | None:
    """The resources of a type that may be meant; None: they are ``limit`` or more.

    Raises Behind, unless ``patient``.
    """
    upto = position(connection)
    (unread,) = connection.execute(_UNREAD, (upto, UNREAD + 1)).fetchone()
    if unread > UNREAD and not patient:
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
    if most == ANEW:
        connection.execute(_FOLLOWED, (0, 0))
        most = PIECE
    upto = position(connection)
    rows = connection.execute(_NEXT, (upto, most)).fetchall()
    if rows and upto == 0:
        connection.execute(_CLEAR)
    first: dict[int, int] = {}
    last: dict[int, tuple[Any, ...]] = {}
    for row in rows:
        first.setdefault(row[1], row[0])
        last[row[1]] = row
    for turn, (rid, (_, _, method, split, frame)) in enumerate(last.items(), 1):
        before = connection.execute(_BEFORE, (first[rid], rid)).fetchone()
        if before is not None:
            connection.execute(_REMOVE, (rid, *_words(codec, *before)))
        if method != "DELETE":
            connection.execute(_ADD, (rid, *_words(codec, split, frame)))
        if turn % TURN == 0:
            await asyncio.sleep(0)
    if rows:
        connection.execute(_FOLLOWED, (REVISION, rows[-1][0]))
    return len(rows)


def _words(codec: Codec, split: int, frame: bytes) -> Words:
    """A damaged body has none: to say so is the matter of the scrub and of who reads it."""
    try:
        return words_of(codec.open(frame)[:split])
    except (Damaged, msgspec.DecodeError):
        return Words("", "")


# --- examination ------------------------------------------------------------------------

_IN_INDEX: Final = (
    "SELECT v.split, v.frame FROM resource r CROSS JOIN version v ON v.seq = r.seq"
    " WHERE r.rid = ? AND r.live = 1 AND r.seq <= ?"
)
_THEN: Final = (
    "SELECT split, frame FROM version"
    " WHERE seq <= ?1 AND ifnull(until > ?1, 1) AND method <> 'DELETE'"
)
_VOCABULARY: Final = "CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, words, 'col')"
_FORGET: Final = "DROP TABLE temp.vocabulary"
_TERMS: Final = "SELECT col, term, doc FROM temp.vocabulary"
_HELD: Final = "SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?"


def holds_words(connection: sqlite3.Connection, codec: Codec, rid: int) -> bool:
    """Whether the index has every word of a resource that it has followed to its present."""
    row = connection.execute(_IN_INDEX, (rid, position(connection))).fetchone()
    terms = _terms(_words(codec, *row)) if row is not None else ()
    query = " AND ".join(f'{column} : "{word}"' for column, word in terms)
    return not query or connection.execute(_HELD, (query, rid)).fetchone() is not None


def miscounted(connection: sqlite3.Connection, codec: Codec) -> int:
    """Words that the index has for another number of resources than there are with it."""
    expected: Counter[tuple[str, str]] = Counter()
    for split, frame in connection.execute(_THEN, (position(connection),)):
        expected.update(_terms(_words(codec, split, frame)))
    connection.execute(_VOCABULARY)
    try:
        found = {(column, term): count for column, term, count in connection.execute(_TERMS)}
    finally:
        connection.execute(_FORGET)
    return sum(found.get(key, 0) != expected[key] for key in found.keys() | expected.keys())


def _terms(words: Words) -> set[tuple[str, str]]:
    return {(column, word) for column, text in words._asdict().items() for word in text.split()}
