"""A small record, and what searches find in it by the text of the specification."""

from __future__ import annotations

from typing import Any

from tests.serving import BASE

from .searching import Json

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


def patient(id: str, family: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": id, "name": [{"family": family}], **more}


def observation(id: str, code: str, subject: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": subject},
        **more,
    }


def quantity(value: float, unit: str) -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


RECORD: list[Json] = [
    {"resourceType": "Organization", "id": "org", "name": "Hospital"},
    {"resourceType": "Organization", "id": "ward", "name": "Ward",
     "partOf": {"reference": "Organization/org"}},
    {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "House"}],
     "identifier": [{"system": "urn:doc", "value": "1"}]},
    patient("anna", "Айвазовська", gender="female", birthDate="1970-05-01",
            generalPractitioner=[{"reference": "Practitioner/doc"}],
            managingOrganization={"reference": "Organization/ward"},
            identifier=[{"system": "urn:mrn", "value": "a,b|c$d"}],
            text={"status": "generated",
                  "div": '<div xmlns="http://www.w3.org/1999/xhtml">Anna</div>'}),
    patient("bert", "Bäcker", gender="male", birthDate="1980",
            identifier=[{"system": "urn:mrn", "value": "100%"}],
            link=[{"other": {"reference": "Patient/anna"}, "type": "seealso"}]),
    patient("carl", "carlson", birthDate="1980-07"),
    {"resourceType": "Encounter", "id": "stay", "status": "finished", "class": {"code": "IMP"},
     "subject": {"reference": "Patient/anna"},
     "period": {"start": "2024-01-10", "end": "2024-02-05"},
     "participant": [{"individual": {"reference": "Practitioner/doc"}}]},
    observation("open", "1-8", "Patient/anna", effectivePeriod={"start": "2024-01-20"},
                encounter={"reference": "Encounter/stay"}),
    observation("jan", "1-8", "Patient/anna", effectiveDateTime="2024-01-31T23:59:59.5Z",
                valueQuantity=quantity(5.4, "mg"), performer=[{"reference": "Practitioner/doc"}]),
    observation("feb", "2-6", "Patient/bert", effectiveDateTime="2024-02-01",
                valueQuantity=quantity(0.006, "g")),
    observation("year", "1-8", "Patient/bert", effectiveDateTime="2024"),
    observation("pressure", "85354-9", "Patient/carl", component=[
        {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
         "valueQuantity": quantity(120, "mm[Hg]")},
        {"code": {"coding": [{"system": LOINC, "code": "8462-4"}]},
         "valueQuantity": quantity(80, "mm[Hg]")}]),
    {"resourceType": "List", "id": "mine", "status": "current", "mode": "working",
     "entry": [{"item": {"reference": "Patient/anna"}}, {"item": {"reference": "Patient/carl"}}]},
    {"resourceType": "Location", "id": "kyiv", "position": {"latitude": 50.45, "longitude": 30.52}},
]  # fmt: skip


EVERYONE = {"anna", "bert", "carl"}


