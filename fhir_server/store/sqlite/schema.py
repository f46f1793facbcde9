"""The database file: its tables, its migrations, its connections.

``version`` is the change feed and holds every body once; ``resource`` is what is current.
Everything a search needs is in three index tables without rowid:

- ``posting``: exact values. ``h`` hashes (kind, type, parameter, value), ``s`` the system,
  referred type or 0; every row bears the main clinical date, so a list is already sorted;
- ``string``: folded texts, for prefixes;
- ``span``: ranges of dates, numbers and quantities. ``h`` tells short from long ones
  (``keys.py``), so that a comparison with the upper end bounds the lower end too; ``s`` is
  the code of the resource that a quantity belongs to, or 0.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from fhir_server.model.problem import Unavailable
from fhir_server.store.sqlite import text

FILE: Final = "vehr.sqlite"

DELTAS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE dictionary (id INTEGER PRIMARY KEY, content BLOB NOT NULL)",
        """CREATE TABLE resource (
            rid INTEGER PRIMARY KEY, type TEXT NOT NULL, id TEXT NOT NULL,
            version INTEGER NOT NULL, seq INTEGER NOT NULL, updated INTEGER NOT NULL,
            date INTEGER NOT NULL, live INTEGER NOT NULL, UNIQUE (type, id))""",
        "CREATE INDEX resource_updated ON resource (type, updated) WHERE live = 1",
        """CREATE TABLE version (
            seq INTEGER PRIMARY KEY, rid INTEGER NOT NULL, version INTEGER NOT NULL,
            updated INTEGER NOT NULL, method TEXT NOT NULL, until INTEGER,
            split INTEGER NOT NULL, frame BLOB NOT NULL)""",
        "CREATE INDEX version_old ON version (rid, version) WHERE until IS NOT NULL",
        "CREATE INDEX version_until ON version (until) WHERE until IS NOT NULL",
        """CREATE TABLE posting (
            h INTEGER NOT NULL, s INTEGER NOT NULL, date INTEGER NOT NULL,
            rid INTEGER NOT NULL, PRIMARY KEY (h, s, date, rid)) WITHOUT ROWID""",
        """CREATE TABLE string (
            h INTEGER NOT NULL, text TEXT NOT NULL, rid INTEGER NOT NULL,
            PRIMARY KEY (h, text, rid)) WITHOUT ROWID""",
        """CREATE TABLE span (
            h INTEGER NOT NULL, s INTEGER NOT NULL, lo NOT NULL, hi NOT NULL,
            rid INTEGER NOT NULL, PRIMARY KEY (h, s, lo, rid, hi)) WITHOUT ROWID""",
        """CREATE TABLE counter (
            type TEXT PRIMARY KEY, live INTEGER NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE ledger (
            kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
            revision INTEGER NOT NULL, expires REAL, PRIMARY KEY (kind, key)) WITHOUT ROWID""",
        "CREATE INDEX ledger_expires ON ledger (expires) WHERE expires IS NOT NULL",
    ),
    text.DELTA,
)
"""Each delta leads from one schema version (``user_version``) to the next, the first from
``UNRELEASED``."""
UNRELEASED: Final = 1
"""Versions up to this were never released: their files are refused."""
VERSION: Final = UNRELEASED + len(DELTAS)


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection as every part of the store uses it. What it makes is its owner's alone: files of
    SQLite beside a database are given its mode."""
    if not readonly:
        # Never opened where it is there: closing it would end the locks of other connections.
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    place = path.absolute().as_uri() + ("?mode=ro" if readonly else "?mode=rwc")
    connection = sqlite3.connect(
        place, uri=True, isolation_level=None, cached_statements=512, check_same_thread=False
    )
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA mmap_size = 2147418112")
    connection.execute("PRAGMA cache_size = -32768")
    connection.execute("PRAGMA temp_store = MEMORY")
    if not readonly:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Rarer: the same pages are copied less often; each copy holds up the next group longer.
        connection.execute("PRAGMA wal_autocheckpoint = 8000")
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the schema up to date, one delta per transaction; a newer one is refused."""
    found = schema_version(connection)
    for number in range(max(found - UNRELEASED, 0), len(DELTAS)):
        connection.execute("BEGIN IMMEDIATE")
        for statement in DELTAS[number]:
            connection.execute(statement)
        connection.execute(_SET_VERSION[number])
        connection.execute("COMMIT")
    connection.execute(
        "INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_bytes(16),)
    )


_SET_VERSION: Final = tuple(
    " ".join(("PRAGMA user_version =", str(number)))
    for number in range(UNRELEASED + 1, VERSION + 1)
)


def schema_version(connection: sqlite3.Connection) -> int:
    """The schema version of this file, 0 for a new one; one that this program does not know
    is refused."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise Unavailable(
            f"the database has schema version {found}, this program knows {VERSION}: "
            "use the newer program"
        )
    if 0 < found <= UNRELEASED:
        raise Unavailable(
            f"the database has schema version {found} of an unreleased program: load it anew"
        )
    return found


SEQ: Final = "seq"
RID: Final = "rid"
_LAST: Final = {
    SEQ: "SELECT max(ifnull((SELECT max(seq) FROM version), 0),"
    " ifnull((SELECT value FROM meta WHERE name = 'seq'), 0))",
    RID: "SELECT max(ifnull((SELECT max(rid) FROM resource), 0),"
    " ifnull((SELECT value FROM meta WHERE name = 'rid'), 0))",
}


def last(connection: sqlite3.Connection, number: str) -> int:
    """The greatest ``SEQ`` or ``RID`` that was ever given, also if it is erased."""
    return int(connection.execute(_LAST[number]).fetchone()[0])


def hold(connection: sqlite3.Connection, number: str, value: int) -> None:
    """Nothing up to ``value`` will be given again."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (number, value))


def secret(connection: sqlite3.Connection) -> bytes:
    """The key of the posting hashes of this database."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()
    return bytes(row[0])
