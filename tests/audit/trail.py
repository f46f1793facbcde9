"""A server with something in it, and its audit trail as it stands on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fhir_server.access.audit.verify import Report, verify
from tests.serving import Json, Server

ALL = "system/*.cruds"
NAME = "Kovalenko-Canary"


class Clinic:
    """``other``: another patient; ``auditor``: headers of a client that reads the trail."""

    other = until = ""
    auditor: dict[str, str] = {}

    def __init__(self, server: Server, data: Path) -> None:
        self.server = server
        self.data = data
        self.all = server.bearer(ALL)
        self.patient = str(server.create(patient(), headers=self.all)["id"])
        made = server.create(observation(self.patient), headers=self.all)
        self.observation = str(made["id"])

    def lines(self) -> list[dict[str, Any]]:
        """Of all chains, but for their openings."""
        return [line for line in entries(self.data) if line["n"]]

    def last(self) -> dict[str, Any]:
        return self.lines()[-1]

    def verified(self) -> Report:
        return self.server.run(verify(self.data, self.server.domain.store.ledger))


def patient() -> Json:
    return {"resourceType": "Patient", "name": [{"family": NAME}]}


def observation(patient: str, **more: Any) -> Json:
    subject = {"reference": f"Patient/{patient}"}
    code = {"text": "weight"}
    kept = {"resourceType": "Observation", "status": "final", "code": code, "subject": subject}
    return kept | more


def files(data: Path) -> list[Path]:
    return sorted((data / "audit").glob("*.ndjson"))


def entries(data: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in files(data) for line in path.read_bytes().splitlines()]
