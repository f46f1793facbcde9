"""More of searches, numbered as the conformance cases are: 26, 30 to 54 and 57.

Expected answers are read off https://hl7.org/fhir/R4/search.html, section by section.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.search import plan
from tests.serving import BASE, Server

from .searching import Both, Json, both, encoded, ids, link

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
FAR = "http://elsewhere.example.org/fhir"


def coded(code: str, system: str = LOINC) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def observation(id: str, **more: Any) -> Json:
    base = {"resourceType": "Observation", "id": id, "status": "final", "code": coded("1-8")}
    return {**base, **more}


def dated(id: str, **when: Any) -> Json:
    return {"resourceType": "Procedure", "id": id, "status": "completed",
            "subject": {"reference": "Patient/a"}, **when}  # fmt: skip


def risk(id: str, probability: float | int) -> Json:
    return {"resourceType": "RiskAssessment", "id": id, "status": "final",
            "subject": {"reference": "Patient/a"},
            "prediction": [{"probabilityDecimal": probability}]}  # fmt: skip


RECORD: list[Json] = [
    {"resourceType": "Patient", "id": "a", "birthDate": "1970-02-28", "active": True,
     "gender": "female", "name": [{"family": "O'Neill-Šťastný", "given": ["Mary Ann"],
                                   "prefix": ["Dr."]}, {"text": "Maid Marian"}],
     "address": [{"city": "Ľubľana", "country": "SI", "line": ["Main 1"]},
                 {"city": "Paris", "postalCode": "75001"}],
     "telecom": [{"system": "phone", "value": "+380 44 1", "use": "home"}],
     "identifier": [{"system": "urn:a", "value": "1"}, {"system": "urn:b", "value": "2"}],
     "meta": {"tag": [{"system": "urn:tag", "code": "x"}], "source": "urn:source:1",
              "security": [{"system": "urn:sec", "code": "R"}],
              "profile": ["http://example.org/p|1.0"]}},
    {"resourceType": "Patient", "id": "b", "birthDate": "1970-02", "active": False,
     "name": [{"family": "Neill"}], "address": [{"city": "Paris", "country": "SI"}],
     "identifier": [{"value": "1"}, {"system": "urn:a", "value": "2,"}]},
    {"resourceType": "Patient", "id": "c", "name": [{"family": "%"}, {"given": ["_"]}],
     "identifier": [{"system": "urn:b", "value": ".*"}, {"system": "urn:c", "value": "a\\b"}]},
    dated("day", performedDateTime="2024-03-10"),
    dated("minute", performedDateTime="2024-03-10T10:30:00+02:00"),
    dated("second", performedDateTime="2024-03-10T08:30:00.250Z"),
    dated("from", performedPeriod={"start": "2024-03-09"}),
    dated("until", performedPeriod={"end": "2024-03-11"}),
    dated("within", performedPeriod={"start": "2024-03-10T01:00:00Z",
                                     "end": "2024-03-10T02:00:00Z"}),
    dated("never"),
    risk("r100", 1), risk("r05", 0.5), risk("r0504", 0.504), risk("r055", 0.55),
    observation("q1", valueQuantity={"value": 5.4, "system": UCUM, "code": "mg", "unit": "mg"},
                subject={"reference": "Patient/a/_history/1"}, component=[
                    {"code": coded("x"), "valueQuantity": {"value": 1}},
                    {"code": coded("y"), "valueQuantity": {"value": 2}}]),
    observation("q2", valueQuantity={"value": 0.0054, "system": UCUM, "code": "g"},
                subject={"reference": f"{FAR}/Patient/a"}, code=coded("2-6"),
                effectiveDateTime="2024-01-02"),
    observation("q3", valueQuantity={"value": 5.4, "unit": "mg"},
                subject={"reference": f"{BASE}/Patient/b"}, effectiveDateTime="2024-01-01"),
    observation("t1", valueString="Über 100%", subject={"reference": "Patient/c"},
                note=[{"text": "x"}]),
    {"resourceType": "ValueSet", "id": "v", "status": "active",
     "url": "http://example.org/vs/Deep/one"},
    {"resourceType": "Group", "id": "g", "type": "person", "actual": True,
     "member": [{"entity": {"reference": "Patient/a"}}, {"entity": {"reference": "Patient/b"}}]},
]  # fmt: skip
PROCEDURES = {"day", "minute", "second", "from", "until", "within", "never"}
DATED = PROCEDURES - {"never"}

CASES: dict[int, list[tuple[str, set[str]]]] = {
    35: [
        ("Patient?_id=a,c", {"a", "c"}),
        ("Patient?_tag=urn:tag|x", {"a"}),
        ("Patient?_tag=x", {"a"}),
        ("Patient?_security=urn:sec|R", {"a"}),
        ("Patient?_source=urn:source:1", {"a"}),
        ("Patient?_profile=http://example.org/p", {"a"}),
        ("Patient?_lastUpdated=ge2020-01-01", {"a", "b", "c"}),
        ("Patient?_lastUpdated=lt2020-01-01", set()),
        ("?_type=Group,ValueSet&_lastUpdated=ge2020", {"g", "v"}),
    ],
    36: [
        ("Patient?name=o'neill-stast", {"a"}),
        ("Patient?name=mary", {"a"}),
        ("Patient?name=dr", {"a"}),
        ("Patient?name=maid", {"a"}),
        ("Patient?family=neill", {"b"}),
        ("Patient?family:contains=NEILL", {"a", "b"}),
        ("Patient?family:exact=O'Neill-Šťastný", {"a"}),
        ("Patient?family:exact=O'Neill-Stastny", set()),
        ("Patient?family:exact=O'Neill", set()),
        ("Patient?address=lublana", {"a"}),
        ("Patient?address=main", {"a"}),
        ("Patient?address=75", {"a"}),
        ("Patient?address-city=PARIS", {"a", "b"}),
        ("Observation?value-string=uber", {"t1"}),
    ],
    37: [
        ("Patient?name=%25", {"c"}),
        ("Patient?name=_", {"c"}),
        ("Patient?name:contains=%25", {"c"}),
        ("Patient?name:contains=.", {"a"}),
        ("Patient?name=.*", set()),
        ("Patient?name=^O", set()),
        ("Patient?name='", set()),
        ("Patient?name:contains='", {"a"}),
        ('Patient?name="', set()),
        ("Patient?name=' OR 1=1 --", set()),
        ("Patient?name={}", set()),
        ("Patient?name=\\$ne", set()),
        ("Patient?identifier=urn:b|.*", {"c"}),
        ("Patient?identifier=urn:b|.", set()),
        ("Patient?identifier=urn:a|2\\,", {"b"}),
        ("Patient?identifier=urn:c|a\\\\b", {"c"}),
        ("Observation?value-string=uber 100%25", {"t1"}),
        ("Observation?value-string=uber _00", set()),
    ],
    38: [
        ("Patient?identifier=urn:a|1,urn:b|.*", {"a", "c"}),
        ("Patient?identifier=urn:a|1&identifier=urn:b|2", {"a"}),
        ("Patient?identifier=urn:a|1&identifier=urn:b|.*", set()),
        # not of one repetition: Ľubľana is in SI, Paris has the code
        ("Patient?address-country=SI&address-city=paris", {"a", "b"}),
        ("Patient?gender=female,male&active=true", {"a"}),
    ],
    39: [
        ("Patient?identifier=1", {"a", "b"}),
        ("Patient?identifier=|1", {"b"}),
        ("Patient?identifier=urn:a|", {"a", "b"}),
        ("Patient?active=true", {"a"}),
        ("Patient?active=false", {"b"}),
        ("Patient?phone=+380 44 1", set()),  # a + in a query is a space
        ("Patient?phone=%2B380 44 1", {"a"}),
        ("Patient?telecom=|%2B380 44 1", {"a"}),  # a ContactPoint has no namespace
        ("Patient?telecom=phone|%2B380 44 1", set()),
        ("Group?actual=true", {"g"}),
        ("Group?type=person", {"g"}),
    ],
    40: [("Patient?gender=FEMALE", set()), ("Patient?identifier=URN:A|1", set())],
    41: [
        ("Patient?gender:not=female", {"b", "c"}),
        ("Patient?identifier:not=urn:a|1", {"b", "c"}),
        ("Patient?identifier:not=urn:a|1,urn:b|.*", {"b"}),
    ],
    43: [
        ("Patient?birthdate:missing=true", {"c"}),
        ("Patient?name:missing=false", {"a", "b", "c"}),
        ("Patient?_tag:missing=false", {"a"}),
        ("Patient?_profile:missing=true", {"b", "c"}),
        ("Procedure?date:missing=true", {"never"}),
        ("Observation?subject:missing=true", set()),
        ("Observation?value-quantity:missing=true", {"t1"}),
        ("Observation?patient.birthdate:missing=true", {"t1"}),
        ("Observation?subject:Patient.birthdate:missing=false", {"q1", "q3"}),
        ("ValueSet?url:missing=false", {"v"}),
        ("RiskAssessment?probability:missing=true", set()),
    ],
    44: [
        ("Procedure?date=2024-03-10", {"day", "minute", "second", "within"}),
        ("Procedure?date=eq2024-03", {"day", "minute", "second", "within"}),
        ("Procedure?date=ne2024-03-10", {"from", "until"}),
        ("Procedure?date=gt2024-03-10", {"from", "until"}),
        ("Procedure?date=lt2024-03-10", {"from", "until"}),
        ("Procedure?date=ge2024-03-10", DATED),
        ("Procedure?date=le2024-03-10", DATED),
        ("Procedure?date=sa2024-03-09", {"day", "minute", "second", "within"}),
        ("Procedure?date=eb2024-03-11", {"day", "minute", "second", "within"}),
        ("Procedure?date=sa2024-03-10", set()),
        ("Procedure?date=2024-03-10T08:30:00Z", {"minute", "second"}),
        ("Procedure?date=2024-03-10T08:30:00.250Z", {"second"}),
        ("Procedure?date=2024-03-10T10:30%2B02:00", {"minute", "second"}),
        ("Patient?birthdate=1970-02-28", {"a"}),
        ("Patient?birthdate=1970-02", {"a", "b"}),
        ("Patient?birthdate=gt1970-02-27", {"a", "b"}),
    ],
    45: [
        ("Procedure?date=ge2024-03-10T01:30:00Z&date=lt2024-03-10T01:45:00Z",
         {"from", "until", "within", "day"}),
        ("Procedure?date=ge2024-03-10&date=lt2024-03-11", DATED),
        ("Procedure?date=2024-03-10T08:30:00-00:00", {"minute", "second"}),
    ],
    46: [
        ("RiskAssessment?probability=0.5", {"r05", "r0504"}),
        ("RiskAssessment?probability=0.50", {"r05", "r0504"}),
        ("RiskAssessment?probability=0.500", {"r05"}),
        ("RiskAssessment?probability=5e-1", {"r05", "r0504"}),
        ("RiskAssessment?probability=gt0.5", {"r0504", "r055", "r100"}),
        ("RiskAssessment?probability=ge0.5", {"r05", "r0504", "r055", "r100"}),
        ("RiskAssessment?probability=lt0.504", {"r05"}),
        ("RiskAssessment?probability=ne0.5", {"r055", "r100"}),
        ("RiskAssessment?probability=1", {"r05", "r0504", "r055", "r100"}),
        ("RiskAssessment?probability=1.0", {"r100"}),
    ],
    47: [
        (f"Observation?value-quantity=5.4|{UCUM}|mg", {"q1", "q2"}),
        (f"Observation?value-quantity=0.0054|{UCUM}|g", {"q1", "q2"}),
        ("Observation?value-quantity=5.4||mg", {"q1", "q3"}),
        ("Observation?value-quantity=5.4", {"q1", "q3"}),
        (f"Observation?value-quantity=gt5|{UCUM}|mg", {"q1", "q2"}),
        ("Observation?value-quantity=lt1", {"q2"}),
        ("Observation?value-quantity=ap5||mg", {"q1", "q3"}),
    ],
    48: [
        ("Observation?subject=Patient/a", {"q1"}),
        ("Observation?subject=a", {"q1"}),
        ("Observation?subject=Patient/a/_history/1", {"q1"}),
        ("Observation?subject=Patient/a/_history/2", set()),
        (f"Observation?subject={BASE}/Patient/b", {"q3"}),
        (f"Observation?subject={FAR}/Patient/a", {"q2"}),
        ("Observation?subject=Device/a", set()),
        ("Observation?subject:Patient=c", {"t1"}),
        ("Group?member=Patient/a", {"g"}),
    ],
    49: [
        ("ValueSet?url=http://example.org/vs/Deep/one", {"v"}),
        ("ValueSet?url=http://example.org/vs/deep/one", set()),
        ("ValueSet?url=http://example.org/vs/Deep", set()),
        ("ValueSet?url:below=http://example.org/vs/Deep", {"v"}),
        ("ValueSet?url:below=http://example.org/vs/De", set()),
        ("ValueSet?url:above=http://example.org/vs/Deep/one/two", {"v"}),
    ],
    50: [
        ("Observation?component-code-value-quantity=x$1", {"q1"}),
        ("Observation?component-code-value-quantity=x$2", set()),
        ("Observation?component-code-value-quantity=y$gt1,x$lt0", {"q1"}),
        (f"Observation?code-value-quantity={LOINC}|2-6$lt1", {"q2"}),
        (f"Observation?combo-code-value-quantity={LOINC}|x$1,{LOINC}|1-8$5.4||mg", {"q1", "q3"}),
    ],
    51: [
        ("Observation?subject:Patient._id=a", {"q1"}),
        ("Observation?subject.identifier=urn:b|.*", {"t1"}),
        ("Observation?subject:Patient.name:exact=Neill", {"q3"}),
        ("Observation?subject:Patient.gender:not=male", {"q1", "q3", "t1"}),
    ],
    52: [
        ("Patient?_has:Observation:subject:code=1-8", {"a", "b", "c"}),
        ("Patient?_has:Group:member:actual=true&_has:Observation:patient:_id=q3", {"b"}),
        ("Observation?subject:Patient._has:Group:member:_id=g", {"q1", "q3"}),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("lines")) as servers:
        servers.put(*RECORD)
        yield servers


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(query, expected, id=f"c{number}-{query}")
        for number, rows in CASES.items()
        for query, expected in rows
    ],
)
def test_each_numbered_case(record: Both, query: str, expected: set[str]) -> None:
    bundle = record.bundle(f"{query}&_count=100")
    assert set(ids(bundle)) == expected and bundle["total"] == len(expected)


def test_c26_links_are_absolute_and_the_last_page_has_no_next(record: Both) -> None:
    pages = record.pages("Procedure?_count=3&date:missing=false")
    assert [len(ids(page)) for page in pages] == [3, 3]
    for page in pages:
        assert all(one["url"].startswith(f"{BASE}/Procedure?") for one in page["link"])
    assert link(pages[-1], "next") is None


def test_c30_a_count_over_the_most_is_clamped_and_says_so(record: Both) -> None:
    assert "_count=1000" in (link(record.bundle("Patient?_count=1000000"), "self") or "")


@pytest.mark.parametrize(
    ("wanted", "cut"),
    [
        ("_elements=status", {"q3"}),  # "does not apply to included resources"
        ("_elements=status,Patient.gender", {"q3", "b"}),
        ("_elements=Patient.gender", {"q3", "b"}),
        ("_summary=true", {"q3", "b"}),
        ("_summary=data", {"q3", "b"}),
    ],
)
def test_c31_what_is_left_of_includes(record: Both, wanted: str, cut: set[str]) -> None:
    bundle = record.bundle(f"Observation?_id=q3&_include=Observation:subject&{wanted}")
    shown = {e["resource"]["id"]: e["resource"] for e in bundle["entry"]}
    tagged = {
        id
        for id, found in shown.items()
        if any(tag["code"] == "SUBSETTED" for tag in found["meta"].get("tag", ()))
    }
    assert tagged == cut and set(shown) == {"q3", "b"}
    assert ("name" in shown["b"]) == ("_elements" not in wanted or "b" not in cut)
    assert "code" in shown["q3"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("Patient?birthdate:below=1970", ":below"),
        ("Patient?gender:contains=f", ":contains"),
        ("Patient?birthdate=xx1970", "birthdate"),
        ("RiskAssessment?probability=zz0.5", "probability"),
        ("Observation?value-quantity=~5", "value-quantity"),
    ],
)
def test_c32_modifiers_and_prefixes_are_never_passed_over(
    record: Both, query: str, named: str
) -> None:
    for prefer in ({}, {"prefer": "handling=lenient"}, {"prefer": "handling=strict"}):
        record.refused(query, named, headers=prefer)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("Patient?birthdate=2024-13", "birthdate"),
        ("Patient?birthdate=2024-02-30", "birthdate"),
        ("Patient?_lastUpdated=yesterday", "_lastUpdated"),
        ("RiskAssessment?probability=half", "probability"),
        ("Observation?_include=Observation:code", "code"),
        ("Observation?_revinclude=Observation:code", "code"),
        ("Patient?_id=a b", "_id"),
    ],
)
def test_c33_values_that_are_none_are_refused(record: Both, query: str, named: str) -> None:
    record.refused(query, named)


def test_c34_post_merges_the_parameters_of_url_and_body(record: Both) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    place = encoded("Procedure/_search?date=2024-03-10")
    for server in record.servers:
        answer = server.send("POST", place, content=b"_id=day,from", headers=form)
        assert ids(answer.json()) == ids(
            server.get("Procedure?date=2024-03-10&_id=day,from").json()
        )
        assert ids(answer.json()) == ["day"]


def test_c53_a_reference_to_a_version_includes_the_resource(record: Both) -> None:
    bundle = record.bundle("Observation?_id=q1&_include=Observation:subject&_count=1")
    assert ids(bundle, "include") == ["a"] and bundle["total"] == 1


SORTED = [
    ("Observation?_sort=value-quantity,_id", ["q1", "q2", "q3", "t1"]),
    ("Observation?_sort=date", ["q3", "q2", "q1", "t1"]),
    ("RiskAssessment?_sort=probability", ["r05", "r0504", "r055", "r100"]),
    ("RiskAssessment?_sort=-probability", ["r100", "r055", "r0504", "r05"]),
    ("Patient?_sort=family,_id", ["c", "b", "a"]),
    ("Patient?_sort=-birthdate", ["a", "b", "c"]),
    ("Patient?_sort=birthdate,-_id", ["b", "a", "c"]),
    ("Patient?_sort=-active,_id", ["a", "b", "c"]),
    ("Patient?_sort=_profile,_id", ["a", "b", "c"]),
]


@pytest.mark.parametrize(("query", "expected"), SORTED)
def test_c54_order(record: Both, query: str, expected: list[str]) -> None:
    assert record.ids(query) == expected
    pages = record.pages(f"{query}&_count=1")
    assert [id for page in pages for id in ids(page)] == expected


def test_c56_an_estimate_is_about_right(record: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of exact totals, which is made small here."""
    monkeypatch.setattr(plan, "TOTAL_LIMIT", 2)
    for query, true in (("Procedure?", 7), ("Procedure?status=completed", 7),
                        ("Procedure?status=completed&date=ge2024&_sort=_id", 5)):  # fmt: skip
        for server in record.servers:
            answer = server.get(f"{query}&_total=estimate&_count=1").json()
            assert abs(answer["total"] - true) <= 1, (query, answer["total"])
            assert "total" not in server.get(f"{query}&_count=1").json()
            assert server.get(f"{query}&_total=accurate&_count=1").json()["total"] == true


def test_c56_an_estimate_says_nothing_of_what_is_hidden(
    secured: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "TOTAL_LIMIT", 2)
    every = secured.bearer("system/*.cruds")
    for name in ("a", "b"):
        secured.put(f"Patient/{name}", {"resourceType": "Patient", "id": name}, headers=every)
    for number in range(8):
        subject = {"reference": f"Patient/{'ab'[number % 2]}"}
        secured.create(observation(str(number), subject=subject), headers=every)
    own = secured.bearer("patient/*.rs", patient="a")
    query = "Observation?status=final&_total=estimate&_count=1"
    assert "total" not in secured.get(query, headers=own).json()
    assert secured.get(query, headers=every).json().get("total", 8) == 8


def test_c57_a_write_is_found_at_once(record: Both) -> None:
    for number in range(3):
        made = observation("fresh", code=coded(f"fresh-{number}"))
        record.put(made)
        assert record.ids(f"Observation?code=fresh-{number}") == ["fresh"]
        assert record.ids(f"Observation?code=fresh-{number - 1}") == []
    record.delete("Observation/fresh")
    assert record.ids("Observation?code=fresh-2") == []
