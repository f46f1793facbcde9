"""Where in the files of the trail somebody is named: an index that can be thrown away.

Lines are taken together in blocks. Of each block the index knows from when to when it is and
which patients, agents, interactions and failures it has, so that a question about one patient
opens few blocks of many. It follows the files when it is asked; the last lines of a chain that
still grows belong to no block and are always looked at.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from fhir_server.access.audit.chain import SUFFIX
from fhir_server.access.audit.entry import FAILED, Decision, Entry
from fhir_server.model.problem import Unavailable

T = TypeVar("T")

FILE: Final = "audit-index.sqlite"
FOLDER: Final = "audit"
LINES: Final = 256
"""Lines of a block."""
STILL: Final = 60.0
"""Seconds after which a file that did not grow is indexed to its end."""
AT_ONCE: Final = 8_000_000
"""Bytes that one step reads."""
WAIT: Final = 30.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS file (
  id INTEGER PRIMARY KEY, chain TEXT NOT NULL UNIQUE, read INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS block (
  file INTEGER NOT NULL, place INTEGER NOT NULL, stop INTEGER NOT NULL,
  low INTEGER NOT NULL, high INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY (file, place)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS block_high ON block (high);
CREATE TABLE IF NOT EXISTS posting (
  name TEXT NOT NULL, file INTEGER NOT NULL, place INTEGER NOT NULL,
  PRIMARY KEY (name, file, place)) WITHOUT ROWID;
"""


class Block(NamedTuple):
    """A part of a file, ``[place, stop)``, and the moments (microseconds) that lie in it."""

    chain: str
    place: int
    stop: int
    low: int
    high: int


class Brief(msgspec.Struct):
    """What the index reads of a line."""

    n: int
    at: int = 0
    interaction: str = ""
    status: int = 0
    client: str = ""
    user: str = ""
    person: str = ""
    patients: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()


_PATIENT: Final = "Patient/"
BEGINNING: Final = 0
ENDLESS: Final = 2**62

_BRIEF: Final = msgspec.json.Decoder(Brief).decode


def names_of(line: Brief | Entry) -> Iterator[str]:
    """By what a line may be looked for: ``p:`` a patient (also one that acts), ``a:`` an agent,
    ``i:`` an interaction, ``s:`` the first digit of the status of a failure, ``d:`` there are
    decisions, ``d:deny`` some of them against somebody.
    """
    yield f"i:{line.interaction}"
    for patient in line.patients:
        yield f"p:{patient}"
    for agent in (line.client, line.user, line.person):
        if agent:
            yield f"a:{agent}"
    if line.person.startswith(_PATIENT):
        yield f"p:{line.person.removeprefix(_PATIENT)}"
    if line.status >= FAILED:
        yield f"s:{line.status // 100}"
    if line.decisions:
        yield "d:"
        if any(decision.outcome == "deny" for decision in line.decisions):
            yield "d:deny"
        for decision in line.decisions:
            yield f"p:{decision.patient}"


