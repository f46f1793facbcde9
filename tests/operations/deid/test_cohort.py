"""What a profile asks of sets: k people who look alike, in everything that is judged."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from fhir_server.model.exchange import Json
from operations.deid.cohort import codes
from operations.deid.cohort.declared import Declared, Quasi, declared
from operations.deid.cohort.demographics import RANGE
from operations.deid.cohort.judging import Cohort
from operations.deid.cohort.likeness import likeness
from operations.deid.cohort.sizes import kept
from operations.deid.cohort.telling import extension, told
from operations.deid.cohort.years import parts
from operations.deid.profile import ProfileError, parse
from operations.deid.run import DATA_ABSENT_REASON, Run

ICD = "http://hl7.org/fhir/sid/icd-10"
LOINC = "http://loinc.org"
QUASI = (Quasi("birthDate", "date", worth=8), Quasi("gender", "category"))
ASKED = Declared(3, QUASI)


def shown(resources: Sequence[Json], asked: Declared = ASKED, **parents: str) -> list[Json]:
    """As they are shown where the rules change nothing."""
    cohort, run = Cohort(asked), Run(2026, codes=lambda key: key.partition("/")[2])

    async def parent(_system: str, code: str) -> str | None:
        return parents.get(code)

    for one in resources:
        cohort.note(one, one, run)
    asyncio.run(cohort.settle(parent))
    made = [cohort.show(one, one, run) for one in resources]
    cohort.close()
    return [one for one in made if one is not None]


def patients(*births: str, gender: str = "female") -> list[Json]:
    return [
        {"resourceType": "Patient", "id": f"p{n}", "gender": gender, "birthDate": birth}
        for n, birth in enumerate(births)
    ]


def observed(patient: int, value: str, year: str = "2024", code: str = "1-8") -> Json:
    return {
        "resourceType": "Observation",
        "id": f"o{patient}-{value}-{year}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": f"Patient/p{patient}"},
        "effectiveDateTime": year,
        "valueQuantity": {"value": Decimal(value), "code": "mg"},
    }


def ill(patient: int, code: str, system: str = ICD) -> Json:
    return {
        "resourceType": "Condition",
        "id": f"c{patient}-{code}",
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": f"Patient/p{patient}"},
    }


def code_of(condition: Json) -> str:
    return str(condition["code"].get("coding", [{}])[0].get("code", ""))


def test_births_become_bands_that_k_share() -> None:
    made = shown(patients("1961", "1962", "1963", "1991", "1992", "1993"))
    bands = {one["_birthDate"]["extension"][1]["valuePeriod"]["start"] for one in made}
    assert bands == {"1960", "1990"} and not any("birthDate" in one for one in made)
    mark, band = made[0]["_birthDate"]["extension"]
    assert mark == {"url": DATA_ABSENT_REASON, "valueCode": "masked"} and band["url"] == RANGE
    assert {one["code"] for one in made[0]["meta"]["security"]} == {"ABSTRED"}
    same = patients("1961", "1961", "1961")
    assert shown(same) == same


def test_fewer_than_k_show_nothing() -> None:
    made = shown([*patients("1961", "1961"), observed(0, "5"), observed(1, "5"), ill(1, "E11.9")])
    assert not any({"birthDate", "gender", "effectiveDateTime"} & set(one) for one in made)
    assert not any("value" in one.get("valueQuantity", {}) for one in made)
    assert not any(code_of(one) for one in made if "code" in one)


def test_years_that_not_enough_share_are_hidden() -> None:
    years = dict.fromkeys(range(3), "2020 2024") | {3: "2024", 4: "2024"}
    years |= {n: f"{2000 + n} 2024" for n in (5, 6, 7)}
    found = [observed(n, "5", y) for n, text in years.items() for y in text.split()]
    made = shown([*patients(*["1961"] * 8), *found])[8:]
    seen: dict[str, set[str]] = defaultdict(set)
    for one in made:
        seen[one["subject"]["reference"]].add(one.get("effectiveDateTime", "*"))
    assert [seen[f"Patient/p{n}"] for n in (0, 2, 3, 5)] == [
        {"2020", "2024"}, {"2020", "2024"}, {"2024"}, {"*", "2024"},
    ]  # fmt: skip


def test_parts_show_only_what_all_of_them_have() -> None:
    people = {n: frozenset({2025, *range(2000 + n % 4, 2004)}) for n in range(40)}
    years, of = parts(people, 5)
    sizes = [of.count(n) for n in range(len(years))]
    assert min(sizes) >= 5 and sum(sizes) == 40 and len(years) > 1
    for person, part in zip(sorted(people), of, strict=True):
        assert 2025 in years[part] and years[part] <= people[person]
    assert parts({}, 5) == ([], [])


def test_a_rare_code_becomes_one_above_it() -> None:
    rare = [ill(0, "E11.65"), ill(1, "E11.9"), ill(2, "E11.21")]
    common = [ill(n, "I10") for n in range(4)]
    made = shown([*patients(*["1961"] * 4), *rare, *common])[4:]
    assert [code_of(one) for one in made] == ["E11"] * 3 + ["I10"] * 4


def test_above_may_be_what_the_terminology_says() -> None:
    snomed = "http://snomed.info/sct"
    found = [ill(n, code, snomed) for n, code in enumerate(("a", "b", "top"))]
    made = shown([*patients(*["1961"] * 3), *found], a="mid", b="mid", mid="top")[3:]
    assert [code_of(one) for one in made] == ["top"] * 3


def test_what_is_hidden_is_hidden_of_k_too() -> None:
    """One person alone without a code would be known by that."""
    groups = {"x": {1}, "y": {1, 2, 3}, "z": {1, 2, 3, 4, 5}}
    assert kept(groups, 3) == {"z"}
    assert kept({"y": {1, 2, 3}, "z": {4, 5, 6, 7}}, 3) == {"y", "z"}
    assert kept({"x": {1}}, 3) == set()
    made = shown([
        *patients(*["1961"] * 4), ill(0, "A00"), *(ill(n, "B00") for n in range(3)),
        *(ill(n, "C00") for n in range(4)),
    ])[4:]  # fmt: skip
    assert [code_of(one) for one in made] == ["", "", "", "", "C00", "C00", "C00", "C00"]


def test_values_become_the_mean_of_k_neighbours() -> None:
    values = ["1.0", "1.2", "1.1", "5.0", "5.0", "5.0", "9.9"]
    found = [observed(n, value) for n, value in enumerate(values)]
    made = shown([*patients(*["1961"] * 7), *found])[7:]
    assert [str(one["valueQuantity"]["value"]) for one in made] == ["1.1"] * 3 + ["6.2"] * 4
    assert made[0]["valueQuantity"]["code"] == "mg"


def test_one_persons_many_values_are_no_group() -> None:
    mine = [observed(0, str(n)) for n in range(6)]
    others = [observed(n, str(10 * n)) for n in range(1, 4)]
    made = shown([*patients(*["1961"] * 4), *mine, *others])[4:]
    values = defaultdict(set)
    for one in made:
        values[one["valueQuantity"]["value"]].add(one["subject"]["reference"])
    assert all(len(people) >= 3 for people in values.values())


def test_a_unit_that_few_use_does_not_tell_them() -> None:
    found = [observed(n, "5") for n in range(6)]
    found[0]["valueQuantity"]["code"] = "kg"
    made = shown([*patients(*["1961"] * 6), *found])[6:]
    assert sum("value" in one["valueQuantity"] for one in made) == 0
    assert all("value" in one["valueQuantity"] for one in shown([*patients(*["1961"] * 6),
        *(observed(n, "5") for n in range(6))])[6:])  # fmt: skip


def test_what_is_lent_tells_of_those_who_have_it() -> None:
    drug = {"resourceType": "Medication", "id": "m", "code": {"coding": [
        {"system": ICD, "code": "X1"}]}}  # fmt: skip
    asked = [
        {
            "resourceType": "MedicationRequest",
            "id": f"r{n}",
            "subject": {"reference": f"Patient/p{n}"},
            "medicationReference": {"reference": "Medication/m"},
        }
        for n in range(3)
    ]
    everybody = patients(*["1961"] * 3)
    assert shown([drug, *everybody, *asked])[0] == drug
    assert not code_of(shown([drug, *everybody, *asked[:2]])[0])


def test_who_tells_of_nobody_stays_and_what_is_of_several_shows_the_least() -> None:
    hospital = {"resourceType": "Organization", "id": "h", "type": [{"coding": [
        {"system": ICD, "code": "X"}]}]}  # fmt: skip
    both = {
        "resourceType": "Provenance",
        "id": "x",
        "target": [{"reference": "Observation/1"}],
        "recorded": "2024-01-01T00:00:00Z",
        "occurredDateTime": "2024-01-01",
    }
    everybody = patients(*["1961"] * 3)
    made = shown([hospital, both, *everybody, *(observed(n, "5") for n in range(3))])
    assert made[0] == hospital
    assert not {"recorded", "occurredDateTime"} & set(made[1])
    assert made[5]["effectiveDateTime"] == "2024"


def test_the_order_makes_no_difference() -> None:
    everybody = patients(*["1961", "1964", "1967", "1970", "1990", "1995", "1999"])
    found = [observed(n, str(n % 4), str(2020 + n % 3)) for n in range(7)]
    found += [ill(n, f"E1{n % 2}.{n}") for n in range(7)]
    one = shown([*everybody, *found])
    other = shown([*reversed(found), *reversed(everybody)])
    assert one == [*reversed(other[14:]), *reversed(other[:14])]


@pytest.mark.parametrize("flag", ["dates", "codes", "values"])
def test_each_may_be_left_as_it_is(flag: str) -> None:
    asked = Declared(3, QUASI, Fraction(0), **{flag: False})
    found = [observed(0, "1.5"), ill(0, "A00")]
    _, value, illness = shown([*patients("1961"), *found], asked)
    assert ("effectiveDateTime" in value) is (flag == "dates")
    assert (code_of(illness) == "A00") is (flag == "codes")
    assert ("value" in value["valueQuantity"]) is (flag == "values")


def test_a_place_and_whether_somebody_lives() -> None:
    everybody: list[Json] = patients(*["1961"] * 6)
    for n, one in enumerate(everybody):
        one["address"] = [{"state": "MA" if n else "VT", "postalCode": "021" if n % 2 else "028"}]
    everybody[2]["deceasedDateTime"] = "2024"
    quasi = (
        Quasi("address.state", "category"),
        Quasi("address.postalCode", "postal-code"),
        Quasi("deceased[x]", "category"),
    )
    made = shown(everybody, Declared(3, quasi, Fraction(0)))
    rows = defaultdict(int)
    for one in made:
        [place] = one["address"]
        rows[place.get("state"), place.get("postalCode"), "deceasedDateTime" in one] += 1
    assert min(rows.values()) >= 3


def test_what_is_told_holds_no_value() -> None:
    cohort, run = Cohort(ASKED), Run(2026)
    for one in [*patients("1961", "1962", "1963"), *(observed(n, "7.125") for n in range(3))]:
        cohort.note(one, one, run)
    asyncio.run(cohort.settle())
    text = str(told(cohort)) + str(extension(cohort))
    assert "k" in text and "birthDate: 5 years" in text
    assert not any(word in text for word in ("1961", "7.125", LOINC, "Patient/"))
    assert len({cohort.shown.digest() for _ in range(2)}) == 1


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ([], "an object"),
        ({}, "cohort.k"),
        ({"k": 1}, "cohort.k"),
        ({"k": True}, "cohort.k"),
        ({"k": 5, "size": 2}, "knows no size"),
        ({"k": 5, "dates": "no"}, "cohort.dates"),
        ({"k": 5, "dates": False, "together": True}, "cohort.together"),
        ({"k": 5, "suppress": 2}, "cohort.suppress"),
        ({"k": 5, "quasi": {}}, "a list"),
        ({"k": 5, "quasi": [{"path": "gender", "kind": "x"}]}, "quasi 0"),
        ({"k": 5, "quasi": [{"path": "gender", "extension": "u"}]}, "quasi 0"),
        ({"k": 5, "quasi": [{"path": "gender", "worth": 0}]}, "quasi 0"),
        ({"k": 5, "quasi": [{"path": "a", "kind": "date"}] * 6}, "too many"),
    ],
)
def test_a_cohort_that_means_nothing_does_not_load(given: Any, fault: str) -> None:
    findings: list[str] = []
    declared(given, findings)
    assert any(fault in one for one in findings), findings
    with pytest.raises(ProfileError, match="cohort"):
        parse("x", {"fhirPathRules": [], "cohort": given})


def test_icd_is_above_what_begins_with_it() -> None:
    assert codes.above(ICD, "E11.65") == "E11.6" and codes.above(ICD, "E11.6") == "E11"
    assert codes.above(ICD, "E11") is None and codes.above(LOINC, "1234-5") is None


TOGETHER = Declared(3, (QUASI[0], Quasi("gender", "category", worth=8)), together=True)


def likeness_of(made: Sequence[Json]) -> dict[str, list[str]]:
    """Of each patient everything that is shown, without ids."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in made:
        whose = one.get("subject", {}).get("reference", f"Patient/{one['id']}").split("/")[1]
        bare = {name: value for name, value in one.items() if name not in ("id", "subject")}
        found[whose].append(repr(sorted(bare.items())))
    return {whose: sorted(texts) for whose, texts in found.items()}


