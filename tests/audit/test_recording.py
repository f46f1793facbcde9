"""One line for every request to a secured base, before it is answered."""

from __future__ import annotations

import errno
import json
import os
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from operations import view_run
from operations.views import source
from tests.audit.trail import NAME, Clinic, entries, files, observation, patient
from tests.serving import BASE, Json, served


def test_a_read(clinic: Clinic) -> None:
    headers = clinic.all | {"x-request-id": "r-1", "x-purpose-of-use": "TREAT"}
    clinic.server.get(f"Observation/{clinic.observation}", headers=headers)
    line = clinic.last()
    assert (line["interaction"], line["method"], line["status"]) == ("read", "GET", 200)
    assert (line["request"], line["purpose"], line["client"]) == ("r-1", "TREAT", "test")
    assert line["patients"] == [clinic.patient]
    assert line["what"] == f"Observation/{clinic.observation}/_history/1"
    assert b64decode(line["url"]).decode() == f"/fhir/Observation/{clinic.observation}"


def test_a_search_names_its_patients_and_not_what_was_found(clinic: Clinic) -> None:
    other = clinic.server.create(patient(), headers=clinic.all)["id"]
    clinic.server.create(observation(other), headers=clinic.all)
    query = "Observation?code:text=weight&code=a|b"
    clinic.server.get(query, headers=clinic.all)
    line = clinic.last()
    assert b64decode(line["url"]).decode() == f"/fhir/{query}"
    assert "what" not in line and clinic.observation not in str(line)
    clinic.server.get("Observation?code:text=weight", headers=clinic.all)
    assert clinic.last()["patients"] == sorted([clinic.patient, other])


def test_who_is_asked_about_counts_without_an_answer(clinic: Clinic) -> None:
    get = clinic.server.get
    for query in ("patient=p7", "subject=Patient/p7", "patient=Patient/p7", "subject:Patient=p7"):
        get(f"Condition?{query}", headers=clinic.all)
        expected = {"patients": ["p7"]} if query != "subject:Patient=p7" else {}
        assert clinic.last().items() >= expected.items(), query
    get("Patient/p8", headers=clinic.all)
    assert clinic.last()["patients"] == ["p8"]
    form = {"content-type": "application/x-www-form-urlencoded"} | clinic.all
    clinic.server.send("POST", "Condition/_search", content="patient=p9", headers=form)
    line = clinic.last()
    assert line["patients"] == ["p9"] and b64decode(line["form"]) == b"patient=p9"


@pytest.mark.parametrize(
    ("url", "status", "why"),
    [
        ("Patient/p1", 401, "login: a bearer token is needed"),
        ("Nothing/p1", 401, "login: a bearer token is needed"),
        ("Condition?patient=p1", 401, "login: a bearer token is needed"),
    ],
)
def test_who_has_no_token_is_recorded(clinic: Clinic, url: str, status: int, why: str) -> None:
    assert clinic.server.get(url).status_code == status
    line = clinic.last()
    assert (line["status"], line["why"]) == (status, why)
    assert "client" not in line
    if not url.startswith("Nothing"):
        assert line["patients"] == ["p1"]


def test_refusals_and_failures(clinic: Clinic) -> None:
    few = clinic.server.bearer("system/Observation.rs", client="few")
    assert clinic.server.get(f"Patient/{clinic.patient}", headers=few).status_code == 403
    line = clinic.last()
    assert (line["status"], line["client"]) == (403, "few")
    assert line["why"] == "forbidden: not permitted: read Patient"
    assert line["patients"] == [clinic.patient]
    assert clinic.server.get("Observation/none", headers=clinic.all).status_code == 404
    assert (clinic.last()["status"], clinic.last()["why"]) == (404, "not-found")
    bad = {"resourceType": "Observation", "note": NAME}
    assert clinic.server.post("Observation", bad, headers=clinic.all).status_code == 422
    assert clinic.last()["status"] == 422
    assert clinic.server.get("Nothing/1", headers=clinic.all).status_code == 404
    assert clinic.last()["interaction"] == "unknown"


def test_a_write_has_a_row_that_the_line_names(clinic: Clinic) -> None:
    place = f"Observation/{clinic.observation}"
    changed = observation(clinic.patient, id=clinic.observation, status="amended")
    clinic.server.put(place, changed, headers=clinic.all)
    line = clinic.last()
    [[key, _]] = line["writes"]
    row = clinic.server.run(clinic.server.domain.store.ledger.get("audit", key))
    assert row is not None and row.value["what"] == [f"PUT {place}/_history/2"]
    assert row.value["patients"] == [clinic.patient] and row.value["client"] == "test"
    assert line["what"] == f"{place}/_history/2"
    clinic.server.delete(place, headers=clinic.all)
    assert clinic.last()["patients"] == [clinic.patient]
    assert clinic.last()["what"] == f"{place}/_history/3"


