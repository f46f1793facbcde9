"""Resources that R4 refuses for extensions, references, bindings, invariants (``invalid.py``)."""

from __future__ import annotations

from .bases import CODE, Case, Json, bundle, contained, nested_extension, observation, patient

# https://hl7.org/fhir/R4/extensibility.html
EXTENSIONS: list[Case] = [
    ("no url", patient(extension=[{"valueString": "x"}]), "required", "Patient.extension[0].url"),
    (
        "relative url",
        patient(extension=[{"url": "x", "valueString": "x"}]),
        "extension",
        "Patient.extension[0]",
    ),
    (
        "value and extension",
        patient(
            extension=[
                {
                    "url": "http://e.org",
                    "valueString": "x",
                    "extension": [{"url": "a", "valueId": "1"}],
                }
            ]
        ),
        "invariant",
        "Patient.extension[0]",
    ),
    ("neither", patient(extension=[{"url": "http://e.org"}]), "invariant", "Patient.extension[0]"),
    (
        "two values",
        patient(extension=[{"url": "http://e.org", "valueId": "1", "valueCode": "x"}]),
        "structure",
        "Patient.extension[0].value",
    ),
    (
        "_url",
        patient(extension=[{"url": "http://e.org", "valueId": "1", "_url": {"id": "a"}}]),
        "structure",
        "Patient.extension[0].url",
    ),
    (
        "on a primitive",
        patient(_gender={"extension": [{"url": "x", "valueId": "1"}]}),
        "extension",
        "Patient.gender.extension[0]",
    ),
    (
        "modifier in a datatype",
        patient(name=[{"family": "x", "modifierExtension": []}]),
        "structure",
        "Patient.name[0].modifierExtension",
    ),
    (
        "60 levels deep",
        nested_extension(20),
        "value",
        "Patient" + ".extension[0]" * 21 + ".value.ofType(string)",
    ),
]

# https://hl7.org/fhir/R4/references.html
ENCOUNTER: Json = {
    "resourceType": "Encounter",
    "id": "a",
    "status": "planned",
    "class": {"code": "AMB"},
}
REFERENCES: list[Case] = [
    *(
        (
            f"reference {text!r}",
            observation(subject={"reference": text}),
            "value",
            "Observation.subject.reference",
        )
        for text in (
            "123",
            "Patient",
            "Patient/",
            "/Patient/1",
            "Patients/1",
            "patient/1",
            "Patient/1/_history",
            "Patient/a b",
            "Patient/a_b",
            "Patient/" + "a" * 65,
            "Patient/1/extra",
            "urn:uuid:nope",
            "urn:oid:x",
            "Patient?identifier=1",
            "../Patient/1",
        )
    ),
    (
        "wrong target",
        observation(subject={"reference": "Observation/1"}),
        "value",
        "Observation.subject.reference",
    ),
    (
        "wrong target, absolute",
        observation(subject={"reference": "https://e.org/fhir/Encounter/1"}),
        "value",
        "Observation.subject.reference",
    ),
    (
        "wrong target by type",
        observation(subject={"type": "Encounter", "display": "x"}),
        "value",
        "Observation.subject",
    ),
    (
        "type against reference",
        observation(subject={"type": "Group", "reference": "Patient/1"}),
        "value",
        "Observation.subject.reference",
    ),
    (
        "nothing but a type",
        observation(subject={"type": "Patient"}),
        "structure",
        "Observation.subject",
    ),
    (
        "empty reference",
        observation(subject={"reference": ""}),
        "value",
        "Observation.subject.reference",
    ),
    (
        "no contained resource",
        observation(subject={"reference": "#p"}),
        "invariant",
        "Observation.subject.reference",
    ),
    (
        "contained resource of a wrong type",
        contained(ENCOUNTER, subject={"reference": "#a"}),
        "value",
        "Observation.subject.reference",
    ),
    ("not referred to", contained(patient(id="p")), "invariant", "Observation.contained[0]"),
    (
        "contained without id",
        contained(patient(active=True)),
        "required",
        "Observation.contained[0]",
    ),
    (
        "contained is no array",
        observation(contained=patient(id="p")),
        "structure",
        "Observation.contained",
    ),
    (
        "contained is no resource",
        observation(contained=[{"id": "p"}]),
        "required",
        "Observation.contained[0]",
    ),
    (
        "contained in contained",
        contained(
            patient(id="p", contained=[{**ENCOUNTER, "id": "e"}]), subject={"reference": "#p"}
        ),
        "invariant",
        "Observation.contained[0].contained",
    ),
    *(
        (
            f"contained with meta.{name}",
            contained(patient(id="p", meta={name: value}), subject={"reference": "#p"}),
            "invariant",
            f"Observation.contained[0].meta.{name}",
        )
        for name, value in (
            ("versionId", "1"),
            ("lastUpdated", "2020-01-01T00:00:00Z"),
            ("security", [{"code": "R"}]),
        )
    ),
    (
        "the same id twice",
        observation(contained=[patient(id="p"), patient(id="p")], subject={"reference": "#p"}),
        "invariant",
        "Observation.contained[1].id",
    ),
    (
        "an error inside contained",
        contained(patient(id="p", active="x"), subject={"reference": "#p"}),
        "structure",
        "Observation.contained[0].active",
    ),
]

