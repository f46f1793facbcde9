"""A record, and what numbered cases find in it by the text of the specification."""

from __future__ import annotations

from typing import Any

from tests.serving import BASE

from .searching import Json

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
