"""Repair for bulk loading: empties vanish, unknown content moves, valid resources stay."""

from __future__ import annotations

import copy
from pathlib import Path

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.validation.repair import UNKNOWN_ELEMENT, repair
from fhir_server.validation.validate import Validator

DEFINITIONS = load()
VALIDATOR = Validator(DEFINITIONS)


def test_unknown_and_empty_content() -> None:
    resource = {
        "resourceType": "MedicationAdministration",
        "status": "completed",
        "medicationCodeableConcept": {"text": "x", "coding": [{"system": "http://s", "code": ""}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": "2025-01-01",
        "note": [],
        "dosage": {"text": "t", "dose": {"value": 1}, "timing": {"code": {"text": "daily"}}},
        "partOf": [{}],
    }
    before = copy.deepcopy(resource)
    mended = repair(resource, DEFINITIONS)
    assert resource == before
    assert mended.repairs == [
        "MedicationAdministration.medicationCodeableConcept.coding.code: empty",
        "MedicationAdministration.note: empty",
        "MedicationAdministration.dosage.timing: unknown element",
        "MedicationAdministration.partOf: empty",
        "MedicationAdministration.partOf: empty",
    ]
    [extension] = mended.resource["dosage"]["extension"]
    assert extension["url"] == UNKNOWN_ELEMENT
    assert extension["extension"][1]["valueString"] == '{"code":{"text":"daily"}}'
    assert VALIDATOR.issues(mended.resource) == []


def test_valid_resources_stay_as_they_are(shared: Path) -> None:
    for path in sorted((shared / "conformance" / "examples").rglob("*.json"))[::4]:
        resource = loads(path.read_bytes())
        if not VALIDATOR.issues(resource):
            mended = repair(resource, DEFINITIONS)
            assert mended.resource == resource and mended.repairs == [], path.name
