"""$anonymize through a Session: what goes in, what comes out, and who may ask."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.drafts import Draft
from fhir_server.access.engine import Engine
from fhir_server.access.policy import PermitAll
from fhir_server.access.principal import Principal
from fhir_server.access.session import Session
from fhir_server.config import Settings
from fhir_server.definitions.registry import load
from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, NotFound, Problem, Unavailable, Unprocessable
from fhir_server.model.resource import Key
from fhir_server.search.extract import compile_extract
from fhir_server.search.match import matches
from fhir_server.search.schema import SearchSchema
from fhir_server.store.memory import MemoryStore
from fhir_server.validation.validate import Validator
from operations.anonymize import anonymize_operation, bundle
from operations.deid.engine import Deidentifier, profiles
from operations.deid.run import Run
from operations.deidentification import deidentification
from operations.parameters import decode
from operations.registry import Invocation, Level

NOW = 1_767_225_600_000_000  # 2026-01-01
BASE = "http://127.0.0.1:8080/fhir"
PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "name": [{"family": "Garza", "given": ["Katherine"]}],
    "birthDate": "1982-03-25",
}


def observation(id_: str, subject: str) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2089-1", "display": "LDL"}]},
        "subject": {"reference": subject, "display": "Garza"},
        "valueInteger": 93,
    }


async def world() -> Session:
    ids = itertools.count(1)
    schema = SearchSchema(load())
    engine = Engine(
        store=MemoryStore(),
        definitions=load(),
        validate=lambda resource: None,
        extract=compile_extract(schema, BASE),
        matches=matches,
        now=lambda: NOW,
        new_id=lambda: f"n{next(ids)}",
    )
    session = Session(engine, Principal("hospital", system=True), PermitAll())
    for resource in (
        PATIENT,
        PATIENT | {"id": "p2"},
        observation("o1", "Patient/p1"),
        observation("o2", f"{BASE}/Patient/p1"),
        observation("o3", "Patient/p2"),
    ):
        key = Key(resource["resourceType"], resource["id"])
        await session.write([Draft("PUT", key, resource)])
    return session


def call(
    level: Level = "instance",
    type_: str = "Patient",
    id_: str = "p1",
    query: tuple[tuple[str, str], ...] = (),
    body: Json | None = None,
    folder: Path | None = None,
) -> Json:
    async def run() -> Json:
        deid = deidentification(replace(Settings(), data=folder or Path("nowhere")))
        row = anonymize_operation(deid)
        arguments = decode(row.inputs, query, body, row.body)
        where = Invocation(level, type_, id_, "POST", BASE, NOW)
        answer = await row.handler(arguments, await world(), where)
        assert isinstance(answer, dict)
        return answer

    return asyncio.run(run())


def parameters(answer: Json) -> dict[str, Any]:
    report = answer["entry"][-1]["resource"]
    assert report["resourceType"] == "Parameters"
    return {p["name"]: p for p in report["parameter"] if p["name"] != "rule"}


def rules(answer: Json) -> list[Json]:
    return [p for p in answer["entry"][-1]["resource"]["parameter"] if p["name"] == "rule"]


def types(answer: Json) -> list[str]:
    return [entry["resource"]["resourceType"] for entry in answer["entry"]]


def test_a_patient_with_the_compartment() -> None:
    answer = call()
    assert answer["type"] == "collection"
    assert types(answer) == ["Patient", "Observation", "Observation", "Parameters"]
    assert not Validator(load()).issues(answer)
    patient, first, second, _ = (entry["resource"] for entry in answer["entry"])
    assert patient["birthDate"] == "1982"
    assert first["subject"]["reference"] == answer["entry"][0]["fullUrl"]
    assert first["valueInteger"] == 93
    assert answer["entry"][0]["fullUrl"] == f"urn:uuid:{patient['id']}"
    assert first["id"] != second["id"]
    text = dumps(answer).decode()
    for secret in ("Garza", "Katherine", '"p1"', "Patient/p1", "1982-03", "LDL", "127.0.0.1"):
        assert secret not in text


def test_one_resource() -> None:
    assert types(call(type_="Observation", id_="o3")) == ["Observation", "Parameters"]


def test_own_base_url_means_the_same_patient() -> None:
    """``http://server/fhir/Patient/p1`` and ``Patient/p1`` get one code."""
    answer = call()
    subjects = {e["resource"]["subject"]["reference"] for e in answer["entry"][1:3]}
    assert len(subjects) == 1


