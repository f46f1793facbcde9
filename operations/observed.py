"""What operations on Observations read of them: https://hl7.org/fhir/R4/observation.html"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server.model.datatypes import PAST, parse_datetime
from fhir_server.model.exchange import Json


def effective(observation: Json) -> int:
    """The beginning of the effective time in microseconds; PAST without one."""
    for text in _moments(observation):
        try:
            return parse_datetime(text).lo
        except ValueError:
            continue
    return PAST


def _moments(observation: Json) -> Iterator[str]:
    period = observation.get("effectivePeriod", {})
    timing = observation.get("effectiveTiming", {})
    bounds = timing.get("repeat", {}).get("boundsPeriod", {})
    found: list[Any] = [
        observation.get("effectiveDateTime"),
        observation.get("effectiveInstant"),
        period.get("start"),
        period.get("end"),
        *sorted(event for event in timing.get("event", ()) if isinstance(event, str)),
        bounds.get("start"),
        bounds.get("end"),
    ]
    return (text for text in found if isinstance(text, str))


def codings(concept: Json | None) -> list[tuple[str, str]]:
    """(system, code) of each coding."""
    found = (concept or {}).get("coding", ())
    return [(c.get("system", ""), c["code"]) for c in found if c.get("code")]
