"""Transactions, numbered as in the list of what a conformance tester checks (58 to 66)."""

from __future__ import annotations

import pytest

from tests.interactions.transacting import (
    PATIENT,
    URN,
    counts,
    entry,
    located,
    observation,
    post,
    refused,
    transaction,
)
from tests.serving import BASE, Json, Server, issue


def test_c58_order_and_responses(server: Server) -> None:
    old = server.create(PATIENT)
    shown = post(
        server,
        entry("GET", "Patient/new"),
        entry("PUT", "Patient/new", PATIENT | {"id": "new"}),
        entry("POST", "Patient", PATIENT),
        entry("DELETE", f"Patient/{old['id']}"),
    )
    responses = [e["response"] for e in shown]
    assert [r["status"] for r in responses] == [
        "200 OK",
        "201 Created",
        "201 Created",
        "204 No Content",
    ]
    assert shown[0]["resource"]["id"] == "new"
    for response in responses[1:3]:
        assert response["etag"] == 'W/"1"' and response["lastModified"]
        assert server.get(response["location"]).status_code == 200
    assert "resource" not in shown[1]
    assert (responses[3]["etag"], "location" in responses[3]) == ('W/"2"', False)
    assert server.get(f"Patient/{old['id']}").headers["etag"] == 'W/"2"'


@pytest.mark.parametrize(
    ("prefer", "resource", "outcome"),
    [
        ("return=minimal", None, None),
        ("return=representation", "Patient", None),
        ("return=OperationOutcome", None, "OperationOutcome"),
    ],
)
def test_c58_prefer(server: Server, prefer: str, resource: str | None, outcome: str | None) -> None:
    [shown] = post(server, entry("POST", "Patient", PATIENT), prefer=prefer)
    assert shown.get("resource", {}).get("resourceType") == resource
    assert shown["response"].get("outcome", {}).get("resourceType") == outcome


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (entry("POST", "Observation", observation("Patient/1") | {"status": "no"}), 422),
        (entry("POST", "Observation", observation("Patient/1") | {"nothing": 1}), 422),
        (entry("POST", "Observation", PATIENT), 400),
        (entry("POST", "Nothing", PATIENT), 400),
        (entry("PUT", "Patient/a", PATIENT), 400),
        (entry("PUT", "Patient/a", PATIENT | {"id": "a"}, ifMatch='W/"4"'), 412),
        (entry("DELETE", "Patient/a", ifMatch='W/"4"'), 412),
        (entry("POST", "Patient", PATIENT, ifNoneExist="unknown=1"), 400),
        (entry("POST", "Patient", PATIENT, ifNoneExist=""), 400),
        (entry("GET", "Patient/none"), 404),
        (entry("GET", "Patient?name:nothing=1"), 400),
        (entry("post", "Patient", PATIENT), 400),
        (entry("PATCH", "Patient/a", PATIENT), 404),
        (entry("POST", "http://elsewhere.example/fhir/Patient", PATIENT), 400),
        (entry("POST", f"{BASE}x/Patient", PATIENT), 400),
        (entry("POST", "//elsewhere.example/Patient", PATIENT), 400),
        (entry("POST", "Patient/_search?name=x", PATIENT), 400),
        (entry("POST", "Patient/$nothing", PATIENT), 501),
        (entry("POST", "Patient/a/$meta-add", {"resourceType": "Parameters"}), 501),
        (entry("POST", "Patient/../x", PATIENT), 400),
        (entry("POST", "Patient"), 400),
        ({"resource": PATIENT}, 400),
        ({"request": {"method": "POST", "url": "Patient", "x": 1}, "resource": PATIENT}, 422),
        (entry("POST", "Observation", observation("Patient?identifier=urn:x|none")), 412),
    ],
)
def test_c59_any_failure_stores_nothing(server: Server, bad: Json, status: int) -> None:
    found, first = refused(server, entry("POST", "Patient", PATIENT), bad)
    assert found == status, first
    assert first["expression"][0].startswith("Bundle.entry[1]")


def test_c59_batch_entries_are_independent(server: Server) -> None:
    entries = [
        entry("POST", "Patient", PATIENT),
        entry("GET", "Patient/none"),
        entry("POST", "Observation", observation("Patient/1") | {"status": "no"}),
        entry("bad", "Patient"),
        entry("POST", ""),
        entry("GET", "Patient?name=doe"),
        entry("PUT", "Patient/b", PATIENT | {"id": "b"}),
        entry("DELETE", "Patient/b"),
        entry("PATCH", "Patient/b"),
        {"resource": PATIENT},
    ]
    answer = server.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries})
    assert answer.status_code == 200
    shown = answer.json()["entry"]
    assert answer.json()["type"] == "batch-response"
    status = [e["response"]["status"][:3] for e in shown]
    assert status == ["201", "404", "422", "400", "400", "200", "201", "204", "400", "400"]
    for one in shown:
        failed = one["response"]["status"] >= "400"
        assert failed == ("outcome" in one["response"])
    assert shown[0]["response"]["location"].startswith("Patient/")
    assert shown[5]["resource"]["total"] == 1


