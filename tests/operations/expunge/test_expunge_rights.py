"""$expunge: who may, what is refused, how it is described."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.expunge.records import CANARY, EVERYTHING, counts, logged, patient
from tests.serving import BACKENDS, Server, served

RIGHT = "system/*.cruds __expunge"


@pytest.fixture(params=list(BACKENDS))
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path / "data", open_=False) as server:
        yield server


MAY_NOT = (
    "system/*.cruds",
    "system/*.d",
    "system/Patient.cruds",
    "system/Patient.d __expunge",
    "system/Patient.r __expunge",
    "system/Observation.cruds __expunge",
    "system/Patient.rd?active=true __expunge",
    "system/*.cruds expunge",
    "system/*.cruds __expunger",
    "__expunge",
)


@pytest.mark.parametrize("scope", MAY_NOT)
def test_only_the_right_itself_opens_it(secured: Server, scope: str) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    patient(secured, "p", CANARY)
    secured.headers = secured.bearer(scope)
    answers = [
        secured.post(f"Patient/{id_}/$expunge?{what}=true")
        for id_ in ("p", "never")
        for what in ("expungeEverything", "compartment", "expungeDeletedResources")
    ]
    answers.append(secured.post("Patient/$expunge?expungeDeletedResources=true"))
    assert {answer.status_code for answer in answers} == {403}
    assert len({answer.text for answer in answers[:3]}) == len(
        {answer.text for answer in answers[:6]}
    )
    secured.headers = secured.bearer("system/*.r")
    assert CANARY in secured.get("Patient/p").text and logged(secured) == []


@pytest.mark.parametrize("holder", [{"patient": "p"}, {"user": "head"}, {"user": "doctor"}])
def test_a_person_does_not_have_it(secured: Server, holder: dict[str, str]) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    patient(secured, "p", CANARY)
    secured.user("head", "admin")
    secured.user("doctor", "family-doctor")
    secured.relation("doctor", "p")
    doctor = {"resourceType": "Practitioner", "id": "d"}
    assert secured.put("Practitioner/d", doctor).status_code == 201
    for context in ("patient", "user", "system"):
        secured.headers = secured.bearer(f"{context}/*.cruds __expunge", **holder)
        for place in ("Patient/p", "Practitioner/d"):
            assert secured.post(f"{place}/{EVERYTHING}").status_code == 403
    assert logged(secured) == []


def test_the_right_of_a_client(secured: Server) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    patient(secured, "p", CANARY)
    patient(secured, "q")
    secured.headers = secured.bearer("system/Patient.rd __expunge")
    assert secured.post("Patient/p/$expunge?compartment=true").status_code == 403
    assert counts(secured.post(f"Patient/p/{EVERYTHING}&purpose=PATRQT")) == (1, 1, False, [])
    never = secured.post(f"Patient/never/{EVERYTHING}")
    assert never.text == secured.post(f"Patient/p/{EVERYTHING}").text
    assert counts(secured.post(f"Patient/q/{EVERYTHING}")) == (1, 1, False, [])
    first, second = logged(secured)
    assert first == {
        "at": first["at"],
        "type": "Patient",
        "id": "p",
        "by": "test",
        "purpose": "PATRQT",
    }
    assert second["id"] == "q" and CANARY not in json.dumps(logged(secured))
    secured.headers = secured.bearer(RIGHT)
    patient(secured, "r")
    assert counts(secured.post("Patient/r/$expunge?compartment=true")) == (1, 1, False, [])


def test_refused(server: Server) -> None:
    patient(server, "p", CANARY)
    for url, status in {
        "Patient/p/$expunge": 400,
        "Patient/p/$expunge?expungeEverything=false": 400,
        "Patient/p/$expunge?expungeEverything=yes": 400,
        "Patient/p/$expunge?everything=true": 400,
        "Patient/p/$expunge?expungePreviousVersions=true&limit=5": 400,
        "Patient/$expunge?expungeEverything=true": 400,
        "Patient/$expunge?compartment=true": 400,
        "Observation/p/$expunge?compartment=true": 400,
        "Patient/p/$expunge?compartment=true&expungePreviousVersions=true": 400,
        "$expunge?expungeEverything=true": 400,
        "Nothing/p/$expunge?expungeEverything=true": 404,
    }.items():
        assert server.post(url).status_code == status, url
    answer = server.get(f"Patient/p/{EVERYTHING}")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert CANARY in server.get("Patient/p").text and logged(server) == []


def test_the_statement_and_the_definition(server: Server) -> None:
    statement = server.get("metadata").json()
    of_patient = next(r for r in statement["rest"][0]["resource"] if r["type"] == "Patient")
    assert "expunge" in [o["name"] for o in of_patient["operation"]]
    definition = server.get("OperationDefinition/expunge").json()
    assert definition["affectsState"] and not definition["system"]
    assert definition["type"] and definition["instance"]
    assert {p["name"] for p in definition["parameter"]} >= {"compartment", "limit", "count"}


def test_parameters_in_the_body(server: Server) -> None:
    patient(server, "p")
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": "expungeEverything", "valueBoolean": True}],
    }
    assert counts(server.post("Patient/p/$expunge", body)) == (1, 1, False, [])
