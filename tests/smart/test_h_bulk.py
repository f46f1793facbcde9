"""Bulk Data 2.0, section H: https://hl7.org/fhir/uv/bulkdata/STU2/export.html"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
import zstandard

from tests.serving import BASE, Server, issue, served
from tests.smart.bulk import (
    ASYNC,
    LENIENT,
    SCOPE,
    VALIDATOR,
    device,
    exported,
    fill,
    gone,
    group,
    kicked,
    lines,
    manifest,
    put,
    started,
)

GUIDE = "http://hl7.org/fhir/uv/bulkdata/"


def test_h01_the_statement_names_the_operations(bulk: Server) -> None:
    statement = bulk.get("metadata").json()
    assert statement["instantiates"] == [f"{GUIDE}CapabilityStatement/bulk-data"]
    rest = statement["rest"][0]
    places = {r["type"]: r.get("operation", []) for r in rest["resource"]} | {"": rest["operation"]}
    for place, name in (("Group", "group-export"), ("Patient", "patient-export"), ("", "export")):
        expected = {"name": "export", "definition": f"{GUIDE}OperationDefinition/{name}"}
        assert any(row.items() >= expected.items() for row in places[place])
        definition = bulk.get(f"OperationDefinition/{name}", headers=bulk.bearer(SCOPE))
        assert VALIDATOR.issues(definition.json()) == []
        assert definition.json()["base"] == expected["definition"]


def test_h02_without_a_token(bulk: Server) -> None:
    for url in ("$export", "Patient/$export", "Group/g/$export"):
        assert bulk.get(url, headers=ASYNC).status_code == 401
    bulk.user("u", "admin", "Practitioner/u")
    for scope, holder in (("user/*.rs", {"user": "u"}), ("patient/*.rs", {"patient": "a"})):
        answer = bulk.get("Group/g/$export", headers=ASYNC | bulk.bearer(scope, **holder))
        assert answer.status_code == 403 and issue(answer)


def test_h03_the_kick_off(bulk: Server) -> None:
    for url in ("$export", "Patient/$export", "Group/g/$export"):
        started(kicked(bulk, url))
        answer = bulk.get(url, headers=bulk.bearer(SCOPE))
        assert answer.status_code == 400 and "respond-async" in issue(answer)["diagnostics"]
    assert kicked(bulk, "Group/none/$export").status_code == 404
    for url in ("Group/$export", "Patient/a/$export", "Observation/$export"):
        assert kicked(bulk, url).status_code in (400, 404)


def test_h04_the_manifest(bulk: Server) -> None:
    made = manifest(bulk, started(kicked(bulk, "Group/g/$export?_type=Patient")))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["transactionTime"])
    assert made["request"] == f"{BASE}/Group/g/$export?_type=Patient"
    assert made["requiresAccessToken"] is True and made["error"] == made["deleted"] == []
    assert [(o["type"], o["count"]) for o in made["output"]] == [("Patient", 2)]


def test_h05_h06_h07_files(bulk: Server) -> None:
    made = manifest(bulk, started(kicked(bulk)))
    assert {o["type"] for o in made["output"]} == {"Patient", "Observation", "Group"}
    for item in made["output"]:
        assert item["url"].startswith(f"{BASE}/")
        assert bulk.get(item["url"]).status_code == 401
        for row in lines(bulk, item["url"]):
            assert row["resourceType"] == item["type"] and VALIDATOR.issues(row) == []
            stored = bulk.get(f"{row['resourceType']}/{row['id']}", headers=bulk.bearer(SCOPE))
            assert stored.json() == row


@pytest.mark.parametrize("accepted", ["gzip", "zstd", "br, zstd;q=0.5, gzip;q=0.2", "identity"])
def test_h07_compressed(bulk: Server, accepted: str) -> None:
    made = manifest(bulk, started(kicked(bulk, "Patient/$export?_type=Observation")))
    url = made["output"][0]["url"]
    plain = bulk.get(url, headers=bulk.bearer(SCOPE) | {"accept-encoding": "identity"})
    headers = bulk.bearer(SCOPE) | {"accept-encoding": accepted}

    async def raw() -> tuple[str | None, bytes]:
        async with bulk._client() as client, client.stream("GET", url, headers=headers) as answer:
            data = b"".join([chunk async for chunk in answer.aiter_raw()])
            return answer.headers.get("content-encoding"), data

    encoding, data = bulk.run(raw())
    expected = "gzip" if accepted == "gzip" else None if accepted == "identity" else "zstd"
    assert encoding == expected
    if encoding == "gzip":
        data = gzip.decompress(data)
    elif encoding == "zstd":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert data == plain.content and data.count(b"\n") == 6


def test_h08_the_members_and_what_is_theirs(bulk: Server) -> None:
    assert exported(bulk, "Group/g/$export") == {
        *("Patient/a", "Patient/b", "Group/g"),
        *(f"Observation/{p}{n}" for p in "ab" for n in "12"),
    }
    everybody = {f"Patient/{p}" for p in "abc"} | {
        f"Observation/{p}{n}" for p in "abc" for n in "12"
    }
    assert exported(bulk, "Patient/$export") == {*everybody, "Group/g"}
    whole = {*everybody, "Group/g", "Organization/o", "Observation/of-o"}
    assert exported(bulk, "$export") == whole


def test_h08_devices_that_name_their_patient(bulk: Server) -> None:
    put(bulk, device("da", "a"), device("dc", "c"), device("d", ""))
    since = manifest(bulk, started(kicked(bulk)))["transactionTime"]
    assert exported(bulk, "Group/g/$export?_type=Device") == {"Device/da"}
    assert exported(bulk, "Patient/$export?_type=Device") == {"Device/da", "Device/dc"}
    assert len(exported(bulk, "$export?_type=Device")) == 3
    headers = bulk.bearer("system/*.cruds")
    for id_ in ("da", "dc", "d"):
        assert bulk.delete(f"Device/{id_}", headers=headers).status_code == 204
    made = manifest(bulk, started(kicked(bulk, f"Group/g/$export?_since={since}&_type=Device")))
    assert gone(bulk, made) == {"Device/da"}


def test_h08_many_members(bulk: Server) -> None:
    put(bulk, group("a", "b", *(f"absent-{n}" for n in range(1200))))
    assert exported(bulk, "Group/g/$export") == {
        *("Patient/a", "Patient/b", "Group/g"),
        *(f"Observation/{p}{n}" for p in "ab" for n in "12"),
    }


def test_h09_deleted_jobs_are_gone(bulk: Server) -> None:
    url = started(kicked(bulk))
    made = manifest(bulk, url)
    headers = bulk.bearer(SCOPE)
    assert bulk.delete(url, headers=headers).status_code == 202
    for place in (url, made["output"][0]["url"]):
        answer = bulk.get(place, headers=headers)
        assert answer.status_code == 404 and issue(answer)
    assert not list((bulk.domain.settings.data / "jobs").glob(f"{url.rpartition('/')[2]}/*"))


def test_h15_only_for_whom_it_was_started(bulk: Server) -> None:
    url = started(kicked(bulk))
    made = manifest(bulk, url)
    other = bulk.bearer(SCOPE, client="other")
    for place in (url, made["output"][0]["url"]):
        for method in ("GET", "DELETE") if place == url else ("GET",):
            answer = bulk.send(method, place, headers=other)
            assert answer.status_code == 404 and issue(answer)


def test_h15_limits(tmp_path: Path) -> None:
    with served("memory", tmp_path, open_=False, max_jobs=1) as server:
        fill(server)
        url = started(kicked(server))
        answer = kicked(server)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert issue(answer)["code"] == "throttled"
        headers = server.bearer(SCOPE)
        polls = [server.get(url, headers=headers) for _ in range(15)]
        assert 429 in {poll.status_code for poll in polls}
        for poll in polls:
            assert int(poll.headers["retry-after"]) > 0
            assert len(poll.headers.get("x-progress", "-")) < 100


def test_h16_attachments_are_fetchable(bulk: Server) -> None:
    binary = {"resourceType": "Binary", "id": "x", "contentType": "text/plain", "data": "aGk="}
    document = {
        "resourceType": "DocumentReference",
        "id": "d",
        "status": "current",
        "subject": {"reference": "Patient/a"},
        "content": [{"attachment": {"contentType": "text/plain", "url": "Binary/x"}}],
    }
    put(bulk, binary, document)
    url = "Group/g/$export?_type=DocumentReference,Nothing"
    made = manifest(bulk, started(kicked(bulk, url, **LENIENT)))
    assert made["error"][0]["type"] == "OperationOutcome"
    [row] = lines(bulk, made["output"][0]["url"])
    place = row["content"][0]["attachment"]["url"]
    assert place == f"{BASE}/Binary/x"
    answer = bulk.get(place, headers=bulk.bearer(SCOPE) | {"accept": "text/plain"})
    assert (answer.status_code, answer.text) == (200, "hi")