def test_c65_stored_bundles_are_left_alone(server: Server) -> None:
    inner = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": URN, "resource": observation(URN)}],
    }
    shown = post(server, entry("POST", "Bundle", inner), entry("POST", "Patient", PATIENT, URN))
    stored = located(server, shown[0])
    assert stored["entry"][0]["resource"]["subject"]["reference"] == URN
    assert server.post("Bundle", transaction(entry("POST", "Patient", PATIENT))).status_code == 201
    assert server.get("Patient").json()["total"] == 1


@pytest.mark.parametrize("type_", ["transaction", "batch"])
def test_c58_each_version_has_its_time_and_head_no_body(server: Server, type_: str) -> None:
    server.put("Patient/p", PATIENT | {"id": "p"})
    entries = [
        entry("POST", "Patient", PATIENT),
        entry("PUT", "Patient/p", PATIENT | {"id": "p", "active": True}),
        entry("HEAD", "Patient/p"),
        entry("GET", "Patient/p"),
    ]
    answer = server.post("", {"resourceType": "Bundle", "type": type_, "entry": entries})
    created, updated, head, got = answer.json()["entry"]
    for shown in (created, updated):
        version = server.get(shown["response"]["location"]).json()
        assert shown["response"]["lastModified"] == version["meta"]["lastUpdated"]
        assert shown["response"]["etag"] == f'W/"{version["meta"]["versionId"]}"'
    assert "resource" not in head
    assert head["response"]["lastModified"] == got["resource"]["meta"]["lastUpdated"]


@pytest.mark.parametrize("type_", ["transaction", "batch"])
def test_c65_empty(server: Server, type_: str) -> None:
    for bundle in ({}, {"entry": []}):
        answer = server.post("", {"resourceType": "Bundle", "type": type_} | bundle)
        assert answer.status_code == 200 and answer.json()["type"] == f"{type_}-response"


@pytest.mark.parametrize(
    "bundle",
    [
        {"resourceType": "Patient"},
        {"resourceType": "Bundle", "type": "collection"},
        {"resourceType": "Bundle"},
        {"resourceType": "Bundle", "type": ["transaction"]},
    ],
)
def test_c65_what_cannot_be_executed(server: Server, bundle: Json) -> None:
    assert issue(server.post("", bundle))["code"] in ("invalid", "value")


def test_c66_urls_and_limits(server: Server) -> None:
    server.put("Patient/a.b", PATIENT | {"id": "a.b"})
    [shown] = post(server, entry("GET", "Patient?name=d%6Fe&_count=1"))
    assert shown["resource"]["total"] == 1
    many = transaction(*[entry("GET", "Patient/a.b")] * 1001)
    answer = server.post("", many)
    assert answer.status_code == 413 and issue(answer)["expression"] == ["Bundle.entry"]


def test_deleted_and_read_in_one(server: Server) -> None:
    known = server.create(PATIENT)
    shown = post(
        server, entry("GET", f"Patient/{known['id']}"), entry("DELETE", f"Patient/{known['id']}")
    )
    assert shown[0]["response"]["status"] == "410 Gone"


def test_revive_and_versions(server: Server) -> None:
    known = server.create(PATIENT)
    url = f"Patient/{known['id']}"
    [shown] = post(server, entry("PUT", url, known | {"active": True}, ifMatch='W/"1"'))
    assert shown["response"]["status"] == "200 OK" and shown["response"]["etag"] == 'W/"2"'
    post(server, entry("DELETE", url))
    [shown] = post(server, entry("PUT", url, known))
    assert shown["response"]["etag"] == 'W/"4"'


def test_permissions_of_each_entry(secured: Server) -> None:
    readonly = secured.bearer("system/*.rs system/Patient.c")
    answer = secured.post(
        "",
        transaction(
            entry("POST", "Patient", PATIENT),
            entry("POST", "Observation", observation("Patient/1")),
        ),
        headers=readonly,
    )
    assert answer.status_code == 403 and issue(answer)["expression"] == ["Bundle.entry[1]"]
    assert counts(secured) == {}
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            entry("POST", "Patient", PATIENT),
            entry("POST", "Observation", observation("Patient/1")),
        ],
    }
    shown = secured.post("", batch, headers=readonly).json()["entry"]
    assert [e["response"]["status"][:3] for e in shown] == ["201", "403"]
