"""Spellings, keys and weights: do records of one person meet, and those of two not?"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhir_server.search.plan import Any as AnyOf
from fhir_server.search.plan import TokenIs
from operations.match import blocks
from operations.matching.person import patient_keys, person
from operations.matching.spelling import skeleton, sounds, words
from operations.matching.weights import Comparison, compare, distance

Json = dict[str, Any]
LANGUAGES = ("uk_UA", "ru_RU")


def lists(shared: Path, language: str) -> dict[str, list[tuple[str, str]]]:
    """List -> (native, Latin) names."""
    table = json.loads((shared / "i18n" / f"names-{language}.json").read_text("utf-8"))
    return {k: [(r["name"], r["latin"]) for r in rows] for k, rows in table["lists"].items()}


def patient(family: str, *given: str, **others: Any) -> Json:
    return {"resourceType": "Patient", "name": [{"family": family, "given": list(given)}]} | others


def meet(one: Json, stored: Json) -> bool:
    """Do the searches for ``one`` find ``stored``?"""
    keys = {token.code for token in patient_keys(stored)}
    for where in blocks(person(one)):
        assert isinstance(where, AnyOf)
        for part in where.parts:
            assert isinstance(part, TokenIs)
            if part.code in keys:
                return True
    return False


def judged(one: Json, other: Json) -> Comparison:
    return compare(person(one), person(other))


@pytest.mark.parametrize("language", LANGUAGES)
def test_native_and_latin_spellings_sound_the_same(shared: Path, language: str) -> None:
    pairs = [pair for rows in lists(shared, language).values() for pair in rows]
    same = sum(bool(set(sounds(a)) & set(sounds(b))) for a, b in pairs)
    print(f"{language}: {same} of {len(pairs)} sound the same")
    assert same / len(pairs) >= 0.99


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_names_sound_otherwise(shared: Path, language: str) -> None:
    """The comparison above can fail: each name against the Latin form of another."""
    for rows in lists(shared, language).values():
        others = [latin for _, latin in rows[1:]]
        same = sum(
            bool(set(sounds(a)) & set(sounds(b))) for (a, _), b in zip(rows, others, strict=False)
        )
        assert same / len(rows) <= 0.1


def test_published_transliterations_sound_the_same(shared: Path) -> None:
    """The samples of each schema: the words of the two columns."""
    tables = [*sorted((shared / "i18n" / "iuliia").glob("*.json"))]
    tables.append(shared / "i18n" / "ukraine_kmu_55_2010.json")
    found = total = 0
    for path in tables:
        for native, latin in json.loads(path.read_text("utf-8"))["samples"]:
            if len(words(native)) == len(words(latin)):
                for a, b in zip(words(native), words(latin), strict=True):
                    total += 1
                    bones = [{skeleton(s) for s in sounds(word)} for word in (a, b)]
                    found += bool(bones[0] & bones[1])
    print(f"{found} of {total} words of samples have one skeleton")
    assert found / total >= 0.95


def crowd(shared: Path, language: str, size: int, seed: int) -> Iterator[tuple[Json, Json]]:
    """Distinct people of the language: (in Cyrillic, the same in Latin letters)."""
    chance, names = random.Random(seed), lists(shared, language)
    for _ in range(size):
        sex = chance.choice(("female", "male"))
        parts = [names[f"{part}_names_{sex}"] for part in ("last", "first", "middle")]
        chosen = [chance.choice(rows) for rows in parts]
        born = date(1940, 1, 1) + timedelta(days=chance.randrange(27_000))
        others = {"birthDate": born.isoformat(), "gender": sex}
        native, latin = ([pair[i] for pair in chosen] for i in (0, 1))
        yield patient(*native, **others), patient(*latin, **others)


def slip(name: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(name) - 1)
    letter = chance.choice([c for c in name.lower() if c.isalpha()])
    return chance.choice(
        (
            name[:at] + name[at + 1 :],
            name[:at] + letter + name[at:],
            name[:at] + letter + name[at + 1 :],
            name[: at - 1] + name[at] + name[at - 1] + name[at + 1 :],
        )
    )


TWINS = str.maketrans("аеорсухі", "aeopcyxi")


def damaged(one: Json, kind: str, chance: random.Random) -> Json:
    """The record as somebody else might have written it."""
    family, given = one["name"][0]["family"], list(one["name"][0]["given"])
    year, month, day = one["birthDate"].split("-")
    born = one["birthDate"]
    match kind:
        case "family slip" if len(family) > 3:
            family = slip(family, chance)
        case "given slip" if len(given[0]) > 3:
            given[0] = slip(given[0], chance)
        case "look-alikes":
            family, given[0] = family.translate(TWINS), given[0].translate(TWINS)
        case "swapped":
            family, given[0] = given[0], family
        case "no patronymic":
            given = given[:1]
        case "date slip":
            born = f"{year}-{month}-{(int(day) % 28) + 1:02}"
        case "day and month" if int(day) <= 12:
            born = f"{year}-{day}-{month}"
        case "year slip":
            born = f"{int(year) + 1}-{month}-{day}"
    return patient(family, *given, birthDate=born, gender=one["gender"])


KINDS = (
    "same",
    "family slip",
    "given slip",
    "look-alikes",
    "swapped",
    "no patronymic",
    "date slip",
    "day and month",
    "year slip",
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_person_in_two_scripts_is_found(shared: Path, language: str) -> None:
    """Recall: the Latin record finds the Cyrillic one by key, and is graded a match."""
    people = list(crowd(shared, language, 600, 1))
    found = sum(
        meet(latin, native) and judged(latin, native).grade == "certain" for native, latin in people
    )
    print(f"{language}: recall of Latin against Cyrillic spelling {found / len(people):.3f}")
    assert found / len(people) >= 0.95
    for kind in KINDS:
        chance = random.Random(kind)
        rows = [(native, damaged(native, kind, chance)) for native, _ in people[:300]]
        good = ("certain", "probable")
        hits = sum(meet(other, one) and judged(other, one).grade in good for one, other in rows)
        print(f"{language}: recall with {kind}: {hits / len(rows):.3f}")
        assert hits / len(rows) >= 0.95, kind


def kin(one: Json, other: Json) -> Iterator[Json]:
    """Other people who resemble ``one``; ``other`` gives what differs."""
    (name,), (theirs,) = one["name"], other["name"]
    family, (given, further) = name["family"], name["given"]
    own = {"birthDate": one["birthDate"], "gender": one["gender"]}
    if theirs["given"][0] != given:
        yield patient(family, theirs["given"][0], further, **own)  # a twin
        yield patient(family, theirs["given"][0], further, birthDate=other["birthDate"])
        yield patient(theirs["family"], theirs["given"][0], **own)  # born on the same day
    yield patient(family, given, birthDate=other["birthDate"], gender=one["gender"])  # a namesake


@pytest.mark.parametrize("language", LANGUAGES)
def test_distinct_people_are_not_taken_for_one(shared: Path, language: str) -> None:
    """Precision: of all pairs that are judged a match, how many are one person?"""
    people = list(crowd(shared, language, 1500, 2))
    strangers = list(crowd(shared, language, 400, 3))
    people += [
        (near, near)
        for (native, _), (other, _) in zip(people[:400], strangers, strict=True)
        for near in kin(native, other)
    ]
    by_key: dict[str, set[int]] = {}
    for number, (native, _) in enumerate(people):
        for token in patient_keys(native):
            by_key.setdefault(token.code, set()).add(number)
    right = wrong = 0
    for number, (_, latin) in enumerate(people[:400]):
        near = set().union(*(by_key.get(t.code, set()) for t in patient_keys(latin)))
        for other in near:
            if judged(latin, people[other][0]).grade in ("certain", "probable"):
                right += other == number
                wrong += other != number
    print(f"{language}: {right} right, {wrong} wrong: precision {right / (right + wrong):.3f}")
    assert right / (right + wrong) >= 0.9


BORN = {"birthDate": "1980-03-07", "gender": "male"}
IVAN = patient("Коваленко", "Іван", "Петрович", **BORN)


@pytest.mark.parametrize(
    ("other", "grade"),
    [
        (patient("Kovalenko", "Ivan", **BORN), "certain"),
        (patient("Кoвaленкo", "Івaн", **BORN), "certain"),  # Latin o and a
        (patient("KOBAЛEHKO", "IBAH", **BORN), "certain"),  # Latin capitals but one
        (patient("Ковалнеко", "Іван", **BORN), "certain"),
        (patient("Іван", "Коваленко", **BORN), "certain"),
        (patient("Kovalenko", "Ivan", birthDate="1980-07-03"), "probable"),
        (patient("Kovalenko", "Ivan"), "possible"),
        (patient("Kovalenko", "I", birthDate="1980-03-07"), "probable"),
        (patient("Коваленко", "Степан", "Петрович", **BORN), "possible"),  # a twin
        (patient("Коваленко", "Іван", "Петрович", birthDate="1952-11-21"), "possible"),
        (patient("Шевченко", "Тарас", **BORN), None),
        (patient("Kovalenko", "Maria", birthDate="1990-01-01", gender="female"), None),
        ({"resourceType": "Patient", "name": [{"text": "Ivan Kovalenko"}]} | BORN, "certain"),
    ],
)
def test_grades(other: Json, grade: str | None) -> None:
    found = judged(other, IVAN)
    assert found.grade == grade, (found, found.weight)
    assert 0 <= found.score <= 1
    assert judged(IVAN, other).weight == pytest.approx(found.weight)


def test_what_else_agrees_or_not_moves_the_weight() -> None:
    passport = {"system": "urn:passport", "value": "КМ 123456"}
    base = IVAN | {"identifier": [passport]}
    plain = judged(patient("Kovalenko", "Ivan"), IVAN).weight

    def with_(**more: Any) -> Comparison:
        return judged(patient("Kovalenko", "Ivan") | more, base | _RECORD)

    assert with_(identifier=[passport | {"value": "км123456"}]).found["identifier"] == "same"
    assert with_(identifier=[{"value": "КМ-123456"}]).found["identifier"] == "value"
    assert with_(identifier=[passport | {"value": "КМ 123465"}]).found["identifier"] == "typo"
    assert with_(identifier=[passport | {"value": "АА 999999"}]).weight < plain
    assert "identifier" not in with_(identifier=[{"system": "urn:x", "value": "1"}]).found
    phone = [{"system": "phone", "value": "0 (50) 123-45-67"}]
    assert with_(telecom=phone).found["contact"] == "same"
    assert with_(telecom=phone).weight > plain
    assert with_(address=[{"city": "Kyiv"}]).found["address"] == "city"
    street = [{"city": "Kyiv", "line": ["vul. Khreshchatyk, 1"]}]
    assert with_(address=street).found["address"] == "line"


_RECORD: Json = {
    "telecom": [{"system": "phone", "value": "+38 050 123 45 67"}],
    "address": [{"city": "Київ", "postalCode": "01001", "line": ["вул. Хрещатик, 1"]}],
}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Ivan"},
        {"name": [None, 1, {"family": 1, "given": "x"}]},
        {"birthDate": 1980, "gender": [], "identifier": [{}], "telecom": [{"value": 1}]},
        {"name": [{"family": "🙂", "given": ["--", "'"]}], "birthDate": "1980-99"},
        {"name": [{"family": "山田", "given": ["太郎"]}]},
    ],
)
def test_records_of_any_shape_are_read(value: Json) -> None:
    one = {"resourceType": "Patient"} | value
    assert isinstance(list(patient_keys(one)), list)
    judged(one, one)


def test_distance() -> None:
    assert [distance("abc", other, 2) for other in ("abc", "acb", "ab", "xbcd", "q")] == [
        0, 1, 1, 2, 3,
    ]  # fmt: skip
