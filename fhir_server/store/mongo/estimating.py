"""How many resources a scan finds, about: for ``_total=estimate``.

The length of what drives the scan is counted in its index; of the first candidates some pass.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Final

from fhir_server.search.plan import Scan
from fhir_server.store.mongo.roads import BY_DATE
from fhir_server.store.mongo.view import View

SAMPLE: Final = 500
"""Candidates that are looked at."""


async def estimate(view: View, scan: Scan) -> int:
    """Exact where one index answers the whole scan, or few candidates drive it."""
    if view.at is not None:
        return await view.count(scan, None)
    scan = await view.narrowed(scan)
    road = await view.road(scan, BY_DATE)
    if road.way.index == "_id_" or not (road.tests or road.residual):
        return await view.count(scan, None)
    length = await view.counted(road.way.query, road.way.index, None)
    driver = replace(road, tests=[], residual=[], texts=[])
    looked = passing = 0
    async with aclosing(view.candidates(driver, BY_DATE, SAMPLE)) as batches:
        async for batch in batches:
            await view.join(scan.type, [scan.where], batch)
            looked += len(batch)
            passing += sum(view.holds(scan.where, row) for row in batch)
    return round(length * passing / looked) if looked else 0