def test_a_write_that_leaves_a_patient_names_both(clinic: Clinic) -> None:
    other = clinic.server.create(patient(), headers=clinic.all)["id"]
    moved = observation(other, id=clinic.observation)
    clinic.server.put(f"Observation/{clinic.observation}", moved, headers=clinic.all)
    assert clinic.last()["patients"] == sorted([clinic.patient, other])


def test_a_transaction_is_one_line_and_one_row(clinic: Clinic) -> None:
    entry = [
        {
            "resource": observation(clinic.patient),
            "request": {"method": "POST", "url": "Observation"},
        },
        {"request": {"method": "GET", "url": f"Patient/{clinic.patient}"}},
    ]
    for type_, rows in (("transaction", 1), ("batch", 1)):
        before = len(clinic.lines())
        bundle = {"resourceType": "Bundle", "type": type_, "entry": entry}
        assert clinic.server.post("", bundle, headers=clinic.all).status_code == 200
        assert len(clinic.lines()) == before + 1
        line = clinic.last()
        assert len(line["writes"]) == rows
        assert line["patients"] == [clinic.patient]


def test_a_job_is_recorded_when_it_starts_and_when_it_has_run(clinic: Clinic) -> None:
    headers = clinic.all | {"prefer": "respond-async"}
    answer = clinic.server.get(f"Observation?patient={clinic.patient}", headers=headers)
    assert answer.status_code == 202
    status = answer.headers["content-location"]
    for _ in range(100):
        if clinic.server.get(status, headers=clinic.all).status_code == 200:
            break
        clinic.server.run(_pause())
    ran = [line for line in clinic.lines() if line.get("job")]
    assert [line["status"] for line in ran] == [200]
    assert ran[0]["patients"] == [clinic.patient]


async def _pause() -> None:
    import asyncio

    await asyncio.sleep(0.1)


def test_no_token_and_no_name_is_in_it(clinic: Clinic) -> None:
    token = clinic.all["authorization"].removeprefix("Bearer ")
    clinic.server.get(f"Patient?access_token={token}", headers=clinic.all)
    clinic.server.get(f"Patient/{clinic.patient}", headers={"authorization": f"Bearer {token}x"})
    clinic.server.get("Patient", headers=clinic.all)
    for line in entries(clinic.data):
        shown = str(line) + b64decode(line.get("url", "")).decode()
        assert token not in shown and NAME not in shown
        assert len(line.get("grant", "")) <= 32


def test_public_routes_and_open_servers_have_no_line(
    backend: str, clinic: Clinic, tmp_path: Path
) -> None:
    before = len(clinic.lines())
    clinic.server.get("metadata")
    clinic.server.get("/health")
    assert len(clinic.lines()) == before
    folder = tmp_path / "open"
    folder.mkdir()
    with served(backend, folder) as server:
        made = server.create(patient())
        server.get(f"Patient/{made['id']}")
        assert server.run(server.domain.store.ledger.scan("audit")) == []
    assert not (folder / "audit").exists() and not (folder / "audit.key").exists()


