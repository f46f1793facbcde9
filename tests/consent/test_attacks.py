"""The remaining numbered attacks, each on both worlds; and that every number has a test."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consent.asking import Asked, differs
from tests.consent.worlds import Json, Twin, twins
from tests.serving import BACKENDS

NUMBERS = [*range(1, 27), *range(29, 31), *range(35, 42), *range(43, 45), *range(46, 53), 54]
NUMBERS += [59, 60, 61, 62, 65, 66, 67, 70]
"""The attacks on what this server has by now."""


@pytest.fixture(scope="module", params=list(BACKENDS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Twin, Twin]]:
    with twins(request.param, tmp_path_factory.mktemp("twins")) as both:
        yield both


ASKED = {
    "L12": "Observation?patient.birthdate=1983-01-02",
    "L12 nobody": "Observation?patient:Patient.name=Family3",
    "L12 has": "Patient?_has:Observation:patient:date=2024-03-02",
    "L20 group": "Group/g",
    "L20 member": "Group?member=Patient/p3",
    "L20 of p1": "Group?member=Patient/p1",
    "L25 since": "Patient/p1/$everything?_since=2020-01-01T00:00:00Z",
    "L40 composition": "Composition/cc",
    "L40 section": "Composition?section=34117-2",
    "L40 include": "Composition?_include=Composition:entry",
    "L40 chain": "Composition?entry:Observation.code=718-7",
    "L40 reverse": "Observation?_has:Composition:entry:status=final",
    "L40 history": "Composition/cc/_history",
    "L40 section in words": "Composition?section:text=letterhead",
    "L40 section missing": "Composition?section:missing=true",
    "L41": "Binary/b3",
    "L41 attachment": "DocumentReference/dv",
    "L41 location": "DocumentReference?location=Binary/b3",
    "L41 format in words": "DocumentReference?format:text=letterform",
    "L41 format present": "DocumentReference?format:missing=false",
    "L43 claim": "ExplanationOfBenefit?patient=p1",
    "L43 drug": "MedicationRequest?patient=p1",
    "L43 drug by code": "MedicationRequest?code=1819",
    "L43 coverage": "Coverage?beneficiary=p1",
    "L43 appointment": "Appointment?patient=p1",
    "L44 risk": "RiskAssessment?patient=p1",
    "L44 flag": "Flag?patient=p1",
    "L44 derived": "Observation?derived-from=Observation/h1",
    "L44 value": "Observation?value-quantity=77",
    "L59 absolute": "Observation?patient=http://127.0.0.1:8080/fhir/Patient/p1",
    "L59 elsewhere": "Observation?patient=https://elsewhere.example/fhir/Patient/p1",
    "L59 urn": "Observation?patient=urn:uuid:7b9d0e3c-4f5a-4d8e-9a51-0d6f4bb7b3a1",
    "L59 hidden": "DiagnosticReport?result=http://127.0.0.1:8080/fhir/Observation/h1",
    "L60 escaped": "Observation/%681",
    "L60 dots": "Observation/%2e/h1",
    "L60 parameters": "Observation/h1;x=1",
    "L60 slash": "Observation/h1/",
    "L60 doubled": "/fhir//Observation/h1",
    "L60 format": "Observation/h1/_format=json",
    "L61 summary": "DiagnosticReport/v1?_summary=data",
    "L61 html": "DiagnosticReport/v1?_format=html",
    "L61 ndjson": "DiagnosticReport/v1?_format=ndjson",
    "L61 search": "DiagnosticReport?_elements=result&_format=xml",
}


@pytest.mark.parametrize("attack", ASKED)
def test_the_answer_is_that_of_the_twin(pair: tuple[Twin, Twin], attack: str) -> None:
    assert not differs(pair, Asked(ASKED[attack]))


def test_l60_no_other_method_leads_to_data(pair: tuple[Twin, Twin]) -> None:
    header = (("X-HTTP-Method-Override", "GET"),)
    asked = Asked("Observation/h1", method="POST", headers=header, body={"resourceType": "Basic"})
    assert not differs(pair, asked)
    assert pair[0].ask("POST", "Observation/h1", {}, **dict(header))[0] >= 400


def test_l04_options_are_the_same_for_any_id(pair: tuple[Twin, Twin]) -> None:
    assert not differs(pair, Asked("Observation/h1", method="OPTIONS"))


def test_l22_a_cursor_is_its_readers_own(pair: tuple[Twin, Twin]) -> None:
    whole = pair[0]
    first = whole.server.get("Observation?_count=1", headers=whole.patient).json()
    place = next(link["url"] for link in first["link"] if link["relation"] == "next")
    assert whole.server.get(place, headers=whole.doctor).status_code in (400, 404)
    for at in (len(place) - 9, place.index("_cursor=") + 12):
        other = "A" if place[at] != "A" else "B"
        broken = place[:at] + other + place[at + 1 :]
        assert whole.server.get(broken, headers=whole.patient).status_code in (400, 404, 410)


@pytest.mark.parametrize("place", ["metadata", "/health", "/metrics"])
def test_l24_what_is_public_names_nobody(pair: tuple[Twin, Twin], place: str) -> None:
    text = pair[0].server.get(place, headers=pair[0].doctor).text
    assert not re.search(r'/(h\d|p\d)\b|zolpi|Family[123]|"p1"', text)


def test_l47_patch_of_the_hidden_changes_nothing(pair: tuple[Twin, Twin]) -> None:
    headers = (("content-type", "application/json-patch+json"),)
    body = [{"op": "add", "path": "/note", "value": [{"text": "x"}]}]
    asked = Asked("Observation/h1", method="PATCH", headers=headers, body=body)
    assert not differs(pair, asked)
    kept = pair[0].server.get("Observation/h1", headers=pair[0].system)
    assert kept.json()["meta"]["versionId"] == "1"


def test_l51_no_error_tells_of_the_hidden(pair: tuple[Twin, Twin]) -> None:
    body: Json = {"resourceType": "Observation", "id": "h1", "status": "final"}
    body["code"] = {"text": "x"}
    for method, path in (
        ("POST", "Observation/$validate"),
        ("PUT", "Observation?_id=h1"),
        ("DELETE", "Encounter/h4"),
        ("DELETE", "Condition?_id=h2"),
    ):
        sent = None if method == "DELETE" else body
        assert not differs(pair, Asked(path, method=method, body=sent)), (method, path)


def test_l54_sizes_are_equal(pair: tuple[Twin, Twin]) -> None:
    sizes = [len(gzip.compress(t.ask("GET", "Observation?patient=p1")[2].encode())) for t in pair]
    assert sizes[0] == sizes[1]


def test_l62_a_patient_of_others_is_nobodys(pair: tuple[Twin, Twin]) -> None:
    for url in ("Patient/p3", "Patient/p3/$everything", "Patient/p3/Observation"):
        assert not differs(pair, Asked(url)), url
    launch = pair[0].server.bearer("patient/*.rs", user="d", patient="p3")
    assert pair[0].server.get("Patient/p3", headers=launch).status_code in (403, 404)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[tuple[Twin, Twin]]:
    with twins("memory", tmp_path) as both:
        yield both


def test_l05_deleted_is_as_never_there(fresh: tuple[Twin, Twin]) -> None:
    gone = fresh[0].server.delete("Observation/h1", headers=fresh[0].system)
    assert gone.status_code in (200, 204)
    for url in (
        *("Observation/h1", "Observation/h1/_history", "Observation/_history", "_history"),
        *("DiagnosticReport/v1", "DiagnosticReport?result=Observation/h1", "Observation/v3"),
    ):
        assert not differs(fresh, Asked(url)), url


def test_every_number_has_a_test() -> None:
    folder = Path(__file__).parents[1]
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("test_*.py"))
    lacking = [n for n in NUMBERS if not re.search(rf'"L{n:02}\b|_l{n:02}_|\bL{n:02}\b', text)]
    assert lacking == []
