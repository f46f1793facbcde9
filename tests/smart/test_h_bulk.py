"""Bulk Data 2.0, section H: https://hl7.org/fhir/uv/bulkdata/STU2/export.html"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard

from fhir_server.definitions.registry import load
from fhir_server.validation.validate import Validator
from operations.bulk import delivery
from tests.consent import plain
from tests.serving import BACKENDS, BASE, Json, Server, issue, served

ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}
SCOPE = "system/*.rs"
RESEARCH = {"x-purpose-of-use": "HRESCH"}
VALIDATOR = Validator(load())
GUIDE = "http://hl7.org/fhir/uv/bulkdata/"
LENIENT = {"prefer": "respond-async, handling=lenient"}


def observation(id_: str, patient: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "valueInteger": 3,
        **more,
    }


def put(server: Server, *resources: Json) -> None:
    headers = server.bearer("system/*.cruds")
    for resource in resources:
        url = f"{resource['resourceType']}/{resource['id']}"
        answer = server.put(url, resource, headers=headers)
        assert answer.status_code in (200, 201), answer.text


def group(*patients: str) -> Json:
    members = [{"entity": {"reference": f"Patient/{p}"}} for p in patients]
    actual = {"type": "person", "actual": True, "member": members}
    return {"resourceType": "Group", "id": "g", **actual}


@pytest.fixture(params=list(BACKENDS))
def bulk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Patients a, b, c with two observations each; a and b are Group g; one that is of nobody."""
    with served(request.param, tmp_path, open_=False) as server:
        fill(server)
        yield server


def fill(server: Server) -> None:
    patients = [
        {"resourceType": "Patient", "id": p, "name": [{"family": p}], "gender": "female"}
        for p in "abc"
    ]
    put(server, *patients, {"resourceType": "Organization", "id": "o", "name": "O"})
    put(server, *[observation(f"{p}{n}", p) for p in "abc" for n in "12"])
    put(server, observation("of-o", "a") | {"subject": {"reference": "Device/d"}})
    put(server, group("a", "b"))


def kicked(server: Server, url: str = "Group/g/$export", **headers: str) -> httpx.Response:
    return server.get(url, headers=server.bearer(SCOPE) | ASYNC | headers)


def started(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    url: str = answer.headers["content-location"]
    assert url.startswith(f"{BASE}/")
    return url


def ended(server: Server, url: str, headers: dict[str, str]) -> httpx.Response:
    for _ in range(1200):
        answer = server.get(url, headers=headers)
        if answer.status_code not in (202, 429):
            return answer
        server.run(asyncio.sleep(0.05))
    pytest.fail("the export did not end")


def manifest(server: Server, url: str, scope: str = SCOPE) -> Json:
    answer = ended(server, url, server.bearer(scope))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: Json = answer.json()
    return found


def lines(server: Server, url: str, scope: str = SCOPE) -> list[Json]:
    answer = server.get(url, headers=server.bearer(scope))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/fhir+ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def ids(server: Server, made: Json, part: str = "output") -> set[str]:
    """Everything that a manifest names; each file is of one type and counted."""
    found: list[str] = []
    for item in made[part]:
        rows = lines(server, item["url"])
        assert {row["resourceType"] for row in rows} == {item["type"]}
        assert item.get("count", len(rows)) == len(rows) > 0
        found += [f"{row['resourceType']}/{row['id']}" for row in rows]
    assert len(set(found)) == len(found)
    return set(found)


def gone(server: Server, made: Json) -> set[str]:
    rows = [row for item in made["deleted"] for row in lines(server, item["url"])]
    for row in rows:
        assert (row["resourceType"], row["type"]) == ("Bundle", "transaction")
        assert [e["request"]["method"] for e in row["entry"]] == ["DELETE"]
    return {entry["request"]["url"] for row in rows for entry in row["entry"]}


def exported(server: Server, url: str, **headers: str) -> set[str]:
    return ids(server, manifest(server, started(kicked(server, url, **headers))))


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


def device(id_: str, patient: str) -> Json:
    named = {"patient": {"reference": f"Patient/{patient}"}} if patient else {}
    return {"resourceType": "Device", "id": id_, **named}


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


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("application/fhir%2Bndjson", 202),
        ("application/ndjson", 202),
        ("ndjson", 202),
        ("text/csv", 400),
        ("", 400),
    ],
)
def test_h10_formats(bulk: Server, text: str, status: int) -> None:
    answer = kicked(bulk, f"Patient/$export?_outputFormat={text}")
    assert answer.status_code == status
    if status == 400:
        assert issue(answer)


