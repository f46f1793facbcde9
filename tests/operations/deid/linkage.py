"""Can somebody who knows something of a person find that person's de-identified record?

The intruder knows that the person is in the data, holds some facts of the original record, and
claims the one de-identified record that fits them, if there is only one. Success is a claim that
is right, over all persons. What is known:

- ``a date``: of one contact, to the day;
- ``all dates``: of every contact, to the day;
- ``the rarest diagnosis``: the one that fewest people in the data have;
- ``a value``: one measurement with its code and day;
- ``birth date and sex``, and ``birth date, sex, place, race``;
- ``the whole record``: every date, diagnosis and value, of which the most have to fit;
- ``how often what``: how many resources of each type with each code and year there are.

The careful intruder knows besides how the data are made: that a hidden date may be any, that a
code may be shown as one above it, that a value is shown as one nearby, that dates may all have
been moved by the same number of days. ``combined`` is the careful one who knows birth date, sex,
the rarest diagnosis, one value with its day, and the dates of all contacts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from fhir_server.model.exchange import Json

DATES = ("effectiveDateTime", "onsetDateTime", "recordedDate", "authoredOn", "occurrenceDateTime")
MOST_DAYS = 50
Value = tuple[str, float, str]
HIDDEN = "*"


@dataclass(frozen=True)
class Facts:
    """What a record says, as it is written there. ``birth``: the years that it may lie in, or the
    day; ``place``: state, postal code, race. ``dates``, ``diagnoses`` hold ``*`` where one is
    hidden. ``values``: (code, value, date)."""

    birth: tuple[str, str]
    sex: str
    place: tuple[str, str, str]
    dates: frozenset[str]
    diagnoses: frozenset[str]
    values: frozenset[Value]
    often: Counter[tuple[str, str, str]] = field(default_factory=Counter)


def facts(resources: Sequence[Json]) -> Facts:
    [patient] = [one for one in resources if one["resourceType"] == "Patient"]
    return Facts(
        birth(patient),
        str(patient.get("gender", "")),
        place(patient),
        frozenset(date for one in resources for date in dated(one)),
        frozenset(c for one in resources for c in diagnosed(one)),
        frozenset(value for one in resources for value in measured(one)),
        Counter(counted(one) for one in resources),
    )


def counted(one: Json) -> tuple[str, str, str]:
    """A resource by its type, its code and the year of its date."""
    [code, *_] = [c["code"] for c in codes(one)] or [""]
    [year, *_] = [one[name][:4] for name in DATES if name in one] or [""]
    return one["resourceType"], code, year


def birth(patient: Json) -> tuple[str, str]:
    if "birthDate" in patient:
        return (patient["birthDate"],) * 2
    for extension in patient.get("_birthDate", {}).get("extension", ()):
        period = extension.get("valuePeriod")
        if period:
            return period["start"], period["end"]
    return "", ""


def place(patient: Json) -> tuple[str, str, str]:
    address = (patient.get("address") or [{}])[0]
    race = [str(e) for e in patient.get("extension", ()) if e["url"].endswith("us-core-race")]
    shown = race[0].split("'code': '")[1].split("'")[0] if race and "'code'" in race[0] else ""
    return address.get("state", ""), address.get("postalCode", ""), shown


def dated(one: Json) -> Iterator[str]:
    yield from (one[name][:10] for name in DATES if name in one)
    yield from (HIDDEN for name in DATES if f"_{name}" in one)
    if one["resourceType"] == "Encounter":
        for name, value in one.get("period", {}).items():
            yield value[:10] if not name.startswith("_") else HIDDEN


def diagnosed(one: Json) -> list[str]:
    if one["resourceType"] != "Condition":
        return []
    return [c["code"] for c in codes(one)] or [HIDDEN]


def codes(one: Json) -> list[dict[str, Any]]:
    return [c for c in one.get("code", {}).get("coding", ()) if "code" in c]


def measured(one: Json) -> Iterator[Value]:
    value = one.get("valueQuantity", {}).get("value")
    if value is not None and one["resourceType"] == "Observation":
        for coding in codes(one)[:1]:
            yield coding["code"], float(value), one.get("effectiveDateTime", HIDDEN)[:10]


def fits(known: str, shown: str) -> bool:
    """A date of the day against one that may be of the year alone."""
    return bool(shown) and known.startswith(shown)


def may_be(known: str, shown: str) -> bool:
    return shown == HIDDEN or fits(known, shown)


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


def dates_may_be(known: Facts, one: Facts) -> bool:
    """Could these be the dates of that record, some of them hidden?"""
    shown = one.dates - {HIDDEN}
    of_known = all(any(fits(date, other) for date in known.dates) for other in shown)
    covered = all(any(fits(date, other) for other in shown) for date in known.dates)
    return of_known and (covered or HIDDEN in one.dates)


def by_all_dates_with_care(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    return those(shown, lambda one: dates_may_be(known, one))


def days(dates: frozenset[str]) -> set[int]:
    return {date.fromisoformat(one).toordinal() for one in dates if len(one) == 10}


def by_intervals(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    """All dates, moved by the same number of days."""
    mine = days(known.dates)
    first = min(mine)

    def moved(one: Facts) -> bool:
        theirs = days(one.dates)
        near = [day - first for day in theirs if abs(day - first) <= MOST_DAYS]
        return any(theirs >= {day + by for day in mine} for by in near)

    return those(shown, moved)


def by_the_rarest_diagnosis(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    found = [those(shown, lambda one, c=code: c in one.diagnoses) for code in known.diagnoses]  # type: ignore[misc]
    return min((one for one in found if one), key=len, default=[])


def with_diagnosis(code: str, shown: Sequence[Facts]) -> list[int]:
    """Who shows it, or else one above it, or else hides one."""
    for length in range(len(code), 2, -1):
        found = those(shown, lambda one, c=code[:length]: c in one.diagnoses)  # type: ignore[misc]
        if found:
            return found
    return those(shown, lambda one: HIDDEN in one.diagnoses)


def by_the_rarest_diagnosis_with_care(
    known: Facts, shown: Sequence[Facts], _: random.Random
) -> list[int]:
    found = [with_diagnosis(code, shown) for code in known.diagnoses]
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


def nearest(known: Facts, shown: Sequence[Facts], chance: random.Random) -> list[int]:
    """Of one value the nearest that may be it."""
    if not known.values:
        return []
    code, value, date = chance.choice(sorted(known.values))
    distance = [
        min((abs(v - value) for c, v, d in one.values if c == code and may_be(date, d)), default=-1)
        for one in shown
    ]
    least = min((far for far in distance if far >= 0), default=-1)
    return [n for n, far in enumerate(distance) if far == least >= 0]


def born(known: Facts, one: Facts) -> bool:
    low, high = one.birth
    if low == high:
        return not low or fits(known.birth[0], low)
    return low <= known.birth[0][:4] <= high


def by_birth_and_sex(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    return those(shown, lambda one: bool(one.birth[0]) and born_of(known, one))


def born_of(known: Facts, one: Facts) -> bool:
    """A hidden sex may be any, as a hidden birth date may."""
    return born(known, one) and one.sex in ("", known.sex)


def by_demographics(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    def same(one: Facts) -> bool:
        pairs = zip(known.place, one.place, strict=True)
        return born_of(known, one) and all(mine.startswith(theirs) for mine, theirs in pairs)

    return those(shown, same)


def combined(known: Facts, shown: Sequence[Facts], chance: random.Random) -> list[int]:
    """What all of what is known leaves."""
    left = set(by_demographics(known, shown, chance))
    left &= set(by_the_rarest_diagnosis_with_care(known, shown, chance)) or left
    left &= set(by_all_dates_with_care(known, shown, chance)) or left
    left &= set(nearest(known, shown, chance)) or left
    return sorted(left)


def by_all(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    def score(one: Facts) -> int:
        dates = sum(any(fits(date, other) for other in one.dates) for date in known.dates)
        same = {value[:2] for value in known.values} & {value[:2] for value in one.values}
        return dates + len(known.diagnoses & one.diagnoses) + len(same)

    scores = [score(one) for one in shown]
    return [n for n, found in enumerate(scores) if found == max(scores)]


def by_how_often(known: Facts, shown: Sequence[Facts], _: random.Random) -> list[int]:
    """Most of what is shown of one has to be in what is known, and the other way round."""
    scores = [2 * (known.often & one.often).total() - one.often.total() for one in shown]
    return [n for n, found in enumerate(scores) if found == max(scores)]


SINGLE: dict[str, Attack] = {
    "a date": by_a_date,
    "all dates": by_all_dates,
    "all dates, with care": by_all_dates_with_care,
    "the rarest diagnosis": by_the_rarest_diagnosis,
    "the rarest diagnosis, with care": by_the_rarest_diagnosis_with_care,
    "a value": by_a_value,
    "a value, with care": nearest,
    "birth date and sex": by_birth_and_sex,
    "birth date, sex, place, race": by_demographics,
}
"""By one kind of thing: dates, rare codes, values, demographics."""

ATTACKS: dict[str, Attack] = SINGLE | {
    "intervals of all dates": by_intervals,
    "combined": combined,
    "the whole record": by_all,
    "how often what": by_how_often,
}
GUESSED = ("combined", "the whole record", "how often what")
"""Attacks after which who is left with several guesses."""


def success(original: Sequence[Facts], shown: Sequence[Facts]) -> dict[str, float]:
    """attack -> share of persons who are found. The n-th record shown is that of the n-th."""
    rates: dict[str, float] = {}
    for name, attack in ATTACKS.items():
        chance = random.Random(name)
        found = [attack(known, shown, chance) for known in original]
        rates[name] = sum(one == [n] for n, one in enumerate(found)) / len(original)
        if name in GUESSED:
            guesses = sum(1 / len(one) for n, one in enumerate(found) if n in one)
            rates[f"{name}, guessing"] = guesses / len(original)
    return rates
