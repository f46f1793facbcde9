"""Words of the probes of safe-harbor's rules."""

from __future__ import annotations

from typing import Any

from fhir_server.model.exchange import Json

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
