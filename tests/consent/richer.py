"""More of the two worlds: documents, drugs, claims, groups, tasks, a patient of others.

Each hidden thing is hidden by a rule of its own: its code, drug, diagnosis or clinic, by what
it is about or derived from, or because its patient is not in D's care.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tests.consent.bricks import (
    LOINC,
    NARRATIVE,
    REASONS,
    SENSITIVITY,
    SNOMED,
    Json,
    coded,
    observation,
    to,
)

RXNORM: Final = "http://www.nlm.nih.gov/research/umls/rxnorm"
ICD: Final = "http://hl7.org/fhir/sid/icd-10"
P1: Final = to("Patient/p1")


def more_visible(*, masked: bool) -> Iterable[Json]:
    """What D sees of it."""

    def only_if_whole(**members: Any) -> Json:
        return {} if masked else members

    def unmasked(*items: Json) -> list[Json]:
        return [] if masked else list(items)

    yield _composition(masked=masked)
    copy = observation("w", "2093-3", 8, "06")
    if not masked:
        copy["hasMember"] = [{**to("Observation/h1"), "display": "viralload"}]
    copied = {"contained": [copy], "derivedFrom": [to("#w")]}
    yield observation("v6", "2160-0", 2, "06", **copied)
    yield {
        "resourceType": "Group",
        "id": "g",
        "type": "person",
        "actual": True,
        **only_if_whole(quantity=2, text=NARRATIVE),
        "member": [{"entity": P1}, *unmasked({"entity": to("Patient/p3")})],
    }
    yield {
        "resourceType": "Coverage",
        "id": "cv",
        "status": "active",
        "beneficiary": P1,
        "payor": [to("Organization/z")],
    }
    yield {
        "resourceType": "CarePlan",
        "id": "cp",
        "status": "active",
        "intent": "plan",
        "subject": P1,
        "addresses": [
            to("Condition/k"),
            *unmasked({**to("Condition/h2"), "identifier": {"value": "n-h2"}}),
        ],
        **only_if_whole(supportingInfo=[to("MedicationRequest/hm")], text=NARRATIVE),
    }
    yield {
        "resourceType": "Condition",
        "id": "k",
        "code": coded(SNOMED, "38341003"),
        "subject": P1,
        "onsetDateTime": "2020-02-01",
        "evidence": [
            {"code": [{"text": "first"}], **only_if_whole(detail=[to("Observation/h1")])},
            *unmasked({"detail": [to("Observation/h1")]}),
            {"code": [{"text": "second"}], "detail": [to("Observation/v2")]},
        ],
        **only_if_whole(text=NARRATIVE),
    }
    yield {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": coded(RXNORM, "314076"),
        "subject": P1,
        "authoredOn": "2024-02-01",
        "encounter": to("Encounter/e1"),
        **only_if_whole(reasonReference=[to("Condition/h2")], text=NARRATIVE),
    }
    yield {
        "resourceType": "Encounter",
        "id": "e2",
        "status": "finished",
        "class": {"code": "IMP"},
        "subject": P1,
        "period": {"start": "2024-03-01", "end": "2024-03-09"},
        **only_if_whole(
            diagnosis=[{"condition": to("Condition/h2")}],
            partOf=to("Encounter/h4"),
            text=NARRATIVE,
        ),
    }
    yield {
        "resourceType": "Task",
        "id": "t",
        "status": "requested",
        "intent": "order",
        "for": P1,
        "focus": to("Observation/v2"),
        **only_if_whole(
            input=[
                {"type": {"text": "x"}, "valueReference": to(name)}
                for name in ("Observation/h1", "Bundle/hb")
            ],
            text=NARRATIVE,
        ),
    }
    yield {
        "resourceType": "Provenance",
        "id": "pv",
        "target": [to("Observation/v2")],
        "recorded": "2024-03-07T00:00:00Z",
        "agent": [{"who": to("Practitioner/d")}],
        **only_if_whole(
            entity=[{"role": "source", "what": to("DocumentReference/h3")}], text=NARRATIVE
        ),
    }

    yield {
        "resourceType": "DocumentReference",
        "id": "dv",
        "status": "current",
        "type": coded(LOINC, "11506-3"),
        "subject": P1,
        "content": [
            {"attachment": {"contentType": "text/plain", "title": "note", "data": "bm90ZQ=="}},
            *unmasked(
                {
                    "attachment": {"url": "Binary/b3", "contentType": "image/png"},
                    "format": {"system": "urn:formats", "code": "letter", "display": "letterform"},
                }
            ),
        ],
        **only_if_whole(
            relatesTo=[{"code": "replaces", "target": to("DocumentReference/h3")}],
            text=NARRATIVE,
        ),
    }
    yield {
        "resourceType": "Consent",
        "id": "c2",
        "status": "active",
        "scope": coded("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy"),
        "category": [coded(LOINC, "59284-0")],
        "patient": to("Patient/p2"),
        "policy": [{"uri": "urn:policy"}],
        "provision": {"type": "permit", "purpose": [{"system": REASONS, "code": "TREAT"}]},
    }


def _composition(*, masked: bool) -> Json:
    sections: list[Json] = [{"title": "Laboratory", "entry": [to("Observation/v2")]}]
    if masked:
        sections.append({"entry": [to("Observation/v3")]})
    else:
        sections.append(
            {
                "title": "Mixed",
                "entry": [to("Observation/h1"), to("Observation/v3")],
            }
        )
        sections.append(
            {
                "title": "Letters",
                "code": {**coded(LOINC, "34117-2"), "text": "letterhead"},
                "entry": [to("DocumentReference/h3")],
            }
        )
    return {
        "resourceType": "Composition",
        "id": "cc",
        "status": "final",
        "type": coded(LOINC, "60591-5"),
        "subject": P1,
        "date": "2024-03-08",
        "author": [to("Practitioner/d")],
        "title": "Summary",
        **({} if masked else {"text": NARRATIVE}),
        "section": sections,
    }


def _document() -> Json:
    """A document as a Bundle, with all that it cites: of a type that does not say whose it is."""
    cited = observation("h1", "25836-8", 5, "06")
    first = {**_composition(masked=False), "id": "cd", "title": "documentword"}
    entries = [
        {"fullUrl": f"urn:uuid:00000000-0000-4000-8000-00000000000{n}", "resource": one}
        for n, one in enumerate((first, cited))
    ]
    return {
        "resourceType": "Bundle",
        "id": "hb",
        "identifier": {"system": "urn:documents", "value": "n-hb"},
        "type": "document",
        "timestamp": "2024-03-08T00:00:00Z",
        "entry": entries,
    }


def late_hidden() -> Iterable[Json]:
    """What comes after the encounter from which it inherits."""
    yield _document()
    yield {
        "resourceType": "Flag",
        "id": "hg",
        "status": "active",
        "code": {"text": "call later"},
        "subject": P1,
        "encounter": to("Encounter/h4"),
    }


def more_hidden() -> Iterable[Json]:
    """What nobody but P1, the hospital and P3's own doctor sees; it comes before what it is
    about, so that the labels reach it later."""
    yield {
        "resourceType": "Observation",
        "id": "hs",
        "status": "final",
        "code": coded(LOINC, "25836-8"),
        "subject": to("Patient/p2"),
        "performer": [P1],
        "effectiveDateTime": "2024-03-07",
        "valueInteger": 3,
    }
    yield {
        "resourceType": "MedicationRequest",
        "id": "hm",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": coded(RXNORM, "1819"),
        "subject": P1,
        "authoredOn": "2024-02-03",
        "encounter": to("Encounter/e1"),
    }
    yield {
        "resourceType": "ExplanationOfBenefit",
        "id": "hx",
        "status": "active",
        "type": {"text": "professional"},
        "use": "claim",
        "patient": P1,
        "created": "2024-03-01",
        "insurer": to("Organization/z"),
        "provider": to("Organization/z"),
        "outcome": "complete",
        "diagnosis": [{"sequence": 1, "diagnosisCodeableConcept": coded(ICD, "F11.2")}],
        "insurance": [{"focal": True, "coverage": to("Coverage/cv")}],
    }
    yield {
        "resourceType": "Appointment",
        "id": "ha",
        "status": "booked",
        "reasonCode": [coded(ICD, "F32.1")],
        "start": "2024-05-01T10:00:00Z",
        "end": "2024-05-01T11:00:00Z",
        "participant": [
            {"actor": P1, "status": "accepted"},
            {"actor": to("Practitioner/d"), "status": "accepted"},
        ],
    }
    yield {
        "resourceType": "Flag",
        "id": "hf",
        "status": "active",
        "code": {"text": "call first"},
        "subject": P1,
        "encounter": to("Encounter/h4"),
    }
    yield {
        "resourceType": "RiskAssessment",
        "id": "hr",
        "status": "final",
        "subject": P1,
        "condition": to("Condition/h2"),
        "basis": [to("Observation/h1")],
        "prediction": [{"probabilityDecimal": 0.3}],
    }
    yield {
        "resourceType": "Observation",
        "id": "hd",
        "status": "final",
        "code": coded(LOINC, "2093-3"),
        "subject": P1,
        "effectiveDateTime": "2024-03-05",
        "valueQuantity": {
            "value": 77,
            "system": "http://unitsofmeasure.org",
            "code": "mmol/L",
            "unit": "mmol/L",
        },
        "derivedFrom": [to("Observation/h1")],
    }
    yield {
        "resourceType": "Task",
        "id": "ht",
        "status": "requested",
        "intent": "order",
        "for": P1,
        "focus": to("Condition/h2"),
    }
    yield {
        "resourceType": "Coverage",
        "id": "hc",
        "meta": {"security": [{"system": SENSITIVITY, "code": "PSY"}]},
        "status": "active",
        "beneficiary": P1,
        "payor": [to("Organization/z")],
    }
    yield {
        "resourceType": "Patient",
        "id": "p3",
        "name": [{"family": "Family3"}],
        "birthDate": "1983-01-02",
        "generalPractitioner": [to("Practitioner/d")],
    }
    yield {
        "resourceType": "Observation",
        "id": "o3",
        "status": "final",
        "code": coded(LOINC, "2093-3"),
        "subject": to("Patient/p3"),
        "effectiveDateTime": "2024-03-02",
        "performer": [to("Practitioner/d")],
    }
