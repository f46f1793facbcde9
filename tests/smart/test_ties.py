"""A Provenance is tied to the patient of what it is about, whichever of them comes first (J04)."""

from __future__ import annotations

import pytest

from fhir_server.access.labels import LABEL
from fhir_server.access.ties import EXTENSION
from fhir_server.search.plan import Present, Scan, Search
from tests.serving import Server
from tests.smart.test_j_us_core import source

Json = dict[str, object]


@pytest.fixture
def record(secured: Server) -> Server:
    for id_ in ("a", "c"):
        put(secured, {"resourceType": "Patient", "id": id_})
    return secured


def observation(id_: str, patient: str | None = "a") -> Json:
    subject = {"subject": {"reference": f"Patient/{patient}"}} if patient else {}
    code = {"text": "x"}
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": code,
    } | subject


def put(server: Server, *resources: Json, kind: str = "transaction") -> list[int]:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    answer = server.post("", bundle, headers=server.bearer("system/*.cruds"))
    assert answer.status_code == 200, answer.text
    return [int(entry["response"]["status"][:3]) for entry in answer.json()["entry"]]


def whose(server: Server, id_: str = "p") -> str:
    """The patient it is tied to, as its meta and the compartment say alike."""
    every = server.bearer("system/*.cruds")
    meta = server.get(f"Provenance/{id_}", headers=every).json()["meta"]
    ties = [one for one in meta.get("extension", ()) if one["url"] == EXTENSION]
    said = ties[0]["valueReference"]["reference"].partition("/")[2] if ties else ""
    for patient in ("a", "c"):
        own = server.bearer("patient/*.rs", patient=patient)
        found = server.get(f"Provenance?_id={id_}", headers=own).json()
        assert len(found.get("entry", ())) == (said == patient), (said, patient)
    return said


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize("first", [True, False])
def test_in_one_bundle_in_either_order(record: Server, kind: str, first: bool) -> None:
    two = [source("p", "Observation/1", "Observation/2"), observation("1"), observation("2")]
    assert put(record, *(two if first else reversed(two)), kind=kind) == [201] * 3
    assert whose(record) == "a"


def test_what_it_is_about_comes_later(record: Server) -> None:
    put(record, source("p", "Observation/1", "Observation/2"), source("q", "Observation/2"))
    assert whose(record) == whose(record, "q") == ""
    put(record, observation("1"))
    assert whose(record) == ""
    put(record, observation("2"))
    assert whose(record) == whose(record, "q") == "a"
    every = record.bearer("system/*.cruds")
    versions = record.get("Provenance/p/_history", headers=every).json()["entry"]
    told = [one["resource"]["meta"].get("extension") for one in versions]
    assert [bool(one) for one in told] == [True, False]
    kept = [{k: v for k, v in one["resource"].items() if k != "meta"} for one in versions]
    assert kept[0] == kept[1]
    put(record, observation("2") | {"status": "amended"})
    assert whose(record) == "a"
    assert len(record.get("Provenance/p/_history", headers=every).json()["entry"]) == 2


def test_what_it_is_about_comes_to_be_about_others(record: Server) -> None:
    put(record, observation("1"), observation("2"), source("p", "Observation/1", "Observation/2"))
    assert whose(record) == "a"
    put(record, observation("1", "c"))
    assert whose(record) == ""
    put(record, observation("2", "c"))
    assert whose(record) == "c"
    put(record, observation("2", None))
    assert whose(record) == ""
    patch = [{"op": "add", "path": "/subject", "value": {"reference": "Patient/c"}}]
    headers = record.bearer("system/*.cruds") | {"content-type": "application/json-patch+json"}
    answer = record.send("PATCH", "Observation/2", json=patch, headers=headers)
    assert answer.status_code == 200 and whose(record) == "c"


def test_what_is_elsewhere_is_nobodys(record: Server) -> None:
    far = "https://elsewhere.example.org/fhir/Observation/9"
    put(record, observation("1"), source("p", "Observation/1", far), source("q", "Observation/1"))
    assert whose(record) == "" and whose(record, "q") == "a"
    put(record, observation("1", "c"))
    assert whose(record) == "" and whose(record, "q") == "c"


def test_labels_go_along(record: Server) -> None:
    """It is never tied without the labels of what it is about."""
    put(record, source("p", "Observation/1"))
    confidential = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
    meta = {"security": [{"system": confidential, "code": "V"}]}
    put(record, observation("1") | {"meta": meta})
    assert whose(record) == "a"
    labelled = Scan("Provenance", Present(LABEL, "token"))
    page = record.run(record.domain.store.run(Search((labelled,), count=10)))
    assert [row.key.id for row in page.matches] == ["p"]
