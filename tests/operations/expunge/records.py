"""What is expunged, and where it could be left."""

from __future__ import annotations

from typing import Any

import httpx

from fhir_server.store.erase_log import KIND
from tests.serving import Server

CANARY = "Canary7f3a"
EVERYTHING = "$expunge?expungeEverything=true"


def patient(server: Server, id_: str, family: str = "Doe", **more: Any) -> str:
    body = {"resourceType": "Patient", "id": id_, "name": [{"family": family}], **more}
    answer = server.put(f"Patient/{id_}", body)
    assert answer.status_code in (200, 201), answer.text
    return id_


def counts(answer: httpx.Response) -> tuple[int, int, bool, list[str]]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["resourceType"] == "Parameters"
    named = {p["name"]: p for p in body["parameter"]}
    kept = [p["valueReference"]["reference"] for p in body["parameter"] if p["name"] == "kept"]
    return (
        named["count"]["valueInteger"],
        named["resources"]["valueInteger"],
        named["more"]["valueBoolean"],
        kept,
    )


def logged(server: Server) -> list[dict[str, Any]]:
    return [row.value for row in server.run(server.domain.store.ledger.scan(KIND))]