ROWS: list[tuple[str, set[str]]] = [
    # 35: on every type, and on several
    ("?_type=Patient,Location", {*EVERYONE, "kyiv"}),
    ("?_id=anna,jan", {"anna", "jan"}),
    ("?_type=Patient&_id=anna,jan", {"anna"}),
    ("?_list=mine", {"anna", "carl"}),
    ("?_type=Patient,Location&_has:List:item:_id=mine", {"anna", "carl"}),
    # compartments
    ("Patient/anna/Observation", {"open", "jan"}),
    ("Patient/anna/Observation?code=1-8&date=lt2024-01-25", {"open"}),
    ("Patient/anna/Patient", {"anna", "bert"}),
    ("Patient/anna/*", {"anna", "bert", "stay", "open", "jan"}),
    ("Patient/anna/*?_type=Encounter,Patient", {"anna", "bert", "stay"}),
    ("Patient/nobody/*", set()),
    ("Practitioner/doc/Observation", {"jan"}),
    ("Practitioner/doc/Encounter", {"stay"}),
    ("Practitioner/doc/Patient", {"anna"}),
    ("Encounter/stay/Observation", {"open"}),
    ("Device/none/*", set()),
    ("RelatedPerson/none/Encounter", set()),
    # 36, 37: strings, escapes, characters that mean something elsewhere
    ("Patient?name=АЙВАЗ", {"anna"}),
    ("Patient?name=backer", {"bert"}),
    ("Patient?name:exact=backer", set()),
    ("Patient?name:contains=АЗОВ", {"anna"}),
    ("Patient?identifier=urn:mrn|100%25", {"bert"}),
    ("Patient?identifier=urn:mrn|a\\,b\\|c\\$d", {"anna"}),
    ("Patient?name=%25", set()),
    ("Patient?name=_", set()),
    ("Patient?name=.*", set()),
    ("Patient?name='", set()),
    # 38: or, and
    ("Patient?gender=male,female", {"anna", "bert"}),
    ("Patient?gender=male&gender=female", set()),
    # 41, 43: not, missing
    ("Patient?gender:not=male", {"anna", "carl"}),
    ("Patient?gender:missing=true", {"carl"}),
    ("Observation?subject:Patient.gender:missing=true", {"pressure"}),
    ("Observation?date:missing=true", {"pressure"}),
    ("Observation?value-quantity:missing=false", {"jan", "feb"}),
    # 44, 45: dates
    ("Observation?date=ge2024-01-01&date=lt2024-02-01", {"open", "jan", "year"}),
    ("Observation?date=2024", {"jan", "feb", "year"}),
    ("Observation?date=ne2024", {"open"}),
    ("Observation?date=2024-02-01", {"feb"}),
    ("Observation?date=sa2024-01-31", {"feb"}),
    ("Observation?date=eb2024-02-01", {"jan"}),
    ("Observation?date=2024-01-31T23:59:59Z", {"jan"}),
    ("Observation?date=2024-02-01T01:59:59%2B02:00", {"jan"}),
    ("Encounter?date=ge2024-01-01&date=lt2024-02-01", {"stay"}),
    ("Patient?birthdate=1980", {"bert", "carl"}),
    ("Patient?birthdate=lt1980-03", {"anna", "bert"}),
    # 46, 47: numbers and quantities
    (f"Observation?value-quantity=5.4|{UCUM}|mg", {"jan"}),
    (f"Observation?value-quantity=gt5500|{UCUM}|ug", {"feb"}),
    ("Observation?value-quantity=5.4||mg", {"jan"}),
    ("Observation?value-quantity=lt1", {"feb"}),
    # 48: references
    ("Observation?subject=anna", {"open", "jan"}),
    ("Observation?subject=Patient/anna", {"open", "jan"}),
    (f"Observation?subject={BASE}/Patient/anna", {"open", "jan"}),
    ("Observation?subject:Patient=anna", {"open", "jan"}),
    ("Observation?subject:Group=anna", set()),
    ("Observation?subject=Group/anna", set()),
    # 50: composites
    ("Observation?component-code-value-quantity=8480-6$gt100", {"pressure"}),
    ("Observation?component-code-value-quantity=8462-4$gt100", set()),
    (f"Observation?code-value-quantity={LOINC}|1-8$5.4", {"jan"}),
    ("Observation?combo-code-value-quantity=8462-4$80,1-8$gt5", {"jan", "pressure"}),
    # 51, 52: chains and _has
    ("Observation?subject:Patient.name=bäcker", {"feb", "year"}),
    ("Observation?subject.name=bäcker", {"feb", "year"}),
    ("Observation?patient.general-practitioner.family=house", {"open", "jan"}),
    ("Observation?patient.organization.partof.name=hospital", {"open", "jan"}),
    ("Observation?subject.identifier=urn:mrn|100%25", {"feb", "year"}),
    ("Observation?subject:Patient._id=bert", {"feb", "year"}),
    ("Observation?subject:Patient.name:exact=carlson", {"pressure"}),
    ("Observation?subject:Patient.gender:not=male", {"open", "jan", "pressure"}),
    ("Observation?encounter.participant:Practitioner.identifier=urn:doc|1", {"open"}),
    ("Patient?_has:Observation:patient:code=1-8", {"anna", "bert"}),
    ("Patient?_has:Observation:patient:code=1-8&_has:Observation:patient:code=2-6", {"bert"}),
    ("Practitioner?_has:Patient:general-practitioner:_has:Observation:patient:code=1-8", {"doc"}),
    ("Observation?patient._has:Encounter:patient:class=IMP", {"open", "jan"}),
    ("Observation?subject:Patient._has:List:item:_id=mine", {"open", "jan", "pressure"}),
    # 55: _filter, _list, near
    ('Patient?_filter=name sw "бар" or (gender eq male and birthdate ge 1979)', {"bert"}),
    ('Observation?_filter=subject[gender eq female].name co "зов"', {"open", "jan"}),
    ("Observation?_filter=not (code eq http://loinc.org|1-8)", {"feb", "pressure"}),
    ("Observation?_filter=date po 2024-02-01 and code eq 1-8", {"open", "year"}),
    ("Patient?_list=mine", {"anna", "carl"}),
    ("Location?near=50.4|30.5|10|km", {"kyiv"}),
    ("Location?near=50.4|30.5|1|km", set()),
]  # fmt: skip


INCLUDES: list[tuple[str, set[str]]] = [
    ("Observation?_id=jan&_include=Observation:subject", {"anna"}),
    ("Observation?_id=jan&_include=Observation:subject:Group", set()),
    ("Observation?_id=jan&_include=Observation:*", {"anna", "doc"}),
    ("Observation?_id=jan&_include=*", {"anna", "doc"}),
    ("Observation?_id=jan&_include=Observation:subject&_include:iterate=Patient:organization",
     {"anna", "ward"}),
    ("Observation?_id=jan&_include=Observation:subject&_include:iterate=Patient:organization"
     "&_include:iterate=Organization:partof", {"anna", "ward", "org"}),
    ("Patient?_id=bert&_include:iterate=Patient:link", {"anna"}),
    ("Patient?_id=anna&_revinclude=Observation:subject", {"open", "jan"}),
    ("Patient?_id=anna&_revinclude=Patient:link&_revinclude:iterate=Observation:subject",
     {"open", "jan", "bert", "feb", "year"}),
    ("Patient?_id=carl&_include=Patient:link", set()),
    ("Patient?_id=anna&_revinclude=*", {"open", "jan", "bert", "stay", "mine"}),
    ("Patient?_id=anna&_revinclude=Observation:*", {"open", "jan"}),
    ("Organization?_id=org&_revinclude=*", {"ward"}),
    ("Observation?_id=jan&_include:iterate=*", {"anna", "doc", "ward", "org"}),
    ("List?_include=*", {"anna", "carl"}),
]  # fmt: skip
