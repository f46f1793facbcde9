"""Bulk Data 2.0, section H: formats, times, types, filters, patients."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serving import BASE, Json, Server, issue
from tests.smart.bulk import (
    ASYNC,
    LENIENT,
    SCOPE,
    VALIDATOR,
    exported,
    gone,
    ids,
    kicked,
    lines,
    manifest,
    observation,
    put,
    started,
)


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
