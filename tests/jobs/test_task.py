from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from fhir_server.formats.json import dumps
from fhir_server.jobs.model import Failure, Job, JobFile, Owner, Progress, State
from fhir_server.jobs.task import STATUS, task_of
from fhir_server.model.problem import NotFound

JOB = Job(
    id="0123456789abcdef",
    kind="export",
    owner=Owner("anna", "app"),
    base="https://ehr.test/fhir",
    request={"method": "GET", "url": "Patient/$export"},
    created=1_700_000_000_000_000,
    expires=0,
    updated=1_700_000_000_000_000,
)


def jobs() -> list[Job]:
    running = replace(JOB, state="running", started=JOB.created + 1, progress=Progress(1, 2, "a"))
    done = replace(running, state="done", finished=JOB.created + 2_000_000)
    done = replace(done, files=(JobFile("Patient.ndjson", "x", 1), JobFile("response", "y", 1)))
    failure = Failure(404, NotFound("no such group").outcome())
    failed = replace(running, state="failed", failure=failure, finished=JOB.created + 9)
    return [JOB, running, done, failed, replace(JOB, state="cancelled")]


def test_every_state_has_a_status() -> None:
    assert set(STATUS) == set(State.__args__)  # type: ignore[attr-defined]
    assert {job.state for job in jobs()} == set(STATUS)


def test_what_a_task_says() -> None:
    queued, running, done, failed, _ = map(task_of, jobs())
    assert queued["status"] == "accepted" and queued["intent"] == "order"
    assert queued["requester"] == {"identifier": {"value": "anna"}}
    assert running["businessStatus"] == {"text": "1/2 a"}
    assert failed["statusReason"] == {"text": "no such group"}
    assert [o["valueUrl"] for o in done["output"]] == [
        "https://ehr.test/fhir/_async/0123456789abcdef",
        "https://ehr.test/fhir/_async/0123456789abcdef/Patient.ndjson",
    ]


@pytest.fixture(scope="module")
def schema(shared: Path) -> jsonschema.Draft7Validator:
    document = json.loads(gzip.decompress((shared / "fhir-r4/fhir.schema.json.gz").read_bytes()))
    task = {"$ref": "#/definitions/Task", "definitions": document["definitions"]}
    return jsonschema.Draft7Validator(task)


def test_tasks_are_valid(schema: jsonschema.Draft7Validator) -> None:
    for job in jobs():
        assert not list(schema.iter_errors(json.loads(dumps(task_of(job))))), job.state
    assert list(schema.iter_errors({**task_of(JOB), "status": 1}))
