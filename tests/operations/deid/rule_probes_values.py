"""What safe-harbor leaves of what is known of somebody: references, codes, values, extensions."""

from __future__ import annotations

from rule_words import CDC, DAR, LOINC, MASKED, UCUM, US_CORE, age, coding

from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json

# name -> (resource, what is left of it besides type and labels)
PROBES: dict[str, tuple[Json, Json]] = {
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
