"""What no request waits for, on a whole server: drafts by themselves, and a Group as a job."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

from operations.models.automatic import NAME
from tests.audit.trail import entries
from tests.serving import Json, Server, served

GENEROUS = 60
PATIENT: Json = {"resourceType": "Patient", "gender": "male", "birthDate": "1970-01-01"}
SYSTEM = {"system": "http://unitsofmeasure.org", "code": "mg/dL"}


def creatinine(patient: str, value: float) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": time.strftime("%Y-%m-%d"),
        "valueQuantity": {"value": value, **SYSTEM},
    }


def until(server: Server, found: Any) -> Any:
    """What ``found`` gives once it gives something."""
    end = time.monotonic() + GENEROUS
    while not (value := found()):
        assert time.monotonic() < end
        server.run(asyncio.sleep(0.1))
    return value


def test_only_where_it_is_switched_on(tmp_path: Path) -> None:
    with served("memory", tmp_path / "off") as server:
        assert NAME not in {task.get_name() for task in server.tasks()}
    with served("memory", tmp_path / "on", auto_predict_seconds=1) as server:
        assert NAME in {task.get_name() for task in server.tasks()}
        server.run(asyncio.sleep(0))
        until(server, lambda: server.run(server.domain.store.ledger.get("feed", NAME)))
        patient = server.create(PATIENT)["id"]
        server.create(creatinine(patient, 0.9))
        url = f"Observation?patient={patient}&status=preliminary"
        (entry,) = until(server, lambda: server.get(url).json().get("entry"))
        draft = entry["resource"]
        assert draft["method"]["coding"][0]["code"] == "ckd-epi-2021"
        assert draft["device"]["reference"] == "Device/ckd-epi-2021-1.0.0"
        assert server.get(draft["device"]["reference"]).status_code == 200


def test_a_group_is_a_job(tmp_path: Path) -> None:
    with served("memory", tmp_path) as server:
        known, bare = (server.create(PATIENT)["id"] for _ in range(2))
        server.create(creatinine(known, 0.9))
        member = [{"entity": {"reference": f"Patient/{id_}"}} for id_ in (known, bare)]
        group = {"resourceType": "Group", "type": "person", "actual": True, "member": member}
        id_ = server.create(group)["id"]
        started = server.get(f"Group/{id_}/$predict?model=ckd-epi-2021")
        assert started.status_code == 202, started.text
        place = started.headers["content-location"]

        def ended() -> Any:
            answer = server.get(place)
            return answer if answer.status_code == 200 else None

        manifest = until(server, ended).json()
        assert manifest["requiresAccessToken"] is False
        (output,), (error,) = manifest["output"], manifest["error"]
        bundle = server.get(output["url"])
        assert bundle.headers["content-type"].startswith("application/fhir+ndjson")
        assert bundle.json()["id"] == known
        (issue,) = server.get(error["url"]).json()["issue"]
        assert (
            issue["details"]["text"] == f"Patient/{bare}" and "creatinine" in issue["diagnostics"]
        )
        assert server.get(f"Group/{id_}/$predict?model=x").status_code == 404
        statement = server.get("metadata").json()
        rows = {row["type"]: row for row in statement["rest"][0]["resource"]}
        named = [o["definition"].rpartition("/")[2] for o in rows["Group"]["operation"]]
        assert "group-predict" in named


def test_what_a_job_reads_and_writes_is_recorded(tmp_path: Path) -> None:
    with served("sqlite", tmp_path, open_=False) as server:
        server.headers = server.bearer("system/*.cruds")
        id_ = server.create(PATIENT)["id"]
        server.create(creatinine(id_, 0.9))
        member = [{"entity": {"reference": f"Patient/{id_}"}}]
        group = {"resourceType": "Group", "type": "person", "actual": True, "member": member}
        place = f"Group/{server.create(group)['id']}/$predict"
        asked = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "model", "valueCode": "ckd-epi-2021"},
                {"name": "store", "valueBoolean": True},
            ],
        }
        started = server.post(place, asked)
        assert started.status_code == 202, started.text

        def ended() -> Any:
            answer = server.get(started.headers["content-location"])
            return answer if answer.status_code == 200 else None

        (output,) = until(server, ended).json()["output"]
        assert server.get(output["url"]).json()["id"] == id_
        lines = [line for line in entries(tmp_path) if _url(line).endswith(place)]
        (job,) = [line for line in lines if line.get("job")]
        assert id_ in job["patients"] and job["status"] == 200
        assert len(job["writes"]) == 1  # the draft with its Provenance
        (fetched,) = [one for one in entries(tmp_path) if _url(one).endswith(".ndjson")]
        assert id_ in fetched["patients"]


def _url(line: dict[str, Any]) -> str:
    return b64decode(line.get("url", "")).decode()