class TrailIndex:
    """Of one data directory; several processes may use it. Methods block: call them in a thread."""

    def __init__(self, data: Path) -> None:
        self._path = data / FILE
        self._folder = data / FOLDER
        self._lock = threading.Lock()
        self._base: sqlite3.Connection | None = None

    def close(self) -> None:
        with self._lock:
            if self._base is not None:
                self._base.close()
                self._base = None

    def blocks(
        self, low: int, high: int, names: Sequence[Collection[str]], most: int
    ) -> list[Block]:
        """Up to ``most`` blocks that touch ``[low, high)`` and have one of each of ``names``, the
        latest first, and before them what belongs to no block yet.
        """
        with self._lock:
            return self._safely(lambda: self._blocks(low, high, names, most))

    def block_of(self, chain: str, n: int) -> list[Block]:
        """Where line ``n`` of a chain may be."""
        with self._lock:
            return self._safely(lambda: self._block_of(chain, n))

    def _safely(self, look: Callable[[], T]) -> T:
        """Unavailable if it cannot be read now; what is damaged is made anew of the files."""
        try:
            return look()
        except (sqlite3.OperationalError, OSError) as error:
            text = "the audit trail cannot be read now"
            raise Unavailable(text, headers={"Retry-After": "5"}) from error
        except sqlite3.DatabaseError:
            self._discard()
            return look()

    def _block_of(self, chain: str, n: int) -> list[Block]:
        base = self._opened()
        self._follow(base)
        rows = base.execute(
            "SELECT place, stop, low, high FROM block JOIN file ON file.id = block.file "
            "WHERE chain = ? AND first <= ? AND last >= ?",
            (chain, n, n),
        )
        found = [Block(chain, *row) for row in rows]
        return found or [block for block in self._tails(base) if block.chain == chain]

    def _blocks(
        self, low: int, high: int, names: Sequence[Collection[str]], most: int
    ) -> list[Block]:
        base = self._opened()
        self._follow(base)
        wanted = [json.dumps(sorted(one)) for one in names[:_MOST_NAMES]]
        wanted += [""] * (_MOST_NAMES - len(wanted))
        first = wanted[0]
        query = _BY_NAME if first else _BY_TIME
        given = {"low": low, "high": high, "most": most, "a": first}
        given |= {"b": wanted[1], "c": wanted[2]}
        return [*self._tails(base), *(Block(*row) for row in base.execute(query, given))]

    def _opened(self) -> sqlite3.Connection:
        if self._base is None:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            base = sqlite3.connect(
                self._path, timeout=WAIT, isolation_level=None, check_same_thread=False
            )
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=OFF")
            base.executescript(_SCHEMA)
            self._base = base
        return self._base

    def _discard(self) -> None:
        if self._base is not None:
            self._base.close()
            self._base = None
        for end in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)

    def _files(self) -> list[tuple[str, int, float]]:
        """Chain, size, when it last grew."""
        try:
            with os.scandir(self._folder) as found:
                entries = [entry for entry in found if entry.name.endswith(SUFFIX)]
        except FileNotFoundError:
            return []
        files = []
        for entry in entries:
            try:
                seen = entry.stat()
            except FileNotFoundError:
                continue
            files.append((entry.name.removesuffix(SUFFIX), seen.st_size, seen.st_mtime))
        return sorted(files)

    def _known(self, base: sqlite3.Connection) -> dict[str, tuple[int, int]]:
        return {chain: (id_, read) for id_, chain, read in base.execute("SELECT * FROM file")}

    def _tails(self, base: sqlite3.Connection) -> list[Block]:
        known = self._known(base)
        found = []
        for chain, size, _ in self._files():
            read = known.get(chain, (0, 0))[1]
            if size > read:
                found.append(Block(chain, read, size, BEGINNING, ENDLESS))
        return found

    def _follow(self, base: sqlite3.Connection) -> None:
        """Whole blocks that are not in it yet, and the rest of files that do not grow."""
        files, known = self._files(), self._known(base)
        for chain in known.keys() - {chain for chain, _, _ in files}:
            self._forget(base, chain)
        for chain, size, grown in files:
            read = known.get(chain, (0, 0))[1]
            if size < read:
                self._forget(base, chain)
                read = 0
            still = time.time() - grown > STILL
            while size > read:
                before, read = read, self._take(base, chain, whole=still)
                if read == before:
                    break

    def _forget(self, base: sqlite3.Connection, chain: str) -> None:
        base.execute("BEGIN IMMEDIATE")
        for id_, _ in [known for name, known in self._known(base).items() if name == chain]:
            base.execute("DELETE FROM posting WHERE file = ?", (id_,))
            base.execute("DELETE FROM block WHERE file = ?", (id_,))
            base.execute("DELETE FROM file WHERE id = ?", (id_,))
        base.execute("COMMIT")

    def _take(self, base: sqlite3.Connection, chain: str, *, whole: bool) -> int:
        """One step through a file; how far it has been read then."""
        base.execute("BEGIN IMMEDIATE")
        try:
            base.execute("INSERT OR IGNORE INTO file (chain, read) VALUES (?, 0)", (chain,))
            row = base.execute("SELECT id, read FROM file WHERE chain = ?", (chain,)).fetchone()
            file, read = row
            with closing(open(self._folder / (chain + SUFFIX), "rb")) as source:
                source.seek(read)
                data = source.read(AT_ONCE)
            stop = read
            for block, names in _blocks_in(data, read, whole=whole and len(data) < AT_ONCE):
                stop = block[1]
                base.execute("INSERT INTO block VALUES (?,?,?,?,?,?,?)", (file, *block))
                rows = ((name, file, block[0]) for name in names)
                base.executemany("INSERT INTO posting VALUES (?,?,?)", rows)
            base.execute("UPDATE file SET read = ? WHERE id = ?", (stop, file))
            base.execute("COMMIT")
        except BaseException:
            base.execute("ROLLBACK")
            raise
        return int(stop)


_MOST_NAMES: Final = 3
_BY_NAME: Final = """
SELECT DISTINCT chain, block.place, stop, low, high
FROM posting p CROSS JOIN block ON block.file = p.file AND block.place = p.place
JOIN file ON file.id = block.file
WHERE p.name IN (SELECT value FROM json_each(:a)) AND high >= :low AND low < :high
AND (:b = '' OR EXISTS (SELECT 1 FROM posting q WHERE q.name IN (SELECT value FROM json_each(:b))
     AND q.file = block.file AND q.place = block.place))
AND (:c = '' OR EXISTS (SELECT 1 FROM posting q WHERE q.name IN (SELECT value FROM json_each(:c))
     AND q.file = block.file AND q.place = block.place))
ORDER BY high DESC LIMIT :most"""
_BY_TIME: Final = """
SELECT chain, block.place, stop, low, high FROM block JOIN file ON file.id = block.file
WHERE high >= :low AND low < :high ORDER BY high DESC LIMIT :most"""

Row = tuple[int, int, int, int, int, int]
"""Place, stop, low, high, first and last number of a block."""


def _blocks_in(data: bytes, place: int, *, whole: bool) -> Iterator[tuple[Row, set[str]]]:
    """The blocks of a piece of a file that begins at ``place``; ``whole``: also a short one at the
    end. Lines that cannot be read are passed over.
    """
    begin, stop, count = place, place, 0
    names: set[str] = set()
    moments: list[int] = []
    numbers: list[int] = []
    for raw in data.split(b"\n")[:-1]:
        stop, count = stop + len(raw) + 1, count + 1
        try:
            line = _BRIEF(raw)
        except msgspec.MsgspecError:
            continue
        if line.interaction:
            names.update(names_of(line))
            moments.append(line.at)
            numbers.append(line.n)
        if count == LINES:
            yield _row(begin, stop, moments, numbers), names
            begin, count, names, moments, numbers = stop, 0, set(), [], []
    if whole and count:
        yield _row(begin, stop, moments, numbers), names


def _row(begin: int, stop: int, moments: Sequence[int], numbers: Sequence[int]) -> Row:
    if not moments:
        return begin, stop, 0, -1, 0, -1
    return begin, stop, min(moments), max(moments), min(numbers), max(numbers)
