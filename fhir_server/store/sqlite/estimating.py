"""How many resources a scan finds, about: for ``_total=estimate``.

The length of what drives the scan is counted in its index; of the first candidates some pass.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Final

from fhir_server.search.plan import Scan
from fhir_server.store.sqlite.streams import BY_DATE
from fhir_server.store.sqlite.view import View

SAMPLE: Final = 500
"""Candidates that are looked at."""


def estimate(view: View, scan: Scan) -> int:
    """Exact where one index answers the whole scan, or few candidates drive it."""
    road = view.road(scan)
    if road.rids is not None or view.hidden:
        return view.count(scan, None)
    length = view.length(scan, road, None)
    if not road.probes and not road.residual:
        return length
    driver = replace(road, probes=[], residual=[])
    items = view.streams.open(scan.type, driver, BY_DATE, SAMPLE, bodies=False)
    rows = view.fetch([item[1] for item in islice(items, SAMPLE)])
    passing = sum(view.holds(scan.where, row) for row in rows)
    return round(length * passing / len(rows)) if rows else 0