def test_h11_since_and_deleted(bulk: Server) -> None:
    since = manifest(bulk, started(kicked(bulk)))["transactionTime"]
    assert exported(bulk, f"Group/g/$export?_since={since}&_type=Observation") == set()
    headers = bulk.bearer("system/*.cruds")
    for id_ in ("a1", "a2", "c1", "of-o"):
        assert bulk.delete(f"Observation/{id_}", headers=headers).status_code == 204
    put(bulk, observation("a2", "a"), observation("b1", "b", valueInteger=9))
    made = manifest(bulk, started(kicked(bulk, f"Group/g/$export?_since={since}")))
    assert ids(bulk, made) == {"Observation/a2", "Observation/b1"}
    assert gone(bulk, made) == {"Observation/a1"}
    assert made["deleted"][0] | {"url": ""} == {"type": "Bundle", "url": "", "count": 1}
    made = manifest(bulk, started(kicked(bulk, f"Patient/$export?_since={since}")))
    assert gone(bulk, made) == {"Observation/a1", "Observation/c1"}
    made = manifest(bulk, started(kicked(bulk, f"$export?_since={since}&_type=Observation")))
    assert gone(bulk, made) == {"Observation/a1", "Observation/c1", "Observation/of-o"}
    assert gone(bulk, manifest(bulk, started(kicked(bulk)))) == set()
    bulk.delete("Observation/a2", headers=headers)
    made = manifest(bulk, started(kicked(bulk, f"Group/g/$export?_since={since}")))
    assert [sum(o["count"] for o in made["deleted"])] == [2] == [len(gone(bulk, made))]
    for wrong in ("yesterday", "2024-01-01", "2024-13-01T00:00:00Z"):
        answer = kicked(bulk, f"Group/g/$export?_since={wrong}")
        assert answer.status_code == 400 and issue(answer)


def test_h12_a_snapshot_under_load(bulk: Server) -> None:
    """What was acknowledged before is in, in its newest version; what comes after is not."""
    load = bulk.bearer("system/*.cruds")
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", f"Observation/a{n}", {"json": observation(f"a{n}", "a"), "headers": load})
        for n in range(40)
    ]
    requests.insert(20, ("GET", "Group/g/$export", {"headers": bulk.bearer(SCOPE) | ASYNC}))
    put(bulk, observation("before", "a"), observation("before", "a", valueInteger=7))
    answers = bulk.send_all(requests)
    url = started(answers[20])
    put(bulk, observation("after", "a"), observation("a1", "a", valueInteger=99))
    made = manifest(bulk, url)
    rows = {
        row["id"]: row
        for item in made["output"]
        if item["type"] == "Observation"
        for row in lines(bulk, item["url"])
    }
    assert "after" not in rows and rows["before"]["valueInteger"] == 7
    assert rows["a1"]["valueInteger"] == 3
    for n in range(3, 40):
        moment = bulk.get(f"Observation/a{n}", headers=load).json()["meta"]["lastUpdated"]
        assert moment > made["transactionTime"] or f"a{n}" in rows


def test_h13_types(bulk: Server) -> None:
    assert exported(bulk, "Group/g/$export?_type=Patient,Group") == {
        *("Patient/a", "Patient/b", "Group/g")
    }
    for url in ("Group/g/$export?_type=Patient,Nothing", "Patient/$export?_type=Organization"):
        answer = kicked(bulk, url)
        assert answer.status_code == 400 and issue(answer)
        made = manifest(bulk, started(kicked(bulk, url, **LENIENT)))
        [told] = [row for item in made["error"] for row in lines(bulk, item["url"])]
        assert told["resourceType"] == "OperationOutcome" and VALIDATOR.issues(told) == []
    for wrong in ("unknown=1", "includeAssociatedData=LatestProvenanceResources"):
        assert kicked(bulk, f"Patient/$export?{wrong}").status_code == 400
        made = manifest(bulk, started(kicked(bulk, f"Patient/$export?{wrong}", **LENIENT)))
        assert made["error"][0]["count"] == 1
    assert kicked(bulk, "$export?_anonymize=research", **LENIENT).status_code == 400


