"""A Group as a job: a line per patient, failures told one by one, and a kill costs nothing."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from predicting import NOW, Chart, Road, World, indexes, parameters

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.jobs.context import JobContext
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import Job
from fhir_server.jobs.queue import Queue
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.exchange import Response
from fhir_server.model.problem import BadRequest, Gone, MethodNotAllowed, NotFound
from fhir_server.search.plan import Scan, Search
from operations import predict_group
from operations.parameters import decode
from operations.predict_group import GroupDelivery, GroupPredictions
from operations.registry import Invocation

pytestmark = pytest.mark.usefixtures("each_store")

CREATININE = "2160-0"


class Killed(BaseException):
    """Nothing of the process goes on."""


class Short(JobContext):
    """Dies after its first checkpoint."""

    async def checkpoint(self, state: Any) -> None:
        await super().checkpoint(state)
        raise Killed


def cohort(count: int) -> list[dict[str, Any]]:
    """Every third patient lacks what the model needs; one of the Group is not there."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        id_ = f"p{number}"
        chart = Chart()
        found.append({**chart.patient, "id": id_})
        if number % 3:
            value = chart.measure(CREATININE, 0.9, "mg/dL")
            found.append({**value, "id": f"c{number}", "subject": {"reference": f"Patient/{id_}"}})
    names = [f"Patient/p{n}" for n in range(count)] + ["Patient/nobody"]
    members = [{"entity": {"reference": name}} for name in names]
    group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
    return [*found, {**group, "member": members}]


class Ward:
    """A queue with nobody else at work."""

    def __init__(self, folder: Path, count: int = 6) -> None:
        self.world = World(cohort(count))
        self.queue = Queue(
            self.world.store.ledger, JobFiles(folder), lambda: time.time_ns() // 1000
        )
        own: Session = self.world.system
        self.parts = GroupPredictions(Road.models, indexes, own, self.queue)

    def ask(self, given: dict[str, Any] | None = None, query: str = "") -> Response:
        operation = self.parts.operation()
        pairs = [(n, v) for n, _, v in (p.partition("=") for p in query.split("&") if p)]
        arguments = decode(operation.inputs, pairs, given)
        method = "POST" if given else "GET"
        call = Invocation("instance", "Group", "g", method, "http://h/fhir", parse_instant(NOW))
        answer = operation.handler(arguments, self.world.session, call)
        found = asyncio.ensure_future(answer, loop=Road.runner.get_loop())
        response = Road.runner.get_loop().run_until_complete(found)
        assert isinstance(response, Response)
        return response

    def claim(self, kind: type[JobContext] = JobContext) -> JobContext:
        (job,) = Road.runner.run(self.queue.unfinished())
        claimed = Road.runner.run(self.queue.claim(job.id))
        assert claimed is not None
        return kind(self.queue, claimed, self.world.session)

    def done(self, context: JobContext) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The manifest, and the lines of all files."""
        Road.runner.run(self.parts.body()(context))
        job: Job = context.settled(context.job)
        delivery = GroupDelivery(self.queue.files)
        manifest = Road.runner.run(delivery.manifest(job, self.world.session))

        async def lines() -> list[dict[str, Any]]:
            found = []
            for one in [*manifest["output"], *manifest["error"]]:
                file = job.file(one["url"].rpartition("/")[2])
                assert file is not None
                text = await delivery.content(job, file, self.world.session)
                told = [loads(line) for line in text.splitlines()]
                assert len(told) == one["count"] and {t["resourceType"] for t in told} == {
                    one["type"]
                }
                found += told
            return found

        return manifest, Road.runner.run(lines())

    def of(self, type_: str) -> list[dict[str, Any]]:
        search = Search((Scan(type_),), count=100, total="none")
        page = Road.runner.run(self.world.system.search(search))
        return [loads(one.body) for one in page.matches]


def test_each_patient_is_answered_or_told_why_not(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    response = ward.ask(query="model=ckd-epi-2021")
    assert response.status == 202 and "/_async/" in response.headers["Content-Location"]
    manifest, lines = ward.done(ward.claim())
    assert manifest["request"].endswith("/Group/g/$predict")
    answers = {line["id"]: line for line in lines}
    assert set(answers) == {*(f"p{n}" for n in range(6)), "nobody"}
    for id_, line in answers.items():
        good = line["resourceType"] == "Bundle"
        assert good is (id_ in ("p1", "p2", "p4", "p5"))
        if not good:
            assert {i["details"]["text"] for i in line["issue"]} == {f"Patient/{id_}"}
    assert "creatinine" in json.dumps(answers["p0"], default=str)
    assert answers["nobody"]["issue"][0]["code"] == "not-found"
    result = answers["p1"]["entry"][0]["resource"]
    assert result["subject"] == {"reference": "Patient/p1"}


def test_killed_it_goes_on_and_stores_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_group, "FILE", 2)
    ward = Ward(tmp_path)
    ward.ask(parameters(model="ckd-epi-2021", store=True, missing="request"))
    dying = ward.claim(Short)
    with pytest.raises(Killed):
        Road.runner.run(ward.parts.body()(dying))
    job = Road.runner.run(ward.queue.get(dying.job.id))
    assert job is not None
    _, lines = ward.done(JobContext(ward.queue, job, ward.world.session))
    assert len(lines) == 7
    drafts = [o for o in ward.of("Observation") if o["status"] == "preliminary"]
    assert len(drafts) == 4
    assert {t["for"]["reference"] for t in ward.of("Task")} == {"Patient/p0", "Patient/p3"}


def test_what_is_refused_at_once(tmp_path: Path) -> None:
    ward = Ward(tmp_path, 1)
    with pytest.raises(NotFound, match="Unknown model"):
        ward.ask(query="model=score9")
    with pytest.raises(MethodNotAllowed):
        ward.ask(query="store=true")
    with pytest.raises(BadRequest, match="Unknown parameter 'override'"):
        ward.ask(parameters(override={"age": ("valueInteger", 50)}))
    assert Road.runner.run(ward.queue.unfinished()) == []


def test_once_patients_decide_otherwise_it_is_gone(tmp_path: Path) -> None:
    ward = Ward(tmp_path, 1)
    ward.ask(query="model=ckd-epi-2021")
    context = ward.claim()
    Road.runner.run(ward.parts.body()(context))
    job = context.settled(context.job)
    job.request["stamp"] = "other"
    delivery = GroupDelivery(ward.queue.files)
    with pytest.raises(Gone):
        Road.runner.run(delivery.manifest(job, ward.world.session))
    with pytest.raises(Gone):
        Road.runner.run(delivery.content(job, job.files[0], ward.world.session))
