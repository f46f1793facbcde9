"""Examples of the implementation guide, as a server in this process makes them."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from fhir_server.access.break_glass import MINUTES, message, review
from fhir_server.access.roles import Standing
from fhir_server.app import assemble, serving
from fhir_server.config import Settings
from fhir_server.definitions.guide import PROFILES
from fhir_server.model.datatypes import parse_instant
from fhir_server.store.memory import MemoryStore

Json = dict[str, Any]
NOW = "2026-06-01T12:00:00Z"
SERVER = "http://127.0.0.1:8080"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
PATIENT: Json = {
    "resourceType": "Patient",
    "id": "example",
    "name": [{"family": "Example", "given": ["Eva"]}],
    "identifier": [{"system": "http://hospital.example.org/mrn", "value": "E-1001"}],
    "gender": "female",
    "birthDate": "1961-04-12",
    "address": [{"country": "CZ", "city": "Brno", "postalCode": "60200"}],
    "telecom": [{"system": "phone", "value": "+420 555 010 010"}],
}
MEASURED = (
    ("systolic", "8480-6", 142, "mm[Hg]"),
    ("cholesterol", "2093-3", 5.6, "mmol/L"),
    ("hdl", "2085-9", 1.3, "mmol/L"),
    ("creatinine", "2160-0", 0.9, "mg/dL"),
)
SMOKING = {"system": "http://snomed.info/sct", "code": "266919005"}
TIMES = ("recorded", "sent", "authoredOn")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def observation(id_: str, code: str, **value: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/example"},
        "effectiveDateTime": "2026-05-20T08:00:00Z",
        **value,
    }


def record() -> list[Json]:
    """One synthetic patient with what the models read."""
    measured = [
        observation(
            id_,
            code,
            valueQuantity={"value": value, "unit": unit, "system": UCUM, "code": unit},
        )
        for id_, code, value, unit in MEASURED
    ]
    smoking = observation("smoking", "72166-2", valueCodeableConcept={"coding": [SMOKING]})
    doctor = {"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Novak"}]}
    return [PATIENT, doctor, *measured, smoking]


async def answers() -> dict[str, Json]:
    """Name of an example -> what the server made, as it is, of the profile of that name."""
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(
            Settings(), store="memory:", data=Path(folder), research="off", model_workers=1
        )
        domain = await assemble(settings, MemoryStore())
        ids = iter(range(1, 10_000))
        engine = replace(
            domain.engine, now=lambda: parse_instant(NOW), new_id=lambda: f"example-{next(ids)}"
        )
        async with serving(replace(domain, engine=engine), open_=True) as application:
            transport = httpx.ASGITransport(app=application)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url=SERVER) as client:
                found = await _asked(Asking(client))
        await domain.store.close()
        return found


class Asking:
    """Requests that must succeed."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, method: str, url: str, body: Json | None = None) -> Json:
        answer = await self._client.request(
            method,
            f"/fhir/{url}",
            content=None if body is None else json.dumps(body),
            headers={"content-type": "application/fhir+json"},
        )
        if not answer.is_success:
            raise RuntimeError(f"{method} {url}: {answer.text}")
        found: Json = answer.json()
        return found


def parameters(**given: Any) -> Json:
    listed = [{"name": name.partition("_")[0], **value} for name, value in given.items()]
    return {"resourceType": "Parameters", "parameter": listed}


async def _asked(ask: Asking) -> dict[str, Json]:
    for one in record():
        await ask("PUT", f"{one['resourceType']}/{one['id']}", one)
    anonymized = await ask("GET", "Patient/example/$anonymize?profile=safe-harbor")
    asked = parameters(
        model_1={"valueCode": "score2"},
        model_2={"valueCode": "ckd-epi-2021"},
        store={"valueBoolean": True},
    )
    drafted = _by_type(await ask("POST", "Patient/example/$predict", asked))
    lacking = parameters(model={"valueCode": "findrisc"}, missing={"valueCode": "request"})
    requested = _by_type(await ask("POST", "Patient/example/$predict", lacking))
    risk, derived = drafted["RiskAssessment"][0], drafted["Observation"][0]
    accepted = parameters(decision={"valueCode": "accept"})
    reviewed = await ask("POST", f"Observation/{derived['id']}/$review", accepted)
    about = await ask("GET", f"Provenance?target=Observation/{derived['id']}")
    decided = [one for one in _by_type(about)["Provenance"] if "revision" in json.dumps(one)]
    device = next(one for one in drafted["Device"] if one["modelNumber"] == "score2")
    consented = parameters(
        template={"valueCode": "hide-kind"},
        label={"valueCode": "PSY"},
        understood={"valueBoolean": True},
    )
    consent = await ask("POST", "Patient/example/$consent", consented)
    return {
        "model-risk": risk,
        "model-observation": reviewed,
        "model-provenance": drafted["Provenance"][0],
        "review-provenance": decided[0],
        "model-device": device,
        "model-card": await ask("GET", f"DocumentReference/{device['id']}.card"),
        "feature-request": requested["Task"][0],
        "template-consent": consent["parameter"][0]["resource"],
        "deidentified-bundle": anonymized,
        "deidentification-report": anonymized["entry"][-1]["resource"],
        **emergency(),
    }


def emergency() -> dict[str, Json]:
    """What breaking the glass leaves for the patient and for who reviews it."""
    at, doctor = parse_instant(NOW), Standing("specialist", "Practitioner/doctor")
    until, reason = at + MINUTES * 60_000_000, "unconscious, no relatives"
    return {
        "break-glass-message": message("example", doctor, at),
        "break-glass-review": review("example", "novak", doctor, reason, at, until),
    }


def _by_type(bundle: Json) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for entry in bundle.get("entry", []):
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found


async def examples() -> dict[str, Json]:
    """Path within ``ig/`` -> example: with an id, without what differs from one time to the
    next."""
    made = await answers()
    found = {f"examples/{one['resourceType']}-{one['id']}.json": one for one in record()}
    for name, resource in made.items():
        plain = _settled(resource)
        meta = {k: v for k, v in plain.get("meta", {}).items() if k not in _VERSION}
        if meta.get("profile") != [PROFILES + name]:
            raise RuntimeError(f"{name}: the server says that it is {meta.get('profile')}")
        about = {
            "resourceType": plain["resourceType"],
            "id": plain.get("id", name),
            "meta": meta,
        }
        found[f"examples/{name}.json"] = {**about, **{k: plain[k] for k in plain if k not in about}}
    return found


_VERSION = ("versionId", "lastUpdated")


def _settled(resource: Json) -> Json:
    """With UUIDs by their order."""
    text, numbers = json.dumps(resource), dict[str, str]()
    for uuid in _UUID.findall(text):
        numbers.setdefault(uuid, f"00000000-0000-4000-8000-{len(numbers) + 1:012}")
    settled: Json = json.loads(_UUID.sub(lambda match: numbers[match[0]], text))
    return settled
