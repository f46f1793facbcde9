"""Chains that are older than they are kept go, with their rows; a signed head says that they did.

``vehr audit verify`` can so tell a chain that went in its time from one that somebody took away.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from fhir_server.access.audit.chain import SUFFIX, Place, end_of
from fhir_server.access.audit.heads import KIND, HeadKey, is_removed, place_of
from fhir_server.access.audit.writes import KIND as ROWS
from fhir_server.access.commit import Commit
from fhir_server.store.ledger import Ledger, LedgerWrite, Row

DAY: Final = 86_400
AT_ONCE: Final = 1000
PAGE: Final = 10_000
"""Requests whose rows are looked at together."""


async def expire(folder: Path, key: HeadKey, ledger: Ledger, commit: Commit, days: int) -> int:
    """Removes the chains that did not grow for so many days; how many went. A chain whose head was
    signed by another data directory goes too, if its file is here. Raises OSError and Problem.
    """
    before = time.time() - days * DAY
    gone = 0
    for path in sorted(folder.glob("*" + SUFFIX)):
        if path.stat().st_mtime >= before:
            continue
        chain = path.name.removesuffix(SUFFIX)
        head = await ledger.get(KIND, chain)
        if head is None:
            continue  # a head that is missing is for a person to look at
        if not is_removed(head):
            await _forget(ledger, commit, key, _end(folder, head))
        path.unlink(missing_ok=True)
        gone += 1
    return gone


def _end(folder: Path, head: Row) -> Place:
    place = place_of(head)
    return end_of(folder, place) or place


async def _forget(ledger: Ledger, commit: Commit, key: HeadKey, place: Place) -> None:
    """First the head says it, so that rows which are gone are never taken for a fault."""
    now = int(time.time() * 1_000_000)
    await commit((key.row(place, now, closed=True, removed=True),))
    for page in range((place.n + PAGE) // PAGE + 1):
        rows = await ledger.scan(ROWS, f"{place.chain}/{page:08}")
        for some in _parts(rows):
            await commit(tuple(LedgerWrite(ROWS, row.key, None) for row in some))


def _parts(rows: list[Row]) -> list[list[Row]]:
    return [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