def test_h13_scopes(bulk: Server) -> None:
    scope = "system/Patient.rs system/Group.rs"
    headers = ASYNC | bulk.bearer(scope)
    url = started(bulk.get("Group/g/$export", headers=headers))
    made = manifest(bulk, url, scope)
    assert {o["type"] for o in made["output"]} == {"Patient", "Group"}
    refused = bulk.get("Group/g/$export?_type=Observation", headers=headers)
    assert refused.status_code == 403 and issue(refused)
    few = bulk.bearer("system/Patient.rs")
    answer = bulk.get("Group/g/$export", headers=ASYNC | few)
    made = manifest(bulk, started(answer), "system/Patient.rs")
    assert {o["type"] for o in made["output"]} == {"Patient"}
    for narrow in ("system/Observation.rs", "system/Patient.rs?gender=female", "system/Patient.r"):
        answer = bulk.get("Group/g/$export", headers=ASYNC | bulk.bearer(narrow))
        assert answer.status_code == 403 and issue(answer)
    hidden = ASYNC | bulk.bearer("system/Patient.rs system/Group.rs?code=none")
    assert bulk.get("Group/g/$export", headers=hidden).status_code == 404
    assert bulk.get(url, headers=few).status_code == 404


def test_h14_filters_elements_and_patients(bulk: Server) -> None:
    put(
        bulk, observation("a1", "a", status="amended"), observation("b1", "b", status="preliminary")
    )
    one, other = "Observation%3Fstatus%3Damended", "Observation%3Fstatus%3Dpreliminary"
    expected = {"Observation/a1", "Observation/b1"}
    for filters in (f"_typeFilter={one},{other}", f"_typeFilter={one}&_typeFilter={other}"):
        assert exported(bulk, f"Group/g/$export?_type=Observation&{filters}") == expected
    for wrong in ("Observation%3Fnothing%3D1", "Device%3Fstatus%3Dactive", "Observation"):
        answer = kicked(bulk, f"Group/g/$export?_type=Observation&_typeFilter={wrong}")
        assert answer.status_code == 400 and issue(answer), wrong
    made = manifest(bulk, started(kicked(bulk, "Group/g/$export?_elements=Observation.subject")))
    of_type = {o["type"]: lines(bulk, o["url"]) for o in made["output"]}
    for row in of_type["Observation"]:
        assert {"id", "meta", "status", "code", "subject"} == row.keys() - {"resourceType"}
        assert {"SUBSETTED"} == {tag["code"] for tag in row["meta"]["tag"]}
    assert kicked(bulk, "Group/g/$export?_elements=nothing").status_code == 400


def test_h14_patients_by_post(bulk: Server) -> None:
    def asked(url: str, *patients: str) -> httpx.Response:
        parts: list[Json] = [
            {"name": "patient", "valueReference": {"reference": f"Patient/{p}"}} for p in patients
        ]
        parts.append({"name": "_type", "valueString": "Observation"})
        body = {"resourceType": "Parameters", "parameter": parts}
        return bulk.post(url, body, headers=ASYNC | bulk.bearer(SCOPE))

    made = manifest(bulk, started(asked("Group/g/$export", "a")))
    assert ids(bulk, made) == {"Observation/a1", "Observation/a2"}
    assert made["request"] == f"{BASE}/Group/g/$export"
    made = manifest(bulk, started(asked("Patient/$export", "a", "c")))
    assert ids(bulk, made) == {f"Observation/{p}{n}" for p in "ac" for n in "12"}
    for url, patient in (("Group/g/$export", "c"), ("Patient/$export", "unknown")):
        answer = asked(url, "a", patient)
        assert answer.status_code == 400 and issue(answer)
    assert asked("$export", "a").status_code == 400
    assert kicked(bulk, "Patient/$export?patient=Patient/a").status_code == 400


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