def test_resources_in_the_body() -> None:
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "resource", "resource": PATIENT},
            {"name": "resource", "resource": observation("o1", "Patient/p1")},
        ],
    }
    answer = call("system", "", "", body=body)
    assert types(answer) == ["Patient", "Observation", "Parameters"]
    assert answer["entry"][1]["resource"]["subject"]["reference"] == answer["entry"][0]["fullUrl"]


def test_a_bundle_as_body() -> None:
    url = "urn:uuid:5d9e8f4e-0000-4000-8000-000000000001"
    entries = [
        {"fullUrl": url, "resource": {k: v for k, v in PATIENT.items() if k != "id"}},
        {"fullUrl": "http://h.example/Observation/o1", "resource": observation("o1", url)},
    ]
    body = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    for level, type_ in (("system", ""), ("type", "Patient")):
        answer = call(level, type_, "", body=body)  # type: ignore[arg-type]
        patient, seen, _ = answer["entry"]
        assert seen["resource"]["subject"]["reference"] == patient["fullUrl"]
        assert url not in dumps(answer).decode()


def test_the_report_counts_what_was_touched_and_says_no_more() -> None:
    answer = call()
    assert parameters(answer)["profile"]["valueCode"] == "safe-harbor"
    assert parameters(answer)["resources"]["valueInteger"] == 3
    [names] = [r for r in rules(answer) if {"name": "path", "valueString": NAME} in r["part"]]
    assert {"name": "count", "valueInteger": 1} in names["part"]
    touched = [p for rule in rules(answer) for p in rule["part"] if p["name"] == "touched"]
    paths = {part["valueString"] for t in touched for part in t["part"] if part["name"] == "path"}
    assert {"Patient.name", "Patient.birthDate", "Observation.subject.display"} <= paths
    assert "Patient.active" not in paths
    assert not [path for path in paths if "[" in path]


def safe_harbor() -> Deidentifier:
    return next(p for p in profiles() if p.profile.code == "safe-harbor")


NAME = "nodesByType('HumanName')"


def test_review_also_names_what_stays_and_why() -> None:
    answer = call(query=(("mode", "review"),))
    assert types(answer) == ["Parameters"]
    told = dumps(rules(answer)).decode()
    assert "Patient.active" in told and "kept" in told and '"why"' in told
    assert "Garza" not in told


def test_a_profile_by_its_canonical() -> None:
    canonical = safe_harbor().profile.canonical
    assert parameters(call(query=(("profile", canonical), ("project", "x"))))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ((("profile", "unheard-of"),), NotFound),
        ((("mode", "guess"),), BadRequest),
        ((("nonsense", "1"),), BadRequest),
    ],
)
def test_bad_arguments(query: tuple[tuple[str, str], ...], expected: type[Problem]) -> None:
    with pytest.raises(expected):
        call(query=query)


@pytest.mark.parametrize("body", [PATIENT, {"resourceType": "Bundle", "type": "collection"}])
def test_a_body_beside_the_resource_of_the_url_is_refused(body: Json) -> None:
    with pytest.raises(BadRequest):
        call(body=body)


def test_absent_is_not_found() -> None:
    with pytest.raises(NotFound):
        call(id_="p9")