# https://hl7.org/fhir/R4/terminologies.html#required
BINDINGS: list[Case] = [
    ("code", patient(gender="foo"), "code-invalid", "Patient.gender"),
    ("code in other case", patient(gender="Male"), "code-invalid", "Patient.gender"),
    (
        "code in a datatype",
        patient(name=[{"use": "x", "family": "y"}]),
        "code-invalid",
        "Patient.name[0].use",
    ),
    (
        "code in a value",
        observation(valueQuantity={"value": 1, "comparator": "=="}),
        "code-invalid",
        "Observation.value.ofType(Quantity).comparator",
    ),
    (
        "concept",
        {
            "resourceType": "Condition",
            "subject": {"display": "x"},
            "clinicalStatus": {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/condition-clinical",
                        "code": "x",
                    }
                ]
            },
        },
        "code-invalid",
        "Condition.clinicalStatus",
    ),
    (
        "concept with the right code of another system",
        {
            "resourceType": "Condition",
            "subject": {"display": "x"},
            "clinicalStatus": {"coding": [{"system": "http://e.org", "code": "active"}]},
        },
        "code-invalid",
        "Condition.clinicalStatus",
    ),
    (
        "concept as text alone",
        {"resourceType": "Condition", "subject": {"display": "x"}, "clinicalStatus": CODE},
        "code-invalid",
        "Condition.clinicalStatus",
    ),
]

COMPOSITION: Json = {
    "resourceType": "Composition",
    "status": "final",
    "type": CODE,
    "date": "2020",
    "author": [{"display": "x"}],
    "title": "x",
}

# Invariants of the resources themselves.
INVARIANTS: list[Case] = [
    (
        "per-1",
        patient(name=[{"family": "x", "period": {"start": "2020-02", "end": "2020-01"}}]),
        "invariant",
        "Patient.name[0].period",
    ),
    (
        "per-1 over zones",
        observation(
            effectivePeriod={"start": "2020-01-01T10:00:00-01:00", "end": "2020-01-01T10:30:00Z"}
        ),
        "invariant",
        "Observation.effective.ofType(Period)",
    ),
    (
        "qty-3",
        observation(valueQuantity={"value": 1, "code": "mg"}),
        "invariant",
        "Observation.value.ofType(Quantity)",
    ),
    (
        "rng-2",
        observation(valueRange={"low": {"value": 2}, "high": {"value": 1}}),
        "invariant",
        "Observation.value.ofType(Range)",
    ),
    (
        "rat-1",
        observation(valueRatio={"numerator": {"value": 2}}),
        "invariant",
        "Observation.value.ofType(Ratio)",
    ),
    (
        "sqty-1",
        observation(valueRange={"low": {"value": 2, "comparator": "<"}}),
        "invariant",
        "Observation.value.ofType(Range).low",
    ),
    ("att-1", patient(photo=[{"data": "QUJD"}]), "invariant", "Patient.photo[0]"),
    ("cpt-2", patient(telecom=[{"value": "1"}]), "invariant", "Patient.telecom[0]"),
    (
        "obs-3",
        observation(referenceRange=[{"type": CODE}]),
        "invariant",
        "Observation.referenceRange[0]",
    ),
    ("obs-6", observation(valueString="x", dataAbsentReason=CODE), "invariant", "Observation"),
    (
        "obs-7",
        observation(
            code={"coding": [{"system": "http://loinc.org", "code": "1-8"}]},
            valueString="x",
            component=[{"code": {"coding": [{"system": "http://loinc.org", "code": "1-8"}]}}],
        ),
        "invariant",
        "Observation",
    ),
    ("pat-1", patient(contact=[{"gender": "male"}]), "invariant", "Patient.contact[0]"),
    ("org-1", {"resourceType": "Organization", "active": True}, "invariant", "Organization"),
    (
        "org-2",
        {"resourceType": "Organization", "name": "x", "address": [{"use": "home", "city": "x"}]},
        "invariant",
        "Organization.address[0]",
    ),
    (
        "app-4, errata",
        {
            "resourceType": "Appointment",
            "status": "booked",
            "start": "2020-01-01T10:00:00Z",
            "end": "2020-01-01T11:00:00Z",
            "participant": [{"status": "accepted", "type": [CODE]}],
            "cancelationReason": CODE,
        },
        "invariant",
        "Appointment",
    ),
    (
        "tim-9, errata",
        {
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "subject": {"display": "x"},
            "occurrenceTiming": {"repeat": {"offset": 5, "when": ["AC", "CM"]}},
        },
        "invariant",
        "ServiceRequest.occurrence.ofType(Timing).repeat",
    ),
    ("bdl-1", bundle("collection", {"resource": patient(id="1")}, total=1), "invariant", "Bundle"),
    ("bdl-3", bundle("transaction", {"resource": patient(id="1")}), "invariant", "Bundle"),
    ("bdl-4", bundle("batch-response", {"resource": patient(id="1")}), "invariant", "Bundle"),
    (
        "bdl-5",
        bundle("collection", {"fullUrl": "http://e.org/Patient/1"}),
        "invariant",
        "Bundle.entry[0]",
    ),
    (
        "bdl-7",
        bundle("collection", *({"fullUrl": "urn:x:1", "resource": patient(id=i)} for i in "ab")),
        "invariant",
        "Bundle",
    ),
    (
        "bdl-8",
        bundle(
            "collection", {"fullUrl": "http://e.org/Patient/1/_history/2", "resource": patient()}
        ),
        "invariant",
        "Bundle.entry[0]",
    ),
    (
        "bdl-9",
        bundle("document", {"resource": COMPOSITION}, timestamp="2020-01-01T00:00:00Z"),
        "invariant",
        "Bundle",
    ),
    (
        "an error inside an entry",
        bundle("collection", {"resource": patient(active="x")}),
        "structure",
        "Bundle.entry[0].resource.active",
    ),
    (
        "an unknown resource inside an entry",
        bundle("collection", {"resource": {"resourceType": "X"}}),
        "structure",
        "Bundle.entry[0].resource",
    ),
    (
        "Parameters inv-1",
        {"resourceType": "Parameters", "parameter": [{"name": "a"}]},
        "invariant",
        "Parameters.parameter[0]",
    ),
]
