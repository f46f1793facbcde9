"""Which posting lists have anything in them, so that nobody looks for the others row by row.

A question with many codes (what a model reads) names mostly lists that are empty: a code that the
record never has, or never as a component.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from fhir_server.store.sqlite.keys import List

REMEMBERED: Final = 65_536
TOGETHER: Final = 200
"""Lists of one statement."""


class Presence:
    """Lists that were seen to hold something are believed to: if one does not any more, it is
    looked through in vain. That one is empty is asked of the snapshot each time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._seen: set[tuple[int, int]] = set()

    def held(self, lists: Iterable[List]) -> list[List]:
        """Those of whole lists that may have rows, in their order."""
        wanted = list(lists)
        unknown = list(dict.fromkeys(li[:2] for li in wanted if li[:2] not in self._seen))
        found: set[tuple[int, int]] = set()
        for start in range(0, len(unknown), TOGETHER):
            some = unknown[start : start + TOGETHER]
            values = ", ".join(["(?, ?)"] * len(some))
            sql = "".join(
                (
                    "WITH v(h, s) AS (VALUES ",
                    values,
                    ") SELECT h, s FROM v WHERE EXISTS"
                    " (SELECT 1 FROM posting q WHERE q.h = v.h AND q.s = v.s)",
                )
            )
            found.update(self._connection.execute(sql, [x for pair in some for x in pair]))
        if len(self._seen) > REMEMBERED:
            self._seen.clear()
        self._seen |= found
        return [li for li in wanted if li[:2] in found or li[:2] in self._seen]
