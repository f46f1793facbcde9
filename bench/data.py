"""The load: the demo patients as transaction bundles, and single Observations."""

from __future__ import annotations

import gzip
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
DEMO = Path(__file__).parents[1] / "fhir_server" / "demo" / "patients.ndjson.gz"


def demo() -> dict[str, Json]:
    """The demo resources by ``Type/id``."""
    with gzip.open(DEMO, "rt", encoding="utf-8") as lines:
        resources = [json.loads(line) for line in lines]
    return {f"{r['resourceType']}/{r['id']}": r for r in resources}


def owner(resource: Json) -> str:
    for name in ("subject", "patient", "beneficiary"):
        reference = resource.get(name, {}).get("reference", "")
        if reference.startswith("Patient/"):
            return str(reference)
    return ""


def bundles(resources: dict[str, Json]) -> list[Json]:
    """One transaction per patient: its records and what they refer to, as urn:uuid."""
    records: dict[str, list[str]] = defaultdict(list)
    for key, resource in resources.items():
        if patient := owner(resource):
            records[patient].append(key)
    return [_bundle(resources, [patient, *records[patient]]) for patient in sorted(records)]


def _bundle(resources: dict[str, Json], keys: list[str]) -> Json:
    queue, chosen = list(keys), {}
    while queue:
        key = queue.pop()
        if key in resources and key not in chosen:
            chosen[key] = f"urn:uuid:{uuid.uuid4()}"
            queue.extend(_references(resources[key]))
    entries = [
        {
            "fullUrl": url,
            "resource": _renamed(resources[key], chosen),
            "request": {"method": "POST", "url": key.split("/")[0]},
        }
        for key, url in chosen.items()
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("reference"), str):
            yield reference
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        renamed = {name: _renamed(inner, names) for name, inner in value.items()}
        reference = value.get("reference")
        if isinstance(reference, str):
            renamed["reference"] = names.get(reference, reference)
        return renamed
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return value


def observation(patient: str, number: int) -> bytes:
    """A laboratory result of ``patient`` ("Patient/1"), about 0.7 KB."""
    day, hour = number % 28 + 1, number % 24
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "category": [
            {"coding": [{"system": category, "code": "laboratory", "display": "Laboratory"}]}
        ],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": "2093-3", "display": "Cholesterol"}],
            "text": "Total cholesterol",
        },
        "subject": {"reference": patient},
        "effectiveDateTime": f"2025-{number % 12 + 1:02}-{day:02}T{hour:02}:30:00+02:00",
        "issued": f"2025-{number % 12 + 1:02}-{day:02}T{hour:02}:45:00.000Z",
        "valueQuantity": {
            "value": 150 + number % 100,
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
    }
    return json.dumps(resource, separators=(",", ":")).encode()


def people() -> Callable[[int], bytes]:
    """Patients by number: those of the demo, each time with another identifier and birthday."""
    known = [one for key, one in sorted(demo().items()) if key.startswith("Patient/")]

    def person(number: int) -> bytes:
        resource = dict(known[number % len(known)])
        resource["identifier"] = [{"system": "urn:ietf:rfc:3986", "value": f"urn:x:{number:08}"}]
        resource["birthDate"] = f"{1930 + number % 90}-{number % 12 + 1:02}-{number % 28 + 1:02}"
        for name in ("id", "meta"):
            resource.pop(name, None)
        return json.dumps(resource, separators=(",", ":"), ensure_ascii=False).encode()

    return person
