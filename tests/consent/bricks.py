"""What the two worlds are built of."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
SENSITIVITY = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
REASONS = "http://terminology.hl7.org/CodeSystem/v3-ActReason"


def coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def to(reference: str) -> Json:
    return {"reference": reference}


def observation(id_: str, code: str, value: int, day: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": coded(LOINC, code),
        "subject": to("Patient/p1"),
        "effectiveDateTime": f"2024-03-{day}",
        "valueQuantity": {
            "value": value,
            "system": "http://unitsofmeasure.org",
            "code": "mmol/L",
            "unit": "mmol/L",
        },
        **more,
    }


def consent(id_: str = "c1", **more: Any) -> Json:
    """P1 permits treatment by D, but not of what is HIV, SUD or PSY."""
    labels = [{"system": SENSITIVITY, "code": code} for code in ("HIV", "SUD", "PSY")]
    purposes = [{"system": REASONS, "code": "TREAT"}]
    return {
        "resourceType": "Consent",
        "id": id_,
        "status": "active",
        "scope": coded("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy"),
        "category": [coded(LOINC, "59284-0")],
        "patient": to("Patient/p1"),
        "dateTime": "2024-01-01",
        "policy": [{"uri": "urn:policy"}],
        "provision": {
            "type": "permit",
            "purpose": purposes,
            "provision": [{"type": "deny", "securityLabel": labels}],
        },
        **more,
    }


NARRATIVE = {
    "status": "additional",
    "div": '<div xmlns="http://www.w3.org/1999/xhtml">HIV viral load was measured</div>',
}
