"""What the tests of bulk exports are about, ask and are given."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from fhir_server.definitions.registry import load
from fhir_server.validation.validate import Validator
from tests.serving import BASE, Json, Server

ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}
SCOPE = "system/*.rs"
RESEARCH = {"x-purpose-of-use": "HRESCH"}
VALIDATOR = Validator(load())
LENIENT = {"prefer": "respond-async, handling=lenient"}


def observation(id_: str, patient: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "valueInteger": 3,
        **more,
    }


def put(server: Server, *resources: Json) -> None:
    headers = server.bearer("system/*.cruds")
    for resource in resources:
        url = f"{resource['resourceType']}/{resource['id']}"
        answer = server.put(url, resource, headers=headers)
        assert answer.status_code in (200, 201), answer.text


def group(*patients: str) -> Json:
    members = [{"entity": {"reference": f"Patient/{p}"}} for p in patients]
    actual = {"type": "person", "actual": True, "member": members}
    return {"resourceType": "Group", "id": "g", **actual}


def fill(server: Server) -> None:
    patients = [
        {"resourceType": "Patient", "id": p, "name": [{"family": p}], "gender": "female"}
        for p in "abc"
    ]
    put(server, *patients, {"resourceType": "Organization", "id": "o", "name": "O"})
    put(server, *[observation(f"{p}{n}", p) for p in "abc" for n in "12"])
    put(server, observation("of-o", "a") | {"subject": {"reference": "Device/d"}})
    put(server, group("a", "b"))


def kicked(server: Server, url: str = "Group/g/$export", **headers: str) -> httpx.Response:
    return server.get(url, headers=server.bearer(SCOPE) | ASYNC | headers)


def started(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    url: str = answer.headers["content-location"]
    assert url.startswith(f"{BASE}/")
    return url


def ended(server: Server, url: str, headers: dict[str, str]) -> httpx.Response:
    for _ in range(1200):
        answer = server.get(url, headers=headers)
        if answer.status_code not in (202, 429):
            return answer
        server.run(asyncio.sleep(0.05))
    pytest.fail("the export did not end")


def manifest(server: Server, url: str, scope: str = SCOPE) -> Json:
    answer = ended(server, url, server.bearer(scope))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: Json = answer.json()
    return found


def lines(server: Server, url: str, scope: str = SCOPE) -> list[Json]:
    answer = server.get(url, headers=server.bearer(scope))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/fhir+ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def ids(server: Server, made: Json, part: str = "output") -> set[str]:
    """Everything that a manifest names; each file is of one type and counted."""
    found: list[str] = []
    for item in made[part]:
        rows = lines(server, item["url"])
        assert {row["resourceType"] for row in rows} == {item["type"]}
        assert item.get("count", len(rows)) == len(rows) > 0
        found += [f"{row['resourceType']}/{row['id']}" for row in rows]
    assert len(set(found)) == len(found)
    return set(found)


def gone(server: Server, made: Json) -> set[str]:
    rows = [row for item in made["deleted"] for row in lines(server, item["url"])]
    for row in rows:
        assert (row["resourceType"], row["type"]) == ("Bundle", "transaction")
        assert [e["request"]["method"] for e in row["entry"]] == ["DELETE"]
    return {entry["request"]["url"] for row in rows for entry in row["entry"]}


def exported(server: Server, url: str, **headers: str) -> set[str]:
    return ids(server, manifest(server, started(kicked(server, url, **headers))))


def device(id_: str, patient: str) -> Json:
    named = {"patient": {"reference": f"Patient/{patient}"}} if patient else {}
    return {"resourceType": "Device", "id": id_, **named}


def consent(patient: str, type_: str) -> Json:
    """The patient permits, or denies, everything."""
    system = "http://terminology.hl7.org/CodeSystem/"
    return {
        "resourceType": "Consent",
        "id": f"of-{patient}",
        "status": "active",
        "scope": {"coding": [{"system": f"{system}consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2024-01-01",
        "policy": [{"uri": "urn:policy"}],
        "provision": {"type": type_},
    }
