"""A record trains a model: as a job and by command, as challenger, and no further by itself."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohorts
import pytest

from tests.serving import Server, served
from tests.structure.test_docs import fits, steps

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytestmark = pytest.mark.slow
RIGHT = "system/*.cruds __models"
PATIENTS = 140
PAGE = Path(__file__).parents[3] / "ig" / "pagecontent" / "training.md"


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


def told(server: Server, command: str, folder: Path, status: str) -> tuple[str, str]:
    """The answer of one line, and where that of a job will be. ``folder``: of its files."""
    if not command.startswith("fhir"):
        subprocess.run(command, shell=True, cwd=folder, check=True)
        return "", status
    method, url, options = "GET", "", {}
    words = iter(shlex.split(command)[1:])
    for word in words:
        match word:
            case "-s":
                continue
            case "-X":
                method = next(words)
            case "-H":
                options["headers"] = dict([next(words).split(": ")])
            case "--data-binary":
                options["content"] = (folder / next(words)[1:]).read_bytes()
            case _:
                url = word
    place = url.replace("$FHIR/..", "").replace("$FHIR/", "").replace("$STATUS", status)
    answer = server.send(method, place, **options)
    return answer.text.strip(), answer.headers.get("content-location", status)


def test_the_page_about_training_is_what_happens(server: Server, tmp_path: Path) -> None:
    """Train, register, shadow, promote, roll back: each line of the page, in its order."""
    page = PAGE.read_text(encoding="utf-8")
    (tmp_path / "infarction.toml").write_text(
        page.split("```toml\n")[1].split("```")[0], encoding="utf-8"
    )
    status, before, reports = "", "", []
    for command, expected in steps(page):
        for _ in range(600):
            found, status = told(server, command, tmp_path, status)
            if " -X " in command or fits(expected, found):
                break
            server.run(asyncio.sleep(0.2))  # a job, or what computes after the answer
            if "$predict" in before:  # a challenger may be late on a busy machine
                told(server, before, tmp_path, status)
        before = command
        assert fits(expected, found), f"{command}\nanswers {found[:1500]}"
        if "$STATUS" in command:
            parts = {p["name"]: p for p in json.loads(found)["parameter"]}
            reports.append(json.loads(parts["report"]["valueString"]))
    first, _, strict = reports
    counts = first["rows"]
    assert counts["train"]["rows"] + counts["test"]["rows"] == PATIENTS
    assert first["position"] > PATIENTS and first["left_out"] == {}
    # Had the pressures of the future been read, all would have been 250 and weighed nothing.
    assert abs(first["weights"]["sbp"]) > 1e-4
    assert (strict["frozen"], strict["data"]) == (first["frozen"], first["data"])


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