def test_together_everybody_is_like_k_minus_one_others_in_everything() -> None:
    everybody = patients(*["1961", "1964", "1967", "1970", "1990", "1995", "1999", "1999"])
    for one in everybody[1::2]:
        one["gender"] = "male"
    found = [observed(n, f"{n}.5", str(2020 + n % 2)) for n in range(8)]
    found += [observed(n, f"{n}.25", "2019", "other") for n in range(0, 8, 2)]
    found += [observed(n, f"{n}.75", "2018", "other") for n in range(0, 8, 2)]
    found += [ill(n, "A00") for n in range(0, 8, 2)] + [ill(3, "B00")]
    made = shown([*everybody, *found], TOGETHER)
    of = likeness_of(made)
    sizes = Counter(map(tuple, of.values()))
    assert len(of) == 8 and min(sizes.values()) >= 3, sizes
    values = [one["valueQuantity"]["value"] for one in made if "valueQuantity" in one]
    assert len(values) == 16 and {"2018", "2019", "2020", "2021"} <= {
        one.get("effectiveDateTime") for one in made
    }
    assert "A00" in map(code_of, (one for one in made if "code" in one))
    assert "B00" not in str(made)


def test_together_keeps_the_spread_of_a_persons_values() -> None:
    """The least of each person become one mean, the greatest another."""
    found = [observed(n, f"{v}{n}", str(v)) for n in range(3) for v in (10, 20)]
    for one in found:
        one["effectiveDateTime"] = "2020"
    made = shown([*patients(*["1961"] * 3), *found], TOGETHER)[3:]
    values = sorted(str(one["valueQuantity"]["value"]) for one in made)
    assert values == ["101"] * 3 + ["201"] * 3


def test_together_fewer_than_k_show_nothing() -> None:
    made = shown([*patients("1961", "1961"), observed(0, "5"), observed(1, "5")], TOGETHER)
    assert not any({"birthDate", "gender", "effectiveDateTime"} & set(one) for one in made)
    assert not any("value" in one.get("valueQuantity", {}) for one in made)


def test_together_no_link_but_to_the_patient_stays() -> None:
    found = [observed(n, "5") for n in range(3)]
    for n, one in enumerate(found):
        one["encounter"] = {"reference": f"Encounter/e{n}"}
    made = shown([*patients(*["1961"] * 3), *found], TOGETHER)[3:]
    assert len(made) == 3 and not any("Encounter" in str(one) for one in made)
    assert {one["subject"]["reference"] for one in made} == {f"Patient/p{n}" for n in range(3)}


def test_blocks_of_many_people() -> None:
    people = [1 << (n % 7) | 1 << (7 + n % 3) for n in range(1300)]
    of = likeness(people, 5)
    assert min(Counter(of).values()) >= 5 and max(Counter(of).values()) < 10
    assert likeness([1, 1], 5) == [-1, -1]
