"""Two small worlds, and what queries find in them by the text of the specification."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .world import BASE, World

UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"


def patient(id: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, **more}


def observation(id: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id, "status": "final", **more}


def quantity(value: str, unit: str, **more: Any) -> dict[str, Any]:
    return {"value": Decimal(value), "unit": unit, "system": UCUM, "code": unit, **more}


def code(*codings: tuple[str, str], text: str = "") -> dict[str, Any]:
    coded = [{k: v for k, v in (("system", s), ("code", c)) if v} for s, c in codings]
    return {"coding": coded} | ({"text": text} if text else {})


PEOPLE = World(
    patient(
        "ivan",
        name=[{"family": "Шевченко", "given": ["Іван", "Йосип"]}, {"text": "Ivan  Shevchenko"}],
        gender="male",
        birthDate="1970-05-01",
        active=True,
        address=[{"line": ["Хрещатик 1"], "city": "Київ", "postalCode": "01001"}],
        telecom=[{"system": "phone", "value": "555"}, {"system": "email", "value": "i@x.org"}],
        identifier=[{"system": "urn:a", "value": "A|1"}, {"value": "bare"}],
        generalPractitioner=[{"reference": "Practitioner/doc"}],
    ),
    patient(
        "renee",
        name=[{"family": "Müller-Straße", "given": ["Renée"]}],
        gender="female",
        birthDate="1980",
        deceasedBoolean=False,
        identifier=[{"system": "urn:a", "value": "a|1"}, {"system": "urn:b", "value": "x,y"}],
        managingOrganization={"reference": "Organization/org"},
    ),
    patient("empty", deceasedDateTime="2020-01-01"),
    {
        "resourceType": "Practitioner",
        "id": "doc",
        "name": [{"family": "House"}],
        "active": True,
    },
    {"resourceType": "Organization", "id": "org", "name": "General 100%_\\ Hospital"},
    {
        "resourceType": "List",
        "id": "mine",
        "entry": [
            {"item": {"reference": "Patient/ivan"}},
            {"item": {"reference": "Practitioner/doc"}},
        ],
    },
    {"resourceType": "Group", "id": "g", "member": [{"entity": {"reference": "Patient/ivan"}}]},
)


PEOPLE_ROWS = [
    # string: starts with, without case and accents, any part
    ("Patient?name=шевч", ["ivan"]),
    ("Patient?name=ШЕВЧЕНКО", ["ivan"]),
    ("Patient?name=иосип", ["ivan"]),
    ("Patient?name=йосип", ["ivan"]),
    ("Patient?name=ivan shev", ["ivan"]),
    ("Patient?name=shev", []),
    ("Patient?name=renee", ["renee"]),
    ("Patient?name=RENÉE,ivan", ["ivan", "renee"]),
    ("Patient?family=muller-strasse", ["renee"]),
    ("Patient?family=renee", []),
    ("Patient?name:exact=Renée", ["renee"]),
    ("Patient?name:exact=Renee", []),
    ("Patient?name:exact=renée", []),
    ("Patient?name:contains=нко", ["ivan"]),
    ("Patient?name=müller&name=renee", ["renee"]),
    ("Patient?name=müller&name=ivan", []),
    ("Patient?address=київ", ["ivan"]),
    ("Patient?address-city=ки", ["ivan"]),
    ("Patient?address=хрещатик", ["ivan"]),
    # characters that mean something to SQL or regular expressions are literal
    ("Organization?name=general 100%_\\\\", ["org"]),
    ("Organization?name=general%", []),
    ("Organization?name=gen_ral", []),
    ("Organization?name:contains=.*", []),
    # token
    ("Patient?gender=male", ["ivan"]),
    ("Patient?gender=http://hl7.org/fhir/administrative-gender|male", ["ivan"]),
    ("Patient?gender=http://hl7.org/fhir/administrative-gender|", ["ivan", "renee"]),
    ("Patient?gender=urn:other|male", []),
    ("Patient?gender=|male", ["ivan"]),
    ("Patient?gender=male,female", ["ivan", "renee"]),
    ("Patient?gender:not=male", ["empty", "renee"]),
    ("Patient?gender:not=male,female", ["empty"]),
    ("Patient?gender:missing=true", ["empty"]),
    ("Patient?gender:missing=false", ["ivan", "renee"]),
    ("Patient?active=true", ["ivan"]),
    ("Patient?deceased=true", ["empty"]),
    ("Patient?deceased=false", ["ivan", "renee"]),
    ("Patient?identifier=urn:a|A\\|1", ["ivan", "renee"]),
    ("Patient?identifier=A\\|1", ["ivan", "renee"]),
    ("Patient?identifier=a\\|1", ["ivan", "renee"]),
    ("Patient?identifier=x\\,y", ["renee"]),
    # the parts of a family name
    ("Patient?family=strasse", ["renee"]),
    ("Patient?name=straße", ["renee"]),
    ("Patient?family:exact=Straße", []),
    ("Patient?family:exact=Müller-Straße", ["renee"]),
    ("Patient?name=traße", []),
    ("Patient?identifier=urn:a|", ["ivan", "renee"]),
    ("Patient?identifier=|bare", ["ivan"]),
    ("Patient?identifier=|A\\|1", []),
    ("Patient?identifier=bare", ["ivan"]),
    ("Patient?phone=555", ["ivan"]),
    ("Patient?email=555", []),
    ("Patient?telecom=i@x.org", ["ivan"]),
    # date
    ("Patient?birthdate=1970-05-01", ["ivan"]),
    ("Patient?birthdate=1970", ["ivan"]),
    ("Patient?birthdate=1980-05-01", []),
    ("Patient?birthdate=lt1980-06", ["ivan", "renee"]),
    ("Patient?birthdate=gt1980-06", ["renee"]),
    ("Patient?birthdate=ge1970-05-01&birthdate=le1970-05-01", ["ivan"]),
    ("Patient?birthdate=ne1970", ["renee"]),
    ("Patient?birthdate=eb1980", ["ivan"]),
    ("Patient?birthdate=sa1979", ["renee"]),
    ("Patient?birthdate=ap1978", ["renee"]),
    # id
    ("Patient?_id=ivan,renee,none", ["ivan", "renee"]),
    ("Patient?_id=ivan&gender=female", []),
    # chains and _has
    ("Patient?general-practitioner.name=house", ["ivan"]),
    ("Patient?general-practitioner:Practitioner.name=house", ["ivan"]),
    ("Patient?general-practitioner:Organization.name=house", []),
    ("Patient?general-practitioner.name:missing=false", ["ivan"]),
    ("Patient?general-practitioner._id=doc", ["ivan"]),
    ("Patient?organization.name=general", ["renee"]),
    ("Patient?_has:Group:member:_id=g", ["ivan"]),
    ("Practitioner?_has:Patient:general-practitioner:_has:Group:member:_id=g", ["doc"]),
    ("Practitioner?_has:Patient:general-practitioner:gender=female", []),
    ("Group?member:Patient.general-practitioner.name=house", ["g"]),
    ("Group?member=Patient/ivan", ["g"]),
    ("Group?member=ivan", ["g"]),
    ("Group?member:Device=ivan", []),
    # _list
    ("Patient?_list=mine", ["ivan"]),
    ("Practitioner?_list=mine,other", ["doc"]),
    ("Patient?_list=none", []),
    # _filter
    ('Patient?_filter=given eq "іван"', ["ivan"]),
    ('Patient?_filter=given eq "ів"', []),
    ('Patient?_filter=given sw "ів"', ["ivan"]),
    ('Patient?_filter=family co "straß"', ["renee"]),
    ('Patient?_filter=family ew "strasse"', ["renee"]),
    ('Patient?_filter=given ne "іван"', ["renee"]),
    ("Patient?_filter=gender eq male or gender eq female", ["ivan", "renee"]),
    ("Patient?_filter=gender eq male or gender eq female and birthdate lt 1970", ["ivan"]),
    ("Patient?_filter=(gender eq male or gender eq female) and birthdate ge 1975", ["renee"]),
    ("Patient?_filter=not (gender eq male)", ["empty", "renee"]),
    ("Patient?_filter=not(gender eq male)", ["empty", "renee"]),
    ("Patient?_filter=gender ne male", ["renee"]),
    ("Patient?_filter=gender pr true", ["ivan", "renee"]),
    ("Patient?_filter=gender pr false", ["empty"]),
    ("Patient?_filter=birthdate po 1970", ["ivan"]),
    ("Patient?_filter=birthdate po 1980-02-01", ["renee"]),
    ("Patient?_filter=birthdate eq 1980-02-01", []),
    ('Patient?_filter=general-practitioner.name sw "hou"', ["ivan"]),
    ('Patient?_filter=general-practitioner[active eq true].name sw "hou"', ["ivan"]),
    ('Patient?_filter=general-practitioner[active eq false].name sw "hou"', []),
    ("Patient?_filter=organization re Organization/org", ["renee"]),
    ("Patient?_filter=_id eq ivan", ["ivan"]),
    ('Patient?_filter=identifier eq "urn:b|x\\\\,y"', ["renee"]),
    ("Patient?_filter=identifier eq urn:a|A\\|1", ["ivan", "renee"]),
]


VALUES = World(
    observation(
        "glucose",
        code=code((LOINC, "2339-0"), ("", "glu")),
        subject={"reference": "Patient/1"},
        effectiveDateTime="2024-01-31T23:30:00-02:00",
        valueQuantity=quantity("5.4", "mg"),
    ),
    observation(
        "gram",
        code=code((LOINC, "2339-0")),
        subject={"reference": f"{BASE}/Patient/1/_history/3"},
        effectivePeriod={"start": "2024-01-15", "end": "2024-02-15"},
        valueQuantity=quantity("0.00544", "g"),
    ),
    observation(
        "more",
        subject={"reference": "https://other.example.org/fhir/Patient/1"},
        effectivePeriod={"start": "2024-01-01T10:00:00.500Z"},
        valueQuantity=quantity("100", "mmol/L", comparator=">"),
    ),
    observation(
        "pressure",
        subject={"reference": "Group/1"},
        code=code((LOINC, "85354-9")),
        component=[
            {"code": code((LOINC, "8480-6")), "valueQuantity": quantity("120", "mm[Hg]")},
            {"code": code((LOINC, "8462-4")), "valueQuantity": quantity("80", "mm[Hg]")},
        ],
    ),
    observation(
        "odd",
        code=code(text="no coding"),
        subject={"identifier": {"value": "x"}},
        valueQuantity={"value": Decimal("100.4"), "unit": "drops"},
    ),
    observation("sampled", valueSampledData={"origin": quantity("1", "mV"), "period": 1,
                "factor": Decimal("0.5"), "dimensions": 1, "data": "2 E 4 -2"}),
    {"resourceType": "DocumentReference", "id": "docs", "status": "current", "relatesTo": [
        {"code": "replaces", "target": {"reference": "DocumentReference/a"}},
        {"code": "signs", "target": {"reference": "DocumentReference/b"}}]},
    {"resourceType": "Group", "id": "traits", "type": "person", "actual": True, "characteristic": [
        {"code": code(("", "smoker")), "valueBoolean": False, "exclude": False},
        {"code": code(("", "adult")), "valueBoolean": True, "exclude": False}]},
    {"resourceType": "MolecularSequence", "id": "sequence", "coordinateSystem": 0,
     "referenceSeq": {"chromosome": code(("", "1")), "windowStart": 1, "windowEnd": 100},
     "variant": [{"start": 5, "end": 7}, {"start": 20, "end": 30}]},
    {"resourceType": "Location", "id": "kyiv",
     "position": {"latitude": Decimal("50.4501"), "longitude": Decimal("30.5234")}},
    {"resourceType": "Location", "id": "nowhere"},
    {"resourceType": "RiskAssessment", "id": "risk", "status": "final",
     "subject": {"reference": "Patient/1"},
     "prediction": [{"probabilityDecimal": Decimal("0.8")}]},
)  # fmt: skip


VALUE_ROWS = [
    # quantity: the official examples, and units that agree
    (f"Observation?value-quantity=5.4|{UCUM}|mg", ["glucose", "gram"]),
    (f"Observation?value-quantity=5.40e-3|{UCUM}|g", ["glucose"]),
    (f"Observation?value-quantity=0.0054|{UCUM}|g", ["glucose", "gram"]),
    (f"Observation?value-quantity=5400|{UCUM}|ug", ["glucose"]),
    (f"Observation?value-quantity=gt5.4|{UCUM}|mg", ["gram"]),
    (f"Observation?value-quantity=ge5.4|{UCUM}|mg", ["glucose", "gram"]),
    (f"Observation?value-quantity=le0.0054|{UCUM}|g", ["glucose"]),
    (f"Observation?value-quantity=ap5.5|{UCUM}|mg", ["glucose", "gram"]),
    (f"Observation?value-quantity=5.4|{UCUM}|mmol", []),
    ("Observation?value-quantity=5.4||mg", ["glucose"]),
    ("Observation?value-quantity=5.4", ["glucose"]),
    ("Observation?value-quantity=100||drops", ["odd"]),
    ("Observation?value-quantity=100.0", []),
    ("Observation?value-quantity=1e2", ["odd"]),
    (f"Observation?value-quantity=gt200|{UCUM}|mmol/L", ["more"]),
    (f"Observation?value-quantity=gt1|{UCUM}|mol/L", ["more"]),
    (f"Observation?value-quantity=sa99|{UCUM}|mmol/L", ["more"]),
    (f"Observation?value-quantity=2|{UCUM}|mV", []),
    (f"Observation?value-quantity=gt2|{UCUM}|mV", ["sampled"]),
    (f"Observation?value-quantity=lt1000|{UCUM}|uV", ["sampled"]),
    (f"Observation?combo-value-quantity=16|{UCUM}|kPa", ["pressure"]),
    (f"Observation?component-value-quantity=lt90|{UCUM}|mm[Hg]", ["pressure"]),
    # token: CodeableConcept, several codings, unions
    (f"Observation?code={LOINC}|2339-0", ["glucose", "gram"]),
    ("Observation?code=glu", ["glucose"]),
    ("Observation?code=|glu", ["glucose"]),
    ("Observation?code=|2339-0", []),
    ("Observation?code:not=glu", ["gram", "more", "odd", "pressure", "sampled"]),
    ("Observation?code:missing=true", ["more", "sampled"]),
    ("Observation?combo-code=8480-6,2339-0", ["glucose", "gram", "pressure"]),
    ("Observation?combo-code:not=8480-6", ["glucose", "gram", "more", "odd", "sampled"]),
    ("Observation?combo-code:missing=false", ["glucose", "gram", "odd", "pressure"]),
    # date: periods, open ends, zones, fractions
    ("Observation?date=2024-02-01", ["glucose"]),
    ("Observation?date=2024-01-31", []),
    ("Observation?date=ge2024-02-01", ["glucose", "gram", "more"]),
    ("Observation?date=ge2024-01-01&date=lt2024-02-01", ["gram", "more"]),
    ("Observation?date=2024-02-01T01:30:00Z", ["glucose"]),
    ("Observation?date=2024-01-31T23:30:00-02:00", ["glucose"]),
    ("Observation?date=2024-02-01T01:30", ["glucose"]),
    ("Observation?date=gt2030", ["more"]),
    ("Observation?date=eb2024-02-01", []),
    ("Observation?date=eb2024-02-17", ["glucose", "gram"]),
    ("Observation?date=sa2024-01-14", ["glucose", "gram"]),
    ("Observation?date=sa2024-01-01T10:00:00.4Z", ["glucose", "gram", "more"]),
    ("Observation?date=sa2024-01-01T10:00:00.5Z", ["glucose", "gram"]),
    ("Observation?date:missing=true", ["odd", "pressure", "sampled"]),
    # reference
    ("Observation?subject=Patient/1", ["glucose", "gram"]),
    ("Observation?subject=1", ["glucose", "gram", "pressure"]),
    ("Observation?patient=1", ["glucose", "gram"]),
    ("Observation?patient=Patient/1", ["glucose", "gram"]),
    ("Observation?patient=Group/1", []),
    ("Observation?subject:Group=1", ["pressure"]),
    ("Observation?subject:Patient=1", ["glucose", "gram"]),
    (f"Observation?subject={BASE}/Patient/1", ["glucose", "gram"]),
    ("Observation?subject=Patient/1/_history/3", ["gram"]),
    ("Observation?subject=https://other.example.org/fhir/Patient/1", ["more"]),
    ("Observation?patient=https://other.example.org/fhir/Patient/1", ["more"]),
    ("Observation?patient=https://other.example.org/fhir/Group/1", []),
    ("Observation?subject:missing=true", ["sampled"]),
    # composite: within one element
    (f"Observation?code-value-quantity={LOINC}|2339-0$5.4|{UCUM}|mg", ["glucose", "gram"]),
    (f"Observation?code-value-quantity=2339-0$gt5.4|{UCUM}|mg", ["gram"]),
    ("Observation?code-value-quantity=2339-0$gt5.4", []),
    ("Observation?component-code-value-quantity=8480-6$gt100", ["pressure"]),
    ("Observation?component-code-value-quantity=8462-4$gt100", []),
    ("Observation?component-code=8462-4&component-value-quantity=gt100", ["pressure"]),
    ("Observation?combo-code-value-quantity=8462-4$80,2339-0$5.4", ["glucose", "pressure"]),
    ("DocumentReference?relationship=replaces$DocumentReference/a", ["docs"]),
    ("DocumentReference?relationship=replaces$DocumentReference/b", []),
    ("DocumentReference?relationship=signs$b", ["docs"]),
    ("Group?characteristic-value=smoker$false", ["traits"]),
    ("Group?characteristic-value=smoker$true", []),
    ("Group?characteristic-value=adult$true", ["traits"]),
    ("MolecularSequence?chromosome-variant-coordinate=1$5$7", ["sequence"]),
    ("MolecularSequence?chromosome-variant-coordinate=1$5$gt7", []),
    ("MolecularSequence?chromosome-variant-coordinate=2$5$7", []),
    ("MolecularSequence?chromosome-window-coordinate=1$lt10$gt90", ["sequence"]),
    # special: Kyiv to Lviv is about 469 km
    ("Location?near=49.8397|24.0297|460|km", []),
    ("Location?near=49.8397|24.0297|480", ["kyiv"]),
    ("Location?near=49.8397|24.0297|480000|m", ["kyiv"]),
    ("Location?near=49.8397|24.0297|300|[mi_us]", ["kyiv"]),
    ("Location?near=49.8397|24.0297", []),
    ("Location?near=50.4|30.5", ["kyiv"]),
    ("Location?near=0|0|1,50.45|30.52|0.5", ["kyiv"]),
    # number
    ("RiskAssessment?probability=0.8", ["risk"]),
    ("RiskAssessment?probability=gt0.8", []),
    ("RiskAssessment?probability=ge0.8", ["risk"]),
    ("RiskAssessment?probability=ap0.75", ["risk"]),
    ("RiskAssessment?probability=0.80", ["risk"]),
]  # fmt: skip