def consent(patient: str, type_: str) -> Json:
    """The patient permits, or denies, everything."""
    system = "http://terminology.hl7.org/CodeSystem/"
    return {
        "resourceType": "Consent",
        "id": f"of-{patient}",
        "status": "active",
        "scope": {"coding": [{"system": f"{system}consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2024-01-01",
        "policy": [{"uri": "urn:policy"}],
        "provision": {"type": type_},
    }


def test_l29_who_refuses_is_not_there(bulk: Server) -> None:
    put(bulk, consent("a", "deny"), consent("b", "permit"), device("da", "a"), device("d", ""))
    assert exported(bulk, "$export?_type=Device", **RESEARCH) == {"Device/d"}
    expected = {"Patient/b", "Observation/b1", "Observation/b2"}
    made = manifest(bulk, started(kicked(bulk, **RESEARCH)))
    assert ids(bulk, made) == expected and "error" in made and made["error"] == []
    assert not any("count" in item for item in made["output"])
    assert b"Patient/a" not in json.dumps(made).encode()
    assert "Patient/a" not in exported(bulk, "Patient/$export", **RESEARCH)
    assert "Patient/a" in exported(bulk, "Group/g/$export")
    for named in ("a", "unknown"):
        body = {
            "resourceType": "Parameters",
            "parameter": [{"name": "patient", "valueReference": {"reference": f"Patient/{named}"}}],
        }
        headers = ASYNC | bulk.bearer(SCOPE) | RESEARCH
        answer = bulk.post("Group/g/$export", body, headers=headers)
        said = issue(answer)["diagnostics"]
        assert (answer.status_code, said.replace(f"/{named} ", "/X ")) == (
            400,
            "patient: Patient/X is not part of this export",
        )


@pytest.mark.parametrize("query", ["", "&_elements=Observation.subject"])
def test_l30_a_download_under_way_obeys_the_refusal(
    bulk: Server, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """What has not left when a patient refuses does not leave any more."""
    put(bulk, consent("a", "permit"), consent("b", "permit"))
    url = f"Patient/$export?_type=Observation{query}"
    made = manifest(bulk, started(kicked(bulk, url, **RESEARCH)))
    [place] = [item["url"] for item in made["output"]]
    monkeypatch.setattr(delivery, "PAGE", 1)
    system = bulk.bearer("system/*.cruds") | {"content-type": "application/fhir+json"}
    seen: list[str] = []

    async def reading(part: bytes) -> None:
        """Who is in the first part refuses."""
        seen.extend(json.loads(line)["subject"]["reference"] for line in part.splitlines())
        if len(seen) == 1:
            refused = seen[0].partition("/")[2]
            refusal = json.dumps(consent(refused, "deny")).encode()
            url = f"Consent/of-{refused}"
            assert (await plain.answered(bulk, "PUT", url, system, refusal)).status_code == 200

    answer = bulk.run(plain.answered(bulk, "GET", place, bulk.bearer(SCOPE), reading=reading))
    assert answer.status_code == 200
    first, other = seen[0], {"Patient/a": "Patient/b", "Patient/b": "Patient/a"}[seen[0]]
    assert seen == [first, other, other]
    row = bulk.get(place, headers=bulk.bearer(SCOPE)).text
    assert f'"{other}"' in row and f'"{first}"' not in row


def test_l30_who_refuses_later_is_not_there_any_more(bulk: Server) -> None:
    put(bulk, consent("a", "permit"), consent("b", "permit"))
    url = started(kicked(bulk, **RESEARCH))
    made = manifest(bulk, url)
    assert {"Patient/a", "Observation/a1", "Patient/b"} <= ids(bulk, made)
    put(bulk, consent("a", "deny"))
    left = {"Patient/b", "Observation/b1", "Observation/b2"}
    assert ids_of(bulk, made) == left
    assert ids(bulk, manifest(bulk, url)) == left
    put(bulk, consent("b", "deny"))
    assert manifest(bulk, url)["output"] == [] and ids_of(bulk, made) == set()


def ids_of(server: Server, made: Json) -> set[str]:
    rows = [row for item in made["output"] for row in lines(server, item["url"])]
    return {f"{row['resourceType']}/{row['id']}" for row in rows}


def test_l31_deletions_of_what_was_hidden(bulk: Server) -> None:
    put(bulk, consent("a", "permit"), consent("b", "permit"))
    since = manifest(bulk, started(kicked(bulk)))["transactionTime"]
    headers = bulk.bearer("system/*.cruds")
    for id_ in ("a1", "b1"):
        assert bulk.delete(f"Observation/{id_}", headers=headers).status_code == 204
    url = f"Group/g/$export?_since={since}&_type=Observation"
    place = started(kicked(bulk, url, **RESEARCH))
    before = manifest(bulk, place)
    assert gone(bulk, before) == {"Observation/a1", "Observation/b1"}
    put(bulk, consent("a", "deny"))
    assert gone(bulk, before) == gone(bulk, manifest(bulk, place)) == {"Observation/b1"}
    assert gone(bulk, manifest(bulk, started(kicked(bulk, url, **RESEARCH)))) == {"Observation/b1"}
    assert gone(bulk, manifest(bulk, started(kicked(bulk, url)))) == {
        "Observation/a1",
        "Observation/b1",
    }
