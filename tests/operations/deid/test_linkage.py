"""Can somebody who knows something of a person find that person's de-identified record?

The adversary knows that the person is in the data, holds some facts of the original record, and
claims the one de-identified record that fits them all, if there is only one. Success is a claim
that is right, over all persons. What is known:

- ``a date``: of one contact, to the day;
- ``all dates``: of every contact, to the day;
- ``the rarest diagnosis``: the one that fewest people in the data have;
- ``a value``: one measurement with its code and day;
- ``birth date and sex``;
- ``all``: every date, diagnosis and value, of which the most have to fit.

The last is somebody who holds the record already: to stop that, codes and values would have to go.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_canary import YEAR
from test_patients import clinosim

from fhir_server.model.exchange import Json
from operations.deid.engine import Deidentifier, profiles
from operations.deid.keys import ProjectKey
from operations.deid.run import Run
from tests.prove.conftest import Row, proven, scaled

__all__ = ["proven"]
DATES = ("effectiveDateTime", "onsetDateTime", "recordedDate", "authoredOn", "occurrenceDateTime")
Value = tuple[str, str, str]


@dataclass(frozen=True)
class Facts:
    """What a record says, as it is written there. ``values``: (code, value, date)."""

    birth: str
    sex: str
    dates: frozenset[str]
    diagnoses: frozenset[str]
    values: frozenset[Value]


def facts(resources: Sequence[Json]) -> Facts:
    [patient] = [one for one in resources if one["resourceType"] == "Patient"]
    return Facts(
        str(patient.get("birthDate", "")),
        str(patient.get("gender", "")),
        frozenset(date for one in resources for date in dated(one)),
        frozenset(c["code"] for one in resources for c in codes(one, "Condition")),
        frozenset(value for one in resources for value in measured(one)),
    )


def dated(one: Json) -> Iterator[str]:
    yield from (one[name][:10] for name in DATES if name in one)
    if one["resourceType"] == "Encounter":
        yield from (text[:10] for text in one.get("period", {}).values() if isinstance(text, str))


def codes(one: Json, type_: str) -> list[dict[str, Any]]:
    if one["resourceType"] != type_:
        return []
    return [c for c in one.get("code", {}).get("coding", ()) if "code" in c]


def measured(one: Json) -> Iterator[Value]:
    value = one.get("valueQuantity", {}).get("value")
    if value is not None:
        for coding in codes(one, "Observation")[:1]:
            yield coding["code"], str(value), one.get("effectiveDateTime", "")[:10]


def fits(known: str, shown: str) -> bool:
    """A date of the day against one that may be of the year alone."""
    return bool(shown) and known.startswith(shown)


Attack = Callable[[Facts, Sequence[Facts], random.Random], list[int]]
"""(what is known, the de-identified records, chance) -> those that fit."""


def those(shown: Sequence[Facts], fit: Callable[[Facts], bool]) -> list[int]:
    return [n for n, one in enumerate(shown) if fit(one)]


def by_a_date(known: Facts, shown: Sequence[Facts], chance: random.Random) -> list[int]:
    date = chance.choice(sorted(known.dates))
    return those(shown, lambda one: any(fits(date, other) for other in one.dates))


def by_all_dates(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    return those(
        shown,
        lambda one: all(any(fits(date, other) for other in one.dates) for date in known.dates),
    )


def by_the_rarest_diagnosis(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    found = [those(shown, lambda one, c=code: c in one.diagnoses) for code in known.diagnoses]  # type: ignore[misc]
    return min((one for one in found if one), key=len, default=[])


def by_a_value(known: Facts, shown: Sequence[Facts], chance: random.Random) -> list[int]:
    if not known.values:
        return []
    code, value, date = chance.choice(sorted(known.values))
    return those(
        shown,
        lambda one: any(
            (code, value) == other[:2] and fits(date, other[2]) for other in one.values
        ),
    )


def by_birth_and_sex(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    return those(shown, lambda one: fits(known.birth, one.birth) and known.sex == one.sex)


def by_all(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    def score(one: Facts) -> int:
        dates = sum(any(fits(date, other) for other in one.dates) for date in known.dates)
        same = {value[:2] for value in known.values} & {value[:2] for value in one.values}
        return dates + len(known.diagnoses & one.diagnoses) + len(same)

    scores = [score(one) for one in shown]
    return [n for n, found in enumerate(scores) if found == max(scores)]


ATTACKS: dict[str, Attack] = {
    "a date": by_a_date,
    "all dates": by_all_dates,
    "the rarest diagnosis": by_the_rarest_diagnosis,
    "a value": by_a_value,
    "birth date and sex": by_birth_and_sex,
    "all": by_all,
}


def success(original: Sequence[Facts], shown: Sequence[Facts]) -> dict[str, float]:
    """attack -> share of persons who are found. The n-th record shown is that of the n-th."""
    rates: dict[str, float] = {}
    for name, attack in ATTACKS.items():
        chance = random.Random(name)
        right = sum(attack(known, shown, chance) == [n] for n, known in enumerate(original))
        rates[name] = right / len(original)
    return rates


def released(profile: Deidentifier, records: Sequence[Sequence[Json]]) -> list[Facts]:
    """All records through one run, as in an export."""
    run = Run(YEAR, key=ProjectKey("study", 1, b"k" * 32))
    return [facts([profile.resource(one, run) for one in record]) for record in records]


def records_of(shared: Path, count: int) -> list[list[Json]]:
    """Of each patient what is in the compartment."""
    shared_by_all = ("Organization", "Practitioner", "PractitionerRole", "Location")
    return [
        [
            entry["resource"]
            for entry in bundle["entry"]
            if entry["resource"]["resourceType"] not in shared_by_all
        ]
        for bundle in clinosim(shared, count)
    ]


def test_the_attack_finds_everybody_where_nothing_is_hidden(shared: Path) -> None:
    original = [facts(record) for record in records_of(shared, 12)]
    rates = success(original, original)
    assert rates["all"] == 1.0 and rates["birth date and sex"] == 1.0
    assert rates["all dates"] > 0.9


def test_a_day_leads_to_fewer(shared: Path) -> None:
    records = records_of(shared, 12)
    original = [facts(record) for record in records]
    plain = success(original, original)
    for profile in profiles():
        rates = success(original, released(profile, records))
        less = rates["a date"] < plain["a date"] and rates["a value"] < plain["a value"]
        assert less is (profile.profile.code != "limited")


@pytest.mark.prove
def test_linkage(shared: Path, proven: Row) -> None:
    records = records_of(shared, scaled(246))
    original = [facts(record) for record in records]
    plain = success(original, original)
    for profile in profiles():
        rates = success(original, released(profile, records))
        code = profile.profile.code
        if code == "safe-harbor":
            assert rates["a date"] <= 0.01
        told = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items())
        before = ", ".join(f"{name} {rate:.1%}" for name, rate in plain.items())
        proven(
            f"linkage {code}",
            "somebody who knows this of a person claims the only record that fits; clinosim",
            f"{len(records)} patients",
            f"right: {told}; in the original: {before}",
        )