@pytest.mark.parametrize(
    "body",
    [
        observation("o1", "Patient/p1"),
        {"resourceType": "Bundle", "type": "collection", "entry": {"resource": PATIENT}},
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}] * 2},
        PATIENT | {"active": "Garza"},
    ],
)
def test_bad_bodies_give_no_data(body: Json) -> None:
    with pytest.raises(Unprocessable) as caught:
        call("type", "Patient", "", body=body)
    assert "Garza" not in str(caught.value.outcome())


def test_other_work_goes_on_during_a_large_answer() -> None:
    """The loop gets its turns."""
    many = [PATIENT | {"id": f"p{n}"} for n in range(10_000)]

    async def run() -> int:
        task = asyncio.ensure_future(bundle(safe_harbor(), many, Run(2026), review=False))
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(run()) > 5


RESEARCH = (("profile", "research"), ("project", "study"))


def test_a_project_gets_the_same_answer_until_its_key_is_rotated(tmp_path: Path) -> None:
    data = tmp_path / "data"
    keys = deidentification(replace(Settings(), data=data)).keys
    with pytest.raises(Unprocessable, match="no key for the project 'study'"):
        call(query=RESEARCH, folder=data)
    keys.add("study")
    keys.add("other")
    first = call(query=RESEARCH, folder=data)
    again = call(query=RESEARCH, folder=data)
    assert first["entry"][:-1] == again["entry"][:-1]
    other = call(query=(("profile", "research"), ("project", "other")), folder=data)
    keys.rotate("study")
    rotated = call(query=RESEARCH, folder=data)
    ids = [answer["entry"][0]["resource"]["id"] for answer in (first, other, rotated)]
    assert len(set(ids)) == 3
    with pytest.raises(BadRequest, match="for which project"):
        call(query=RESEARCH[:1], folder=data)


def test_what_the_vault_knows(tmp_path: Path) -> None:
    data = tmp_path / "data"
    deid = deidentification(replace(Settings(), data=data))
    deid.keys.add("study")
    first = call(query=RESEARCH, folder=data)["entry"][0]["resource"]["id"]
    deid.keys.rotate("study")
    second = call(query=RESEARCH, folder=data)["entry"][0]["resource"]["id"]
    reviewed = call(query=(*RESEARCH, ("mode", "review")), id_="p2", folder=data)
    assert types(reviewed) == ["Parameters"]
    found = asyncio.run(deid.vault.originals("study", [first, second, "unused"]))
    assert {name: (o.key, o.version) for name, o in found.items()} == {
        first: ("Patient/p1", 1),
        second: ("Patient/p1", 2),
    }
    assert not asyncio.run(deid.vault.originals("other", [first]))
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    text = b"".join(p.read_bytes() for p in files)
    assert b"Patient/p1" not in text and first.encode() not in text
    assert all(p.stat().st_mode & 0o077 == 0 for p in files if p.suffix in (".json", ".sqlite"))


def test_a_vault_that_cannot_be_written_gives_no_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    deidentification(replace(Settings(), data=data)).keys.add("study")
    (data / "deid" / "vault.sqlite").mkdir(parents=True)
    with pytest.raises(Unavailable):
        call(query=RESEARCH, folder=data)


def test_a_profile_of_ones_own_and_one_that_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "deid" / "profiles"
    folder.mkdir(parents=True)
    rule = {"path": "Patient.name", "method": "redact"}
    (folder / "mine.json").write_text(json.dumps({"fhirPathRules": [rule]}))
    patient = call(query=(("profile", "mine"),), folder=tmp_path)["entry"][0]["resource"]
    assert patient["birthDate"] == "1982-03-25" and "name" not in patient
    rule["method"] = "remove"
    (folder / "mine.json").write_text(json.dumps({"fhirPathRules": [rule], "url": "urn:x"}))
    with pytest.raises(Unprocessable, match="unknown method remove"):
        call(query=(("profile", "mine"),), folder=tmp_path)
