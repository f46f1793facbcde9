"""Whole records, counted: which resources all people of a part have, and what stands for their
numbers. Noted in a SQLite file without a name, as the census is.

Resources are told apart by a sign: their form, their codes as they are shown, and their years;
where not all of a part have one of that, by the same without the years.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from .forms import Form, Sign
from .shown import rounded
from .walk import Number

MOST_FEATURES: Final = 2048
MOST_ALIKE: Final = 8
"""Resources of one sign that are counted in a likeness."""

_TABLES: Final = """
CREATE TABLE whole (key INTEGER PRIMARY KEY, p INTEGER, form BLOB, codes TEXT, years TEXT);
CREATE TABLE figure (key INTEGER, n INTEGER, value REAL, places INTEGER, PRIMARY KEY (key, n))
WITHOUT ROWID;
CREATE TABLE said (p INTEGER, name TEXT, text TEXT, PRIMARY KEY (p, name)) WITHOUT ROWID;
CREATE TABLE part (p INTEGER PRIMARY KEY, part INTEGER);
CREATE TABLE size (part INTEGER PRIMARY KEY, people INTEGER);
CREATE TABLE signed (sign INTEGER, p INTEGER, key INTEGER, PRIMARY KEY (sign, p, key))
WITHOUT ROWID;
CREATE TABLE kept (key INTEGER PRIMARY KEY, part INTEGER, sign INTEGER, place INTEGER,
dated INTEGER);
CREATE TABLE mean (part INTEGER, sign INTEGER, place INTEGER, n INTEGER, value REAL,
places INTEGER, PRIMARY KEY (part, sign, place, n)) WITHOUT ROWID;
"""
_KEEP: Final = """
INSERT INTO kept SELECT key, part, sign, place, ?1 FROM (
  SELECT key, part, sign, row_number() OVER (PARTITION BY sign, p ORDER BY key) AS place
  FROM signed JOIN part USING (p)
) JOIN (
  SELECT part, sign, min(n) AS least FROM (
    SELECT part, sign, p, count(*) AS n FROM signed JOIN part USING (p) GROUP BY 1, 2, 3
  ) JOIN size USING (part) GROUP BY 1, 2 HAVING count(*) = max(people)
) USING (part, sign) WHERE place <= least
"""
_MEAN: Final = """
INSERT INTO mean SELECT part, sign, place, n, avg(value), max(places) FROM (
  SELECT part, sign, n, value, places,
    row_number() OVER (PARTITION BY p, sign, n ORDER BY value) AS place
  FROM kept JOIN whole USING (key) JOIN figure USING (key)
) GROUP BY 1, 2, 3, 4
"""


class Kept(NamedTuple):
    """Of a resource that is shown. ``dated``: with its years."""

    dated: bool
    means: list[Number]


class Wholes:
    """Of one set. ``note`` every resource of a patient, ``part`` the people, then ask."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.executescript("PRAGMA temp_store=FILE; PRAGMA journal_mode=OFF;" + _TABLES)
        self._db.execute("BEGIN")

    def close(self) -> None:
        self._db.close()

    def note(self, key: int, p: int, form: Form) -> None:
        said = (key, p, form.digest, json.dumps(form.codes), " ".join(form.years))
        self._db.execute("INSERT OR REPLACE INTO whole VALUES (?, ?, ?, ?, ?)", said)
        rows = [(key, n, float(v), places(v)) for n, v in enumerate(form.numbers)]
        self._db.executemany("INSERT OR REPLACE INTO figure VALUES (?, ?, ?, ?)", rows)

    def say(self, p: int, texts: Mapping[str, str]) -> None:
        """What a Patient says besides its quasi-identifiers."""
        rows = [(p, name, text) for name, text in texts.items()]
        self._db.executemany("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", rows)

    def sign(self, shown: Mapping[Sign, str | None], dated: bool) -> None:
        """Every resource that is not yet kept. ``shown``: of codes what they are shown as."""

        def sign(form: bytes, codes: str, years: str) -> int:
            seen = [(path, shown.get((path, key))) for path, key in json.loads(codes)]
            text = repr((form, seen, years.split(" ") if dated else years.count(" ")))
            return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1

        self._db.create_function("sign", 3, sign, deterministic=True)
        self._db.execute("DELETE FROM signed")
        self._db.execute(
            "INSERT INTO signed SELECT sign(form, codes, years), p, key FROM whole"
            " WHERE key NOT IN (SELECT key FROM kept)"
        )

    def features(self, k: int) -> list[tuple[tuple[int, int], int, int]]:
        """((sign, how often), how many people, person), of those that most people have."""
        query = (
            "WITH often AS (SELECT sign, p, min(count(*), ?1) AS n FROM signed GROUP BY 1, 2),"
            " level(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM level WHERE n < ?1),"
            " step AS (SELECT sign, level.n AS n, count(*) AS people FROM often"
            " JOIN level ON level.n <= often.n GROUP BY 1, 2 HAVING people >= ?2"
            " ORDER BY people DESC, 1, 2 LIMIT ?3)"
            " SELECT sign, step.n, people, p FROM step JOIN often USING (sign)"
            " WHERE often.n >= step.n"
        )
        rows = self._db.execute(query, (MOST_ALIKE, k, MOST_FEATURES))
        return [((sign, n), people, p) for sign, n, people, p in rows]

    def part(self, parts: Mapping[int, int]) -> None:
        """Which part each person belongs to; who is not named shows nothing."""
        self._db.executemany("INSERT INTO part VALUES (?, ?)", parts.items())
        self._db.execute("INSERT INTO size SELECT part, count(*) FROM part GROUP BY 1")

    def keep(self, dated: bool) -> None:
        """Of each sign as many as everybody of the part has."""
        self._db.execute(_KEEP, (dated,))

    def average(self) -> None:
        """After all are kept: of each sign the least values of all, the next, and so on."""
        self._db.execute(_MEAN)

    def kept(self, key: int) -> Kept | None:
        """None: it is not shown."""
        row = self._db.execute("SELECT part, sign, place, dated FROM kept WHERE key = ?", (key,))
        found = row.fetchone()
        if found is None:
            return None
        part, sign, place, dated = found
        query = (
            "SELECT value, places FROM mean WHERE part = ? AND sign = ? AND place = ? ORDER BY n"
        )
        rows = self._db.execute(query, (part, sign, place))
        return Kept(bool(dated), [rounded(value, places_) for value, places_ in rows])

    def agreed(self) -> dict[int, frozenset[str]]:
        """Of each part the names by which all of it say the same."""
        query = (
            "SELECT part, name FROM said JOIN part USING (p) JOIN size USING (part)"
            " GROUP BY 1, 2 HAVING count(*) = max(people) AND count(DISTINCT text) = 1"
        )
        found: dict[int, set[str]] = {}
        for part, name in self._db.execute(query):
            found.setdefault(part, set()).add(name)
        return {part: frozenset(names) for part, names in found.items()}

    def figures(self) -> tuple[int, int]:
        """How many resources there are, and how many are shown."""
        [whole] = self._db.execute("SELECT count(*) FROM whole").fetchone()
        [kept] = self._db.execute("SELECT count(*) FROM kept").fetchone()
        return int(whole), int(kept)

    def tell(self) -> Iterable[bytes]:
        """The same where the same would be shown of the same."""
        for query in (
            "SELECT * FROM part ORDER BY p",
            "SELECT * FROM kept ORDER BY key",
            "SELECT * FROM mean ORDER BY part, sign, place, n",
        ):
            for row in self._db.execute(query):
                yield repr(row).encode()


def places(value: Number) -> int:
    """Decimal places, as it is written."""
    if isinstance(value, int):
        return 0
    exponent = value.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
