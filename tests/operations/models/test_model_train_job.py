"""A record trains a model: as a job and by command, as challenger, and no further by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohorts
import pytest

from tests.serving import Json, Server, served

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytestmark = pytest.mark.slow
RIGHT = "system/*.cruds __models"
PATIENTS = 140


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served("memory", tmp_path_factory.mktemp("training"), open_=False) as made:
        made.headers = made.bearer(RIGHT, minutes=60)
        entries = [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in cohorts.record(PATIENTS)
        ]
        for start in range(0, len(entries), 400):
            some = {
                "resourceType": "Bundle",
                "type": "batch",
                "entry": entries[start : start + 400],
            }
            assert made.post("", some).status_code == 200
        yield made


def asked(server: Server, text: str, **options: Any) -> Any:
    body = {"resourceType": "Parameters"}
    body["parameter"] = [{"name": "specification", "valueString": text}]  # type: ignore[assignment]
    return server.post("$model-train", body, **options)


def trained(server: Server, text: str) -> Any:
    """The answer at the status URL, once it is there."""
    started = asked(server, text)
    assert started.status_code == 202, started.text
    for _ in range(300):
        server.run(asyncio.sleep(1.0))
        answer = server.get(started.headers["content-location"])
        if answer.status_code not in (202, 429):
            return answer
    raise AssertionError("the job has not ended")


def value(parameters: Json, name: str) -> Any:
    part = next(p for p in parameters["parameter"] if p["name"] == name)
    return next(v for k, v in part.items() if k.startswith("value"))


def test_a_job_makes_a_challenger_that_a_person_may_promote(server: Server) -> None:
    answer = trained(server, cohorts.spec())
    assert answer.status_code == 200, answer.text
    report = json.loads(value(answer.json(), "report"))
    assert value(answer.json(), "passed") is True, report["gate"]
    counts = report["rows"]
    assert counts["train"]["rows"] + counts["test"]["rows"] == PATIENTS
    assert report["position"] > PATIENTS and report["left_out"] == {}
    # Had the pressures of the future been read, all would have been 250 and weighed nothing.
    assert abs(report["weights"]["sbp"]) > 1e-4

    listed = server.get("$models", params={"model": "demo-risk"}).json()
    assert '"challenger"' in json.dumps(listed)
    assert server.get("Patient/t1/$predict", params={"model": "demo-risk"}).status_code == 404
    about = {"version": "1.0.0", "reason": "its gate is passed and I have read its report"}
    done = server.send("POST", "/models/demo-risk/activate", params=about)
    assert done.status_code == 200, done.text
    query = {"model": "demo-risk", "asOf": "2020-06-02T00:00:00Z"}
    told = server.get("Patient/t1/$predict", params=query)
    assert told.status_code == 200, told.text

    again = trained(server, cohorts.spec(version="2.0.0", auroc=0.999))
    assert again.status_code == 200 and value(again.json(), "passed") is False
    same = json.loads(value(again.json(), "report"))
    assert (same["frozen"], same["data"]) == (report["frozen"], report["data"])
    about = {"version": "2.0.0", "reason": "I want it anyway"}
    refused = server.send("POST", "/models/demo-risk/activate", params=about)
    assert (refused.status_code, "gate: auroc" in refused.text) == (409, True), refused.text


def test_who_may_not_decide_or_not_read_may_not_train(server: Server) -> None:
    for scope in ("system/*.cruds", "system/Device.cruds __models"):
        answer = asked(server, cohorts.spec(), headers=server.bearer(scope))
        assert answer.status_code == 403, answer.text
    server.user("chief", "admin", fhir_user="Practitioner/chief")
    answer = asked(server, cohorts.spec(), headers=server.bearer("user/*.cruds", user="chief"))
    assert answer.status_code == 403 and "no part in the record" in answer.text
    assert asked(server, "name = 1").status_code == 422
    wrong = cohorts.spec().replace('concept = "demo-infarction"', 'concept = "nothing"')
    assert asked(server, wrong).status_code == 422


def test_the_command_says_why_it_cannot(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from fhir_server.cli import app

    path = tmp_path / "spec.toml"
    path.write_text(cohorts.spec(), encoding="utf-8")
    found = CliRunner().invoke(app, ["model", "train", str(path), "--data", str(tmp_path / "d")])
    assert found.exit_code != 0 and "too little to train" in str(found.exception) + found.output
