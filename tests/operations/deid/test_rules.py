"""What each rule of safe-harbor does, and that no rule is there for nothing.

The expectations follow 45 CFR 164.514(b)(2)(i), letters (A) to (R), and FHIR's invariants.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from operations.deid.engine import Deidentifier
from operations.deid.profile import FOLDER, Profile, read
from operations.deid.run import Run

SAFE_HARBOR = read(FOLDER / "safe-harbor.json")
ANONYED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "ANONYED",
    "display": "anonymized",
}
REDACTED = ANONYED | {"code": "REDACTED", "display": "redacted"}
DAR = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
MASKED = {"extension": [{"url": DAR, "valueCode": "masked"}]}
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
CDC = "urn:oid:2.16.840.1.113883.6.238"


def coding(code: str, system: str = LOINC) -> Json:
    return {"system": system, "code": code}


def age(code: str, **value: Any) -> Json:
    return {"resourceType": "Observation", "code": {"coding": [coding(code)]}, **value}


# name -> (resource, what is left of it besides type and labels)
PROBES: dict[str, tuple[Json, Json]] = {
    "id": ({"resourceType": "Patient", "id": "mrn-1"}, {"id": "new-1"}),
    "versionId, lastUpdated, source, profile and tag go, security labels stay": (
        {
            "resourceType": "Basic",
            "meta": {
                "versionId": "77",
                "lastUpdated": "2020-02-03T04:05:06Z",
                "source": "http://h.example/x",
                "profile": ["http://h.example/p"],
                "tag": [coding("vip", "http://h.example/tags")],
                "security": [
                    coding("R", "http://terminology.hl7.org/CodeSystem/v3-Confidentiality")
                ],
            },
        },
        {
            "meta": {
                "security": [
                    coding("R", "http://terminology.hl7.org/CodeSystem/v3-Confidentiality")
                ]
            }
        },
    ),
    "fullUrl": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                {
                    "fullUrl": "http://h.example/Patient/1",
                    "resource": {"resourceType": "Patient", "id": "1"},
                }
            ],
        },
        {
            "type": "collection",
            "entry": [
                {
                    "fullUrl": "urn:uuid:new-1",
                    "resource": {
                        "resourceType": "Patient",
                        "id": "new-1",
                        "meta": {"security": [ANONYED, REDACTED]},
                    },
                }
            ],
        },
    ),
    "other ids: one code wherever the same id is": (
        {
            "resourceType": "ImagingStudy",
            "status": "available",
            "series": [{"uid": "2.25.1", "instance": [{"uid": "2.25.2"}]}, {"uid": "2.25.1"}],
        },
        {
            "status": "available",
            "series": [{"uid": "new-1", "instance": [{"uid": "new-2"}]}, {"uid": "new-1"}],
        },
    ),
    "contained and canonical fragments": (
        {
            "resourceType": "Questionnaire",
            "status": "active",
            "url": "http://h.example/q",
            "contained": [{"resourceType": "ValueSet", "id": "ward-7", "status": "active"}],
            "item": [
                {"linkId": "1.2", "type": "choice", "answerValueSet": "#ward-7"},
                {"linkId": "Mr Smith", "type": "choice", "answerValueSet": "http://h.example/v"},
            ],
        },
        {
            "status": "active",
            "contained": [{"resourceType": "ValueSet", "id": "c1", "status": "active"}],
            "item": [
                {"linkId": "1.2", "type": "choice", "answerValueSet": "#c1"},
                {"_linkId": MASKED, "type": "choice"},
            ],
        },
    ),
    "(A, D-H, Q) the person": (
        {
            "resourceType": "Patient",
            "identifier": [
                {"use": "official", "value": "123-45-6789", "period": {"start": "2001"}}
            ],
            "name": [{"use": "official", "family": "Garza"}],
            "telecom": [{"system": "phone", "value": "+380671234567", "rank": 1}],
            "photo": [{"contentType": "image/png", "size": 17, "hash": "YWJj"}],
            "contact": [{"gender": "male", "name": {"family": "Garza"}}],
            "text": {"status": "generated", "div": "<div>Garza</div>"},
            "gender": "female",
            "birthDate": "1982-03-25",
            "deceasedDateTime": "2021-03-04T05:06:07Z",
            "multipleBirthInteger": 2,
        },
        {
            "gender": "female",
            "birthDate": "1982",
            "deceasedDateTime": "2021",
            "multipleBirthInteger": 2,
        },
    ),
    "(C) over 89": (
        {"resourceType": "Patient", "active": True, "birthDate": "1930-05-06"},
        {"active": True, "_birthDate": MASKED},
    ),
    "(B) place": (
        {
            "resourceType": "Patient",
            "address": [
                {
                    "use": "home",
                    "line": ["25 Highland Avenue"],
                    "city": "Newburyport",
                    "district": "Essex",
                    "state": "MA",
                    "postalCode": "01950",
                    "country": "US",
                    "period": {"start": "2001-02-03"},
                },
                {"state": "Vermont", "postalCode": "05901-1234", "country": "US"},
                {"state": "Newburyport", "postalCode": "01001", "country": "UA"},
                {"postalCode": "01950", "country": "the house by the river"},
            ],
        },
        {
            "address": [
                {"state": "MA", "postalCode": "019", "country": "US"},
                {"state": "Vermont", "postalCode": "000", "country": "US"},
                {"country": "UA"},
            ]
        },
    ),
    "(B) geocodes": (
        {
            "resourceType": "Location",
            "status": "active",
            "position": {"longitude": loads(b'{"x":30.5238}')["x"], "latitude": 50},
        },
        {"status": "active"},
    ),
    "(M) device numbers": (
        {
            "resourceType": "Device",
            "status": "active",
            "udiCarrier": [{"entryType": "barcode", "deviceIdentifier": "0844588"}],
            "serialNumber": "SN-1",
            "lotNumber": "L-1",
            "manufactureDate": "2019-08-07",
        },
        {"status": "active", "manufactureDate": "2019"},
    ),
    "(P) sequences": (
        {"resourceType": "MolecularSequence", "coordinateSystem": 1, "observedSeq": "ACGT"},
        {"_coordinateSystem": MASKED},
    ),
    "signatures": (
        {
            "resourceType": "Provenance",
            "recorded": "2020-02-03T04:05:06Z",
            "signature": [{"when": "2020-02-03T04:05:06Z", "type": [coding("1", "urn:iso:1")]}],
        },
        {"_recorded": MASKED},
    ),
    "annotations": (
        {
            "resourceType": "Goal",
            "lifecycleStatus": "active",
            "note": [{"time": "2020-02-03", "text": "told her son", "authorString": "Dr. Who"}],
        },
        {"lifecycleStatus": "active"},
    ),
    "names that invariants want": (
        {
            "resourceType": "Organization",
            "identifier": [{"value": "1"}],
            "name": "ANNA JAQUES HOSPITAL",
        },
        {"identifier": [MASKED], "_name": MASKED},
    ),
    "a plan's name": (
        {"resourceType": "InsurancePlan", "name": "Gold", "status": "active"},
        {"_name": MASKED, "status": "active"},
    ),
    "a section's text": (
        {
            "resourceType": "Composition",
            "status": "final",
            "title": "Note on Ms Garza",
            "date": "2025-11-16T10:05:00Z",
            "section": [{"text": {"status": "generated", "div": "<div>41-year-old</div>"}}],
        },
        {
            "status": "final",
            "_title": MASKED,
            "date": "2025",
            "section": [
                {
                    "text": {
                        "status": "empty",
                        "div": '<div xmlns="http://www.w3.org/1999/xhtml">-</div>',
                    }
                }
            ],
        },
    ),
    "an appointment's time": (
        {
            "resourceType": "Appointment",
            "status": "booked",
            "start": "2020-02-03T04:05:06Z",
            "end": "2020-02-03T05:05:06Z",
            "participant": [{"actor": {"display": "Dr. Who"}, "status": "accepted"}],
        },
        {
            "status": "booked",
            "_start": MASKED,
            "_end": MASKED,
            "participant": [{"actor": MASKED, "status": "accepted"}],
        },
    ),
    "education": (
        {
            "resourceType": "Immunization",
            "status": "completed",
            "lotNumber": "L867",
            "occurrenceDateTime": "1978-04-12",
            "education": [{"documentType": "leaflet"}, {"reference": "http://h.example/1"}],
        },
        {
            "status": "completed",
            "occurrenceDateTime": "1978",
            "education": [{"_documentType": MASKED}, {"_reference": MASKED}],
        },
    ),
    "a consent's policy": (
        {
            "resourceType": "Consent",
            "status": "active",
            "policy": [{"uri": "http://h.example/p"}, {"authority": "http://h.example"}],
        },
        {"status": "active", "policy": [{"_uri": MASKED}, {"_authority": MASKED}]},
    ),
    "triggers": (
        {
            "resourceType": "EventDefinition",
            "status": "active",
            "trigger": [{"type": "named-event", "name": "Ms Garza comes"}],
        },
        {"status": "active", "trigger": [{"type": "named-event", "_name": MASKED}]},
    ),
    "a server": (
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "software": {"name": "x"},
            "implementation": {"description": "y"},
        },
        {
            "status": "active",
            "software": {"_name": MASKED},
            "implementation": {"_description": MASKED},
        },
    ),
    "a terminology server": (
        {
            "resourceType": "TerminologyCapabilities",
            "status": "active",
            "software": {"name": "x"},
            "implementation": {"description": "y"},
        },
        {
            "status": "active",
            "software": {"_name": MASKED},
            "implementation": {"_description": MASKED},
        },
    ),
    "references": (
        {
            "resourceType": "Observation",
            "status": "final",
            "subject": {"reference": "Patient/1/_history/3", "display": "Garza"},
            "encounter": {"type": "Encounter", "identifier": {"value": "E-1"}},
            "performer": [{"display": "Dr. Who"}, {"reference": "Patient/1"}],
        },
        {
            "status": "final",
            "subject": {"reference": "urn:uuid:new-1", "type": "Patient"},
            "encounter": {"type": "Encounter"},
            "performer": [{"reference": "urn:uuid:new-1", "type": "Patient"}],
        },
    ),
    "codes and values": (
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {
                "text": "her LDL",
                "coding": [
                    coding("2089-1") | {"display": "LDL", "version": "2.7", "userSelected": True},
                    {"system": "ward 7", "code": "x"},
                    {"system": LOINC, "code": "John Smith"},
                    {"code": "alone"},
                ],
            },
            "category": [{"text": "from the ward"}],
            "valueQuantity": {
                "value": loads(b'{"x":3.10}')["x"],
                "comparator": "<",
                "unit": "mmol per litre",
                "system": UCUM,
                "code": "mmol/L",
            },
            "referenceRange": [{"low": {"value": 2, "unit": "x", "system": UCUM, "code": "Garza"}}],
            "component": [
                {"valueBoolean": True},
                {"valueInteger": 5},
                {"valueString": "five"},
                {"valueTime": "10:11:12"},
                {"valuePeriod": {"start": "2020-01-02", "end": "2021-01-02"}},
            ],
        },
        {
            "status": "final",
            "code": {"coding": [coding("2089-1") | {"userSelected": True}]},
            "category": [MASKED],
            "valueQuantity": {
                "value": loads(b'{"x":3.10}')["x"],
                "comparator": "<",
                "unit": "mmol/L",
                "system": UCUM,
                "code": "mmol/L",
            },
            "referenceRange": [{"low": {"value": 2}}],
            "component": [
                {"valueBoolean": True},
                {"valueInteger": 5},
                {"valuePeriod": {"start": "2020", "end": "2021"}},
            ],
        },
    ),
    "(C) ages": (
        {
            "resourceType": "Condition",
            "onsetAge": {"value": 93, "system": UCUM, "code": "a", "unit": "years"},
            "abatementRange": {"low": {"value": 1090, "code": "mo"}, "high": {"value": 89}},
        },
        {
            "onsetAge": {
                "value": 90,
                "comparator": ">=",
                "system": UCUM,
                "code": "a",
                "unit": "a",
            },
            "abatementRange": {
                "low": {"value": 90, "system": UCUM, "code": "a", "unit": "a"},
                "high": {"value": 89},
            },
        },
    ),
    "(C) an age is one without a unit, too": (
        age("30525-0", valueQuantity={"value": 93}),
        {
            "code": {"coding": [coding("30525-0")]},
            "valueQuantity": {
                "value": 90,
                "comparator": ">=",
                "system": UCUM,
                "code": "a",
                "unit": "a",
            },
        },
    ),
    "(C) an age as a number": (
        age("30525-0", valueInteger=93),
        {"code": {"coding": [coding("30525-0")]}, "valueInteger": 90},
    ),
    "(C) no age": (
        age("8480-6", valueInteger=93),
        {"code": {"coding": [coding("8480-6")]}, "valueInteger": 93},
    ),
    "(C) ages in components": (
        {
            "resourceType": "Observation",
            "component": [
                {"code": {"coding": [coding("30525-0")]}, "valueInteger": 93},
                {"code": {"coding": [coding("21612-7")]}, "valueQuantity": {"value": 40}},
                {"code": {"coding": [coding("21612-7")]}, "valueQuantity": {"value": 93}},
            ],
        },
        {
            "component": [
                {"code": {"coding": [coding("30525-0")]}, "valueInteger": 90},
                {"code": {"coding": [coding("21612-7")]}, "valueQuantity": {"value": 40}},
                {
                    "code": {"coding": [coding("21612-7")]},
                    "valueQuantity": {
                        "value": 90,
                        "comparator": ">=",
                        "system": UCUM,
                        "code": "a",
                        "unit": "a",
                    },
                },
            ]
        },
    ),
    "other amounts": (
        {
            "resourceType": "VisionPrescription",
            "status": "active",
            "lensSpecification": [
                {
                    "eye": "right",
                    "sphere": 2,
                    "axis": 90,
                    "duration": {"value": 1, "unit": "for Ms Garza", "system": UCUM, "code": "mo"},
                }
            ],
        },
        {
            "status": "active",
            "lensSpecification": [
                {
                    "eye": "right",
                    "sphere": 2,
                    "axis": 90,
                    "duration": {"value": 1, "unit": "mo", "system": UCUM, "code": "mo"},
                }
            ],
        },
    ),
    "lengths, counts and money": (
        {
            "resourceType": "Encounter",
            "status": "finished",
            "length": {"value": 13, "unit": "min", "system": UCUM, "code": "min"},
            "location": [{"extension": [{"url": "http://h.example/bed", "valueString": "3E"}]}],
        },
        {
            "status": "finished",
            "length": {"value": 13, "unit": "min", "system": UCUM, "code": "min"},
        },
    ),
    "open values of a task": (
        {
            "resourceType": "Task",
            "status": "ready",
            "input": [
                {"valueCount": {"value": 3, "unit": "of Garza", "system": UCUM, "code": "1"}},
                {"valueDistance": {"value": 4, "unit": "from home", "system": UCUM, "code": "km"}},
                {"valueMoney": {"value": 5, "currency": "EUR"}},
                {"valueMoney": {"value": 5, "currency": "Garza's"}},
                {"valueSampledData": {"data": "1 2.5 E -3", "dimensions": 1}},
                {"valueSampledData": {"data": "call me", "dimensions": 1}},
                {"valueUnsignedInt": 6},
                {"valueHumanName": {"use": "usual", "text": "Garza"}},
            ],
        },
        {
            "status": "ready",
            "input": [
                {"valueCount": {"value": 3, "unit": "1", "system": UCUM, "code": "1"}},
                {"valueDistance": {"value": 4, "unit": "km", "system": UCUM, "code": "km"}},
                {"valueMoney": {"value": 5, "currency": "EUR"}},
                {"valueMoney": {"value": 5}},
                {"valueSampledData": {"data": "1 2.5 E -3", "dimensions": 1}},
                {"valueSampledData": {"dimensions": 1}},
                {"valueUnsignedInt": 6},
            ],
        },
    ),
    "extensions": (
        {
            "resourceType": "Patient",
            "extension": [
                {
                    "url": US_CORE + "race",
                    "extension": [
                        {"url": "ombCategory", "valueCoding": coding("2106-3", CDC)},
                        {"url": "text", "valueString": "White"},
                    ],
                },
                {"url": US_CORE + "birthsex", "valueCode": "F"},
                {
                    "url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName",
                    "valueString": "Garza",
                },
                {"url": "http://h.example/visits", "valueInteger": 7},
            ],
            "modifierExtension": [{"url": "http://h.example/not", "valueBoolean": True}],
            "_gender": {"id": "g1", "extension": [{"url": DAR, "valueCode": "asked-declined"}]},
            "_birthDate": {
                "extension": [
                    {
                        "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
                        "valueDateTime": "1982-03-25T10:11:12Z",
                    }
                ]
            },
        },
        {
            "extension": [
                {
                    "url": US_CORE + "race",
                    "extension": [
                        {"url": "ombCategory", "valueCoding": coding("2106-3", CDC)},
                        {"url": "text", "_valueString": MASKED},
                    ],
                },
                {"url": US_CORE + "birthsex", "valueCode": "F"},
            ],
            "modifierExtension": [{"url": DAR, "valueCode": "masked"}],
            "_gender": {"extension": [{"url": DAR, "valueCode": "asked-declined"}]},
        },
    ),
}

REDUNDANT = {
    "nodesByType('Extension')": "an extension whose url no rule keeps goes as a whole by default; "
    "the rule saves the look inside",
}
"""Rules whose removal changes nothing, by path, and why they are there."""


def apply(profile: Deidentifier, resource: Json) -> Json:
    numbers = count(1)
    run = Run(2026, new_id=lambda: f"new-{next(numbers)}")
    run.learn(resource)
    result = profile.resource(resource, run)
    assert result.pop("resourceType") == resource["resourceType"]
    security = result["meta"].pop("security")
    assert security[-2:] == [ANONYED, REDACTED]
    if security[:-2]:
        result["meta"]["security"] = security[:-2]
    if not result["meta"]:
        del result["meta"]
    return result


@pytest.fixture(scope="module")
def safe_harbor() -> Deidentifier:
    return Deidentifier(SAFE_HARBOR, load())


@pytest.mark.parametrize("name", PROBES)
def test_rule(name: str, safe_harbor: Deidentifier) -> None:
    resource, expected = PROBES[name]
    assert apply(safe_harbor, resource) == expected


def without(profile: Profile, index: int) -> Profile:
    return replace(profile, rules=profile.rules[:index] + profile.rules[index + 1 :])


@pytest.mark.parametrize("index", range(len(SAFE_HARBOR.rules)))
def test_a_profile_without_the_rule_is_caught(index: int) -> None:
    rule = SAFE_HARBOR.rules[index]
    mutant = Deidentifier(without(SAFE_HARBOR, index), load())
    caught = any(apply(mutant, resource) != expected for resource, expected in PROBES.values())
    assert caught != (rule.path in REDUNDANT), rule.path


def test_what_no_rule_names_goes() -> None:
    """Fail closed: without any rule only the type and the labels are left."""
    bare = Deidentifier(replace(SAFE_HARBOR, rules=()), load())
    for resource, _ in PROBES.values():
        left = apply(bare, resource)
        assert not _values(left), left


def _values(node: Any) -> list[Any]:
    """Values besides data-absent-reasons."""
    if isinstance(node, list):
        return [value for item in node for value in _values(item)]
    if isinstance(node, dict):
        if node.get("url") == DAR:
            return []
        return [v for key, item in node.items() if key != "resourceType" for v in _values(item)]
    return [node]
