"""$reidentify: the round trip through the vault, for whom, and what stays behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operations.deidentification import deidentification
from tests.serving import BACKENDS, Json, Server, issue, served

REASON = "an incidental finding has to be told to the patient"


@pytest.fixture(params=list(BACKENDS))
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path / "data", open_=False) as server:
        system = server.bearer("system/*.cruds")
        about = {"subject": {"reference": "Patient/p"}, "status": "final", "code": {"text": "x"}}
        for resource in (
            {"resourceType": "Practitioner", "id": "keeper"},
            {"resourceType": "Patient", "id": "p"},
            {"resourceType": "Observation", "id": "o"} | about,
        ):
            url = f"{resource['resourceType']}/{resource['id']}"
            assert server.put(url, resource, headers=system).status_code == 201
        deidentification(server.domain.settings).keys.add("study")
        server.user("keeper", "custodian", "Practitioner/keeper")
        server.user("boss", "admin", "Practitioner/keeper")
        yield server


def pseudonyms(server: Server) -> dict[str, str]:
    """type -> the id in the study's data."""
    url = "Patient/p/$anonymize?profile=research&project=study"
    answer = server.get(url, headers=server.bearer("system/*.rs"))
    assert answer.status_code == 200, answer.text
    found = [entry["resource"] for entry in answer.json()["entry"][:-1]]
    return {resource["resourceType"]: resource["id"] for resource in found}


def asked(server: Server, *names: str, **given: Any) -> Any:
    project, reason = given.pop("project", "study"), given.pop("reason", REASON)
    parameter: list[Json] = [{"name": "pseudonym", "valueString": name} for name in names]
    parameter.append({"name": "project", "valueString": project})
    if reason is not None:
        parameter.append({"name": "reason", "valueString": reason})
    body = {"resourceType": "Parameters", "parameter": parameter}
    bearer = given.pop("bearer", None) or server.bearer("user/*.rs", user="keeper")
    return server.post("$reidentify", body, headers=bearer)


def test_the_round_trip(ward: Server) -> None:
    ids = pseudonyms(ward)
    answer = asked(ward, ids["Patient"], ids["Observation"], "unused")
    assert answer.status_code == 200, answer.text
    *found, unknown = answer.json()["parameter"]
    assert unknown == {"name": "unknown", "valueString": "unused"}
    told = [
        {part["name"]: part for part in one["part"]} for one in found if one["name"] == "original"
    ]
    assert [one["resource"]["valueReference"]["reference"] for one in told] == [
        "Patient/p",
        "Observation/o",
    ]
    assert {one["patient"]["valueReference"]["reference"] for one in told} == {"Patient/p"}
    assert {one["key"]["valuePositiveInt"] for one in told} == {1}


def test_as_a_reference_of_the_answer_names_it(ward: Server) -> None:
    """What is outside of an answer is told there as ``urn:uuid:``, and known to the vault."""
    url = "Observation/o/$anonymize?profile=research&project=study"
    answer = ward.get(url, headers=ward.bearer("system/*.rs"))
    subject = answer.json()["entry"][0]["resource"]["subject"]
    assert "reference" not in subject and subject["type"] == "Patient"
    name = subject["identifier"]["value"]
    found, *unknown = asked(ward, name, "urn:uuid:unused").json()["parameter"]
    told = {part["name"]: part for part in found["part"]}
    assert told["pseudonym"]["valueString"] == name
    assert told["resource"]["valueReference"]["reference"] == "Patient/p"
    assert unknown == [{"name": "unknown", "valueString": "urn:uuid:unused"}]


def test_what_the_patient_and_the_auditor_see(ward: Server) -> None:
    ids = pseudonyms(ward)
    ward.user("pat", "patient", "Patient/p")
    asked(ward, ids["Observation"])
    mine = ward.bearer("patient/*.rs", user="pat", patient="p")
    log = ward.get("Patient/p/$access-log", headers=mine).text
    assert "keeper" in log and "looked up whose data in a study is yours" in log
    assert REASON not in log
    whole = ward.get("AuditEvent?patient=p", headers=ward.bearer("user/*.rs", user="boss")).text
    assert REASON in whole


def test_for_nobody_else(ward: Server) -> None:
    name = pseudonyms(ward)["Patient"]
    for bearer in (
        ward.bearer("system/*.cruds"),
        ward.bearer("user/*.rs", user="boss"),
        ward.bearer("user/Observation.rs", user="keeper"),
    ):
        answer = asked(ward, name, bearer=bearer)
        assert answer.status_code == 403 and issue(answer) and "Patient/p" not in answer.text
    get = ward.get(
        f"$reidentify?project=study&pseudonym={name}&reason=x",
        headers=ward.bearer("user/*.rs", user="keeper"),
    )
    assert get.status_code == 405
    keeper = ward.bearer("user/*.rs", user="keeper")
    assert ward.get("Patient/p", headers=keeper).status_code in (403, 404)


@pytest.mark.parametrize("reason", [None, "", "  ", "x\u0007", "x" * 501])
def test_only_with_a_reason(ward: Server, reason: str | None) -> None:
    answer = asked(ward, pseudonyms(ward)["Patient"], reason=reason)
    assert answer.status_code in (400, 422) and "Patient/p" not in answer.text


def test_of_another_project_nothing_is_known(ward: Server) -> None:
    name = pseudonyms(ward)["Patient"]
    found = asked(ward, name, project="other").json()["parameter"]
    assert found == [{"name": "unknown", "valueString": name}]


def test_a_vault_without_its_key_gives_and_takes_nothing(ward: Server) -> None:
    name = pseudonyms(ward)["Patient"]
    keys = deidentification(ward.domain.settings).keys
    ring = json.loads(keys.path.read_text())
    keys.path.write_text(json.dumps({k: v for k, v in ring.items() if k != "vault"}))
    answer = asked(ward, name)
    assert answer.status_code == 503 and issue(answer)
    url = "Patient/p/$anonymize?profile=research&project=study"
    answer = ward.get(url, headers=ward.bearer("system/*.rs"))
    assert answer.status_code == 503 and issue(answer) and "entry" not in answer.text


def test_what_is_erased_is_forgotten(ward: Server) -> None:
    ids = pseudonyms(ward)
    right = ward.bearer("system/*.cruds __expunge")
    order = {
        "resourceType": "Parameters",
        "parameter": [{"name": "compartment", "valueBoolean": True}],
    }
    keys = deidentification(ward.domain.settings).keys
    ring = keys.path.read_text()
    keys.path.write_text(json.dumps({k: v for k, v in json.loads(ring).items() if k != "vault"}))
    assert ward.post("Patient/p/$expunge", order, headers=right).status_code == 503
    keys.path.write_text(ring)
    assert ward.get("Patient/p", headers=right).status_code == 200
    assert ward.post("Patient/p/$expunge", order, headers=right).status_code == 200
    found = asked(ward, ids["Patient"], ids["Observation"]).json()["parameter"]
    assert [one["name"] for one in found] == ["unknown", "unknown"]
