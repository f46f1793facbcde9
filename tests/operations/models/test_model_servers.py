"""Servers with models of their own: what fails costs its call, and where packages may lie."""

from __future__ import annotations

from pathlib import Path

import odd_graphs as graphs
import packages
import pytest

from operations.models.assembly import models_of
from tests.s3 import new_bucket
from tests.serving import Json, backends, served

pytestmark = pytest.mark.slow
ZIP = {"content-type": "application/zip"}
PRESSURE: Json = packages.pressure("p", 120)


@pytest.fixture(params=backends("sqlite"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_graph_that_fails_costs_one_503_and_no_byte_of_the_record(
    backend: str, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    for fault in ("nan", "hang", "memory", "size"):
        (folder / fault).mkdir(parents=True)
        for name, content in packages.parts(fault, graph=graphs.above(200, fault)).items():
            (folder / fault / name).write_bytes(content)
    with served(backend, tmp_path, models=folder, model_seconds=2) as server:
        server.put("Patient/p", {"resourceType": "Patient", "id": "p"})
        high = {**PRESSURE["valueQuantity"], "value": 240}
        assert server.post("Observation", PRESSURE | {"valueQuantity": high}).status_code == 201
        sound = {
            "name": "override",
            "part": [
                {"name": "feature", "valueCode": "x"},
                {"name": "value", "valueQuantity": PRESSURE["valueQuantity"]},
            ],
        }
        before = server.run(server.domain.store.position())
        for fault in ("nan", "hang", "memory", "size"):
            asked = {"name": "model", "valueCode": fault}
            store = {"name": "store", "valueBoolean": True}
            body = {"resourceType": "Parameters", "parameter": [asked, store]}
            failed = server.post("Patient/p/$predict", body)
            assert (failed.status_code, failed.json()["resourceType"]) == (503, "OperationOutcome")
            body["parameter"] = [asked, sound]
            assert server.post("Patient/p/$predict", body).status_code == 200, fault
            assert server.run(server.domain.store.position()) == before


def test_packages_lie_in_the_object_store(backend: str, tmp_path: Path) -> None:
    with served(backend, tmp_path, blobs=new_bucket()) as server:
        archive = packages.zipped(packages.parts("far"))
        pushed = server.send("POST", "/models", content=archive, headers=ZIP)
        assert pushed.status_code == 200
        assert not any(path.is_file() for path in (tmp_path / "blobs").rglob("*"))

        async def fetched() -> str:
            domain = server.domain
            models = models_of(domain.settings, domain.engine, domain.indexes)
            try:
                return (await models.registry.champion("far|1.0.0")).id
            finally:
                await models.close()

        assert server.run(fetched()) == "far-1.0.0"
