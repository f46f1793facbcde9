"""Time travel: when a consent begins and ends to hold, to the microsecond, where the clock changes.

https://hl7.org/fhir/R4/datatypes.html#Period: an end without a time is the end of that day (month,
year). Kyiv puts its clock on at 2024-03-31T01:00Z and back at 2024-10-27T01:00Z.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.access.consent.asking import Facts, Reader
from fhir_server.access.consent.decision import Rules, decide
from fhir_server.access.consent.provisions import consent_of
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.resource import Key
from tests.access.consent.test_decision import RELATING

Json = dict[str, Any]
KYIV = ZoneInfo("Europe/Kyiv")
FACTS = Facts(Key("Observation", "o"), patients=("p",))

PERIODS = {
    "a day": ("2024-02-10", "2024-02-10", "2024-02-09T22:00:00Z", "2024-02-10T22:00:00Z"),
    "the short day": ("2024-03-31", "2024-03-31", "2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z"),
    "the long day": ("2024-10-27", "2024-10-27", "2024-10-26T21:00:00Z", "2024-10-27T22:00:00Z"),
    "a month": ("2024-10", "2024-10", "2024-09-30T21:00:00Z", "2024-10-31T22:00:00Z"),
    "a year": ("2024", "2024", "2023-12-31T22:00:00Z", "2024-12-31T22:00:00Z"),
    "seconds": (
        "2024-10-27T03:30:00+03:00",
        "2024-10-27T03:30:00+02:00",
        "2024-10-27T00:30:00Z",
        "2024-10-27T01:30:01Z",
    ),
    "another offset": (
        "2024-06-01T00:00:00+14:00",
        "2024-06-01T00:00:00-11:00",
        "2024-05-31T10:00:00Z",
        "2024-06-01T11:00:01Z",
    ),
}


def permits(period: Json, now: int) -> bool:
    consent = consent_of(
        {
            "resourceType": "Consent",
            "id": "c",
            "status": "active",
            "patient": {"reference": "Patient/p"},
            "provision": {"type": "permit", "period": period},
        },
        1,
        KYIV,
    )
    assert consent is not None
    rules = Rules({"p": (consent,)}, RELATING, "deny")
    return decide(FACTS, "r", Reader(now=now), rules).permitted


@pytest.mark.parametrize("name", PERIODS)
def test_it_holds_from_its_first_instant_to_its_last(name: str) -> None:
    start, end, first, behind = PERIODS[name]
    begins, ends = parse_instant(first), parse_instant(behind)
    period = {"start": start, "end": end}
    for now, expected in ((begins - 1, False), (begins, True), (ends - 1, True), (ends, False)):
        assert permits(period, now) is expected, (name, now)


@pytest.mark.parametrize("name", PERIODS)
def test_open_ends_are_open(name: str) -> None:
    start, end, first, behind = PERIODS[name]
    begins, ends = parse_instant(first), parse_instant(behind)
    far = 10**15
    assert permits({"start": start}, begins + far) and not permits({"start": start}, begins - 1)
    assert permits({"end": end}, ends - far) and not permits({"end": end}, ends)