def test_only_the_owner_reads_it(clinic: Clinic) -> None:
    assert [path.stat().st_mode & 0o777 for path in files(clinic.data)] == [0o600]
    assert (clinic.data / "audit").stat().st_mode & 0o777 == 0o700
    assert (clinic.data / "audit.key").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_recorded_is_not_answered(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = os.write, [True]
    ours = {(clinic.data / "audit").stat().st_dev}

    def write(file: int, data: Any) -> int:
        if full[0] and bytes(data).startswith(b'{"n":') and os.fstat(file).st_dev in ours:
            real(file, bytes(data)[:9])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    before = len(clinic.lines())
    new = observation(clinic.patient)
    committed = clinic.server.post("Observation", new, headers=clinic.all)
    assert committed.status_code == 503 and committed.headers["retry-after"]
    count = clinic.server.run(clinic.server.domain.store.counts())["Observation"]
    assert clinic.server.get(f"Patient/{clinic.patient}", headers=clinic.all).status_code == 503
    assert clinic.server.post("Observation", new, headers=clinic.all).status_code == 503
    assert clinic.server.get(f"Patient/{clinic.patient}").status_code == 503
    assert clinic.server.run(clinic.server.domain.store.counts())["Observation"] == count
    health = clinic.server.get("/health")
    assert "the audit trail cannot be written: No space left on device" in health.text
    assert clinic.server.get("metadata").status_code == 200
    full[0] = False
    assert clinic.server.get(f"Patient/{clinic.patient}", headers=clinic.all).status_code == 200
    assert clinic.server.get("/health").text == "ready\n"
    [first, second] = _readable(clinic.data)[before:]
    assert (first["status"], first["interaction"], len(first["writes"])) == (503, "create", 1)
    assert second["status"] == 200
    assert clinic.verified().faults == []


def test_a_file_that_is_removed_is_noticed(clinic: Clinic) -> None:
    [path] = files(clinic.data)
    path.unlink()
    for _ in range(40):
        clinic.server.get(f"Patient/{clinic.patient}", headers=clinic.all)
        if files(clinic.data):
            break
        clinic.server.run(_pause())
    assert files(clinic.data) not in ([], [path])
    assert any(f"chain {path.stem} is gone" in fault for fault in clinic.verified().faults)


def _readable(data: Path) -> list[dict[str, Any]]:
    """Without the line that the full disk has cut."""
    import json

    whole = [line for path in files(data) for line in path.read_bytes().split(b"\n")[:-1]]
    return [entry for entry in map(json.loads, whole) if entry["n"]]


def test_a_url_is_recorded_as_it_came(clinic: Clinic) -> None:
    clinic.server.get(f"{BASE}/Observation?code=%C3%A4&patient=Patient%2Fp1", headers=clinic.all)
    line = clinic.last()
    assert b64decode(line["url"]) == b"/fhir/Observation?code=%C3%A4&patient=Patient%2Fp1"
    assert line["patients"] == ["p1"]


VIEW: Json = {
    "resourceType": "ViewDefinition",
    "resource": "Observation",
    "select": [{"column": [{"name": "id", "path": "id"}]}],
}
RUN: Json = {
    "resourceType": "Parameters",
    "parameter": [{"name": "viewResource", "resource": VIEW}],
}


def batch(url: str) -> Json:
    entries = [{"request": {"method": "GET", "url": url}}]
    return {"resourceType": "Bundle", "type": "batch", "entry": entries}


@pytest.mark.parametrize(
    ("url", "headers", "body"),
    [
        ("Observation/ID?_elements=value", {}, None),
        ("Observation/ID?_summary=text", {}, None),
        ("Observation/ID/_history/1?_elements=value", {}, None),
        ("Observation/ID/_history?_elements=value", {}, None),
        ("Observation?_id=ID&_elements=value", {}, None),
        ("Observation?_id=ID", {"accept": "application/fhir+xml"}, None),
        ("Observation?_id=ID&_pretty=true", {}, None),
        ("Binary/BINARY", {"accept": "text/plain"}, None),
        ("ViewDefinition/$run", {}, RUN),
        ("", {}, batch("Observation?_id=ID&_elements=value")),
    ],
)
def test_whose_data_it_is_does_not_depend_on_the_form(
    clinic: Clinic, url: str, headers: dict[str, str], body: Json | None
) -> None:
    """Parts, other formats, rows and contents do not name the patient."""
    raw = {"content-type": "text/plain", "x-security-context": f"Observation/{clinic.observation}"}
    posted = {"headers": clinic.all | raw, "content": b"words"}
    made = clinic.server.send("POST", "Binary", **posted)
    binary = made.headers["location"].split("/_history")[0].rpartition("/")[2]
    filled = json.loads(json.dumps([url, body]).replace("ID", clinic.observation))
    place = filled[0].replace("BINARY", binary)
    method = "GET" if body is None else "POST"
    options: Json = {"headers": clinic.all | headers}
    if body is not None:
        options["json"] = filled[1]
    answer = clinic.server.send(method, place, **options)
    assert answer.status_code == 200, answer.text
    assert clinic.last()["patients"] == [clinic.patient], answer.text


def test_what_is_streamed_has_a_further_line(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_run, "WHOLE", 10)
    monkeypatch.setattr(view_run, "GROUP", 1)
    monkeypatch.setattr(source, "TURN", 1)
    other = clinic.server.create(patient(), headers=clinic.all)["id"]
    clinic.server.create(observation(other), headers=clinic.all)
    answer = clinic.server.post("ViewDefinition/$run", RUN, headers=clinic.all)
    assert len(answer.text.splitlines()) == 2
    lines = [line for line in clinic.lines() if line["interaction"] == "operation"]
    assert sorted(line["patients"] for line in lines) == sorted([[clinic.patient], [other]])
    assert len({line["request"] for line in lines}) == 1
