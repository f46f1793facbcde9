"""The first resources of many scans at once, such as a whole patient compartment.

Where each scan is nothing but posting lists, one statement merges the heads of all of them and
one more reads the bodies, instead of two for every type.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from fhir_server.search import plan
from fhir_server.search.plan import Scan
from fhir_server.store.sqlite.keys import FIRST, LAST, Keys, List, whole
from fhir_server.store.sqlite.probes import Looks, Prober, conjuncts
from fhir_server.store.sqlite.roads import texts_of
from fhir_server.store.sqlite.rows import Row, bears
from fhir_server.store.sqlite.streams import START, Order

MOST_LISTS: Final = 400
"""SQLite takes up to 500 parts of a compound statement."""


class Heads:
    """The posting lists that together are all of the scans."""

    def __init__(self, keys: Keys, looks: Looks) -> None:
        self._keys = keys
        self._looks = looks
        self._texts: dict[str, list[tuple[bytes, ...]]] = {}

    def statement(
        self, scans: tuple[Scan, ...], order: Order, want: int
    ) -> tuple[str, list[int]] | None:
        """SQL for (date, rid) of the first ``want``, with its parameters; None: the scans are
        not made of lists alone."""
        found: dict[List, None] = {}
        for scan in scans:
            lists = self._lists(scan)
            if lists is None or scan.type in self._texts:
                return None
            found.update(dict.fromkeys(lists))
            self._texts[scan.type] = [t for part in conjuncts(scan.where) for t in texts_of(part)]
        if len(found) > MOST_LISTS or any(one[2:] != (FIRST, LAST) for one in found):
            return None
        place = order.after or START[order.descending]
        params = [x for h, s, _, _ in found for x in (h, s, *place, want)]
        return _statement(len(found), order.descending), [*params, want]

    def _lists(self, scan: Scan) -> list[List] | None:
        if scan.where == plan.TRUE:
            return [whole(self._keys.everything(scan.type))]
        return Prober(self._keys, scan.type, self._looks).lists(scan.where)

    def mean(self, rows: list[Row]) -> bool:
        """False: a hash has collided, and only the long way tells such rows apart."""
        texts = self._texts
        for row in rows:
            wanted = texts.get(row.columns[1])
            if wanted is None or not bears(row, wanted):
                return False
        return True


@cache
def _statement(lists: int, descending: bool) -> str:
    if not lists:
        return "SELECT 0, 0 LIMIT 0 * ?"
    behind, way = ("<", "DESC") if descending else (">", "ASC")
    order = "".join((" ORDER BY date ", way, ", rid ", way, " LIMIT ?"))
    head = "".join(
        (
            "SELECT * FROM (SELECT date, rid FROM posting WHERE h = ? AND s = ? AND (date, rid) ",
            behind,
            " (?, ?)",
            order,
            ")",
        )
    )
    heads = " UNION ALL ".join([head] * lists)
    return "".join(("SELECT DISTINCT date, rid FROM (", heads, ")", order))
