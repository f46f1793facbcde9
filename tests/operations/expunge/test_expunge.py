"""$expunge: what is erased is gone for everybody, and only who may erase can tell."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from tests.operations.expunge.records import CANARY, EVERYTHING, counts, logged, patient
from tests.serving import Server, issue, served


def observation(server: Server, id_: str, subject: str, value: str = "x") -> None:
    body = {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"text": "note"},
        "subject": {"reference": f"Patient/{subject}"},
        "valueString": value,
    }
    assert server.put(f"Observation/{id_}", body).status_code in (200, 201)


def gone(server: Server, place: str) -> None:
    """As if it had never been: the same bytes as for an id that never was."""
    type_, id_ = place.split("/")
    for url in (place, f"{place}/_history", f"{place}/_history/1"):
        found, never = server.get(url), server.get(url.replace(place, f"{type_}/never"))
        assert found.status_code == never.status_code == 404, url
        assert found.text == never.text.replace(f"{type_}/never", place)
    assert server.get(f"{type_}?_id={id_}&_summary=count").json()["total"] == 0
    for url in ("_history?_count=500", f"{type_}/_history?_count=500", f"{type_}?_count=500"):
        assert f'/fhir/{place}"' not in server.get(url).text, url


def test_a_living_resource_goes_with_all_its_versions(server: Server) -> None:
    for family in (CANARY, CANARY + "b", "Doe"):
        patient(server, "p", family)
    patient(server, "q")
    assert counts(server.post(f"Patient/p/{EVERYTHING}")) == (3, 1, False, [])
    gone(server, "Patient/p")
    assert server.get("Patient?_summary=count").json()["total"] == 1
    assert counts(server.post(f"Patient/p/{EVERYTHING}")) == (0, 0, False, [])
    patient(server, "p", "New")
    assert server.get("Patient/p").json()["meta"]["versionId"] == "1"
    assert server.get("Patient/p/_history").json()["total"] == 1


def test_a_deleted_resource(server: Server) -> None:
    patient(server, "p", CANARY)
    url = "Patient/p/$expunge?expungeDeletedResources=true"
    assert counts(server.post(url)) == (0, 0, False, [])
    assert server.get("Patient/p").status_code == 200
    server.delete("Patient/p")
    assert counts(server.post(url)) == (2, 1, False, [])
    gone(server, "Patient/p")


def test_previous_versions(server: Server) -> None:
    for family in (CANARY, CANARY, "Doe"):
        patient(server, "p", family, active=family == "Doe")
    patient(server, "p", "Roe")
    url = "Patient/p/$expunge?expungePreviousVersions=true"
    assert counts(server.post(url)) == (2, 0, False, [])
    assert counts(server.post(url)) == (0, 0, False, [])
    assert server.get("Patient/p").json()["name"][0]["family"] == "Roe"
    assert server.get("Patient/p/_history/1").status_code == 404
    history = server.get("Patient/p/_history")
    assert history.json()["total"] == 1 and CANARY not in history.text
    server.delete("Patient/p")
    assert counts(server.post(url)) == (1, 0, False, [])
    assert server.get("Patient/p").status_code == 410


def test_a_type_and_its_limit(server: Server) -> None:
    for number in range(4):
        patient(server, f"d{number}")
        server.delete(f"Patient/d{number}")
    for family in "abc":
        patient(server, "p", family)
    observation(server, "o", "p", "1")
    observation(server, "o", "p", "2")
    deleted = "Patient/$expunge?expungeDeletedResources=true"
    versions, resources, more, _ = counts(server.post(f"{deleted}&limit=3"))
    assert more and 0 < resources < 4 and versions == 2 * resources
    assert counts(server.post(deleted)) == (8 - versions, 4 - resources, False, [])
    both = f"{deleted}&expungePreviousVersions=true"
    assert counts(server.post(both)) == (2, 0, False, [])
    history = server.get("_history").json()["entry"]
    assert [entry["request"]["url"] for entry in history] == [
        "Observation/o",
        "Observation/o",
        "Patient/p",
    ]


def test_references_stand_in_the_way(server: Server) -> None:
    patient(server, "p")
    observation(server, "o", "p")
    observation(server, "o2", "p")
    refused = server.post(f"Patient/p/{EVERYTHING}")
    assert refused.status_code == 409
    said = issue(refused)["diagnostics"]
    assert "Observation/o" in said and "Observation/o2" in said and "keepReferences" in said
    assert server.get("Patient/p").status_code == 200 and logged(server) == []
    assert counts(server.post(f"Observation/o/{EVERYTHING}")) == (1, 1, False, [])
    kept = server.post(f"Patient/p/{EVERYTHING}&keepReferences=true")
    assert counts(kept) == (1, 1, False, [])
    assert server.get("Observation/o2").json()["subject"] == {"reference": "Patient/p"}
    assert server.get("Observation?subject:Patient.name=Doe").json()["total"] == 0


def test_a_patient_with_the_whole_compartment(server: Server) -> None:
    for id_ in ("a", "b"):
        patient(server, id_, CANARY if id_ == "a" else "Doe")
        patient(server, id_, CANARY if id_ == "a" else "Doe", active=True)
        for number in range(3):
            observation(server, f"{id_}{number}", id_, CANARY if id_ == "a" else "y")
    observation(server, "a0", "a", CANARY + "2")
    server.delete("Observation/a1")
    observation(server, "moved", "a", CANARY)
    observation(server, "moved", "b", "y")
    record = "Patient/a/$expunge?compartment=true"
    # a: 2 versions; a0: 2; a1: 2; a2: 1; the version of "moved" that was a's.
    assert counts(server.post(record)) == (8, 4, False, [])
    for place in ("Patient/a", "Observation/a0", "Observation/a1", "Observation/a2"):
        gone(server, place)
    assert CANARY not in server.get("_history?_count=500").text
    assert server.get("Observation/moved").json()["meta"]["versionId"] == "2"
    assert server.get("Observation?subject=Patient/b&_summary=count").json()["total"] == 4
    assert counts(server.post(record)) == (0, 0, False, [])


def test_what_is_shared_is_kept_and_named(server: Server) -> None:
    patient(server, "a", CANARY)
    patient(server, "b", link=[{"other": {"reference": "Patient/a"}, "type": "seealso"}])
    both = {
        "resourceType": "Appointment",
        "id": "both",
        "status": "proposed",
        "participant": [
            {"actor": {"reference": f"Patient/{id_}"}, "status": "accepted"} for id_ in "ab"
        ],
    }
    assert server.put("Appointment/both", both).status_code == 201
    record = "Patient/a/$expunge?compartment=true"
    refused = server.post(record)
    assert refused.status_code == 409
    assert "Appointment/both" in refused.text and "Patient/b" in refused.text
    answer = server.post(f"{record}&keepReferences=true")
    assert counts(answer) == (1, 1, False, ["Appointment/both", "Patient/b"])
    gone(server, "Patient/a")
    assert server.get("Appointment/both").status_code == 200


def test_something_outside_that_refers_in_stands_in_the_way(server: Server) -> None:
    patient(server, "a")
    observation(server, "o", "a")
    for focus, name in (("Observation/o", "one"), ("Patient/a", "two")):
        task = {
            "resourceType": "Task",
            "id": name,
            "status": "draft",
            "intent": "order",
            "focus": {"reference": focus},
        }
        assert server.put(f"Task/{name}", task).status_code == 201
    for name in ("one", "two"):
        refused = server.post("Patient/a/$expunge?compartment=true")
        assert refused.status_code == 409 and f"Task/{name}" in issue(refused)["diagnostics"]
        server.delete(f"Task/{name}")
    assert counts(server.post("Patient/a/$expunge?compartment=true")) == (2, 2, False, [])


LARGE = (CANARY.encode() + bytes(range(256))) * 400


def binary(server: Server, id_: str, content: bytes, context: str = "") -> None:
    body: dict[str, Any] = {
        "resourceType": "Binary",
        "id": id_,
        "contentType": "image/png",
        "data": base64.b64encode(content).decode(),
    }
    if context:
        body["securityContext"] = {"reference": context}
    assert server.put(f"Binary/{id_}", body).status_code in (200, 201)


def blobs(server: Server) -> list[str]:
    assert server.domain.engine.blobs is not None
    return server.run(server.domain.engine.blobs.names())


def test_the_content_of_a_binary_goes_unless_another_names_it(server: Server) -> None:
    binary(server, "one", LARGE)
    binary(server, "two", LARGE)
    binary(server, "two", LARGE + b"2")
    assert len(blobs(server)) == 2
    assert counts(server.post(f"Binary/one/{EVERYTHING}")) == (1, 1, False, [])
    assert len(blobs(server)) == 2
    url = "Binary/two/$expunge?expungePreviousVersions=true"
    assert counts(server.post(url)) == (1, 0, False, [])
    assert len(blobs(server)) == 1
    raw = server.get("Binary/two", headers={"accept": "image/png"})
    assert raw.content == LARGE + b"2"
    assert counts(server.post(f"Binary/two/{EVERYTHING}")) == (1, 1, False, [])
    assert blobs(server) == [] and server.run(server.domain.store.ledger.scan("blob-use")) == []
    assert server.run(server.domain.store.ledger.scan("erase-due")) == []


def test_the_binaries_of_a_record_go_with_it(server: Server) -> None:
    patient(server, "a")
    patient(server, "b")
    binary(server, "attached", LARGE)
    binary(server, "former", LARGE + b"1")
    binary(server, "context", b"small", "Patient/a")
    binary(server, "other", LARGE + b"3", "Patient/b")
    for url in ("Binary/former", "http://127.0.0.1:8080/fhir/Binary/attached"):
        document = {
            "resourceType": "DocumentReference",
            "id": "d",
            "status": "current",
            "subject": {"reference": "Patient/a"},
            "content": [
                {"attachment": {"url": url}},
                {"attachment": {"url": "Binary/other"}},
            ],
        }
        assert server.put("DocumentReference/d", document).status_code in (200, 201)
    refused = server.post("Patient/a/$expunge?compartment=true")
    assert refused.status_code == 409 and "Binary/other" in issue(refused)["diagnostics"]
    answer = server.post("Patient/a/$expunge?compartment=true&keepReferences=true")
    assert counts(answer) == (6, 5, False, ["Binary/other"])
    for id_ in ("attached", "former", "context"):
        gone(server, f"Binary/{id_}")
    assert len(blobs(server)) == 1


def test_results_of_jobs_that_name_it_go(server: Server) -> None:
    patient(server, "p", CANARY)
    patient(server, "q")
    places = []
    for id_ in ("p", "q"):
        started = server.get(f"Patient/{id_}", headers={"prefer": "respond-async"})
        assert started.status_code == 202
        places.append(started.headers["content-location"])
    for place in places:
        for _ in range(200):
            if server.get(place).status_code == 200:
                break
            server.run(asyncio.sleep(0.02))
        else:
            raise AssertionError(place)
    assert counts(server.post(f"Patient/p/{EVERYTHING}")) == (1, 1, False, [])
    assert [server.get(place).status_code for place in places] == [404, 200]


def test_the_log_is_written_beside_the_data(tmp_path: Path) -> None:
    with served("sqlite", tmp_path / "data") as server:
        patient(server, "p", CANARY)
        server.post(f"Patient/p/{EVERYTHING}&purpose=PATRQT")
        lines = (tmp_path / "data.erased.ndjson").read_text().splitlines()
        assert [json.loads(line) for line in lines] == logged(server)
    assert [json.loads(line)["id"] for line in lines] == ["p"]
    assert (tmp_path / "data.erased.ndjson").stat().st_mode & 0o777 == 0o600
    everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert CANARY.encode() not in everything and CANARY.lower().encode() not in everything


def test_a_log_that_cannot_be_written_is_said_and_made_up_for(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "erased.ndjson"
    with served("sqlite", tmp_path / "data", erase_log=log) as server:
        patient(server, "p", CANARY)
        answer = server.post(f"Patient/p/{EVERYTHING}")
        assert answer.status_code == 503 and "erase log" in issue(answer)["diagnostics"]
        gone(server, "Patient/p")
        log.parent.mkdir()
        assert counts(server.post(f"Patient/p/{EVERYTHING}")) == (0, 0, False, [])
        assert len(log.read_text().splitlines()) == 1
