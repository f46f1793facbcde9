"""Transactions, numbered as in the list of what a conformance tester checks (58 to 66)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import BASE, Json, Server, issue

PATIENT: Json = {"resourceType": "Patient", "name": [{"family": "Doe"}]}


def observation(subject: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": subject},
        **more,
    }


def entry(
    method: str, url: str, resource: Json | None = None, full_url: str = "", **request: str
) -> Json:
    made: Json = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url:
        made["fullUrl"] = full_url
    return made


def transaction(*entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def post(server: Server, *entries: Json, **headers: str) -> list[Json]:
    """The response entries of a transaction that must succeed."""
    answer = server.post("", transaction(*entries), headers=headers)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["type"] == "transaction-response"
    assert len(body.get("entry", [])) == len(entries)
    shown: list[Json] = body.get("entry", [])
    return shown


def refused(server: Server, *entries: Json) -> tuple[int, Json]:
    """Status and first issue of a transaction that must fail and store nothing."""
    before = counts(server)
    answer = server.post("", transaction(*entries))
    assert answer.status_code >= 400, answer.text
    assert counts(server) == before
    return answer.status_code, issue(answer)


def counts(server: Server) -> dict[str, int]:
    return {k: v for k, v in server.run(server.domain.store.counts()).items() if v}


def located(server: Server, shown: Json) -> Json:
    found: Json = server.get(shown["response"]["location"]).json()
    return found


def key(shown: Json) -> str:
    location: str = shown["response"]["location"]
    return location.partition("/_history")[0]


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


@pytest.mark.parametrize(
    "entries",
    [
        [entry("PUT", "Patient/a", PATIENT | {"id": "a"})] * 2,
        [entry("PUT", "Patient/a", PATIENT | {"id": "a"}), entry("DELETE", "Patient/a")],
        [entry("POST", "Patient", PATIENT, ifNoneExist="identifier=1")] * 2,
        [
            entry("POST", "Patient", PATIENT, "urn:uuid:11111111-1111-4111-8111-111111111111"),
            entry("POST", "Patient", PATIENT, "urn:uuid:11111111-1111-4111-8111-111111111111"),
        ],
    ],
)
def test_c60_same_identity_twice(server: Server, entries: list[Json]) -> None:
    status, first = refused(server, *entries)
    assert status == 400 and first["expression"] == ["Bundle.entry[1]"]


NEW = PATIENT | {"identifier": [{"system": "urn:x", "value": "7"}]}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("identifier=urn:x|7", "identifier=7"),
        ("identifier=7", "identifier=urn:x%7C7"),
        ("identifier=7&name=doe", "name=doe&identifier=7"),
        ("identifier=7", "name=doe&identifier=7&_id:not=1"),
        ("name=doe", "family:exact=Doe"),
        ("identifier=7", None),
        (
            "organization.name=x&general-practitioner.name=y",
            "general-practitioner.name=y&organization.name=x",
        ),
    ],
)
def test_c60_same_identity_to_come(server: Server, first: str, second: str | None) -> None:
    """Two spellings of one condition make one resource or none, not two."""
    creates = [entry("POST", "Patient", NEW, ifNoneExist=first)]
    if second is None:
        creates.append(entry("POST", "Patient", NEW))
    else:
        creates.append(entry("POST", "Patient", NEW, ifNoneExist=second))
        updates = entry("PUT", f"Patient?{second}", NEW)
        assert refused(server, creates[0], updates)[0] == 400
    status, found = refused(server, *creates)
    assert status == 400 and found["code"] == "duplicate"
    assert found["expression"][0].startswith("Bundle.entry[")


def test_c60_conditions_that_find_nobody_else(server: Server) -> None:
    other = PATIENT | {"identifier": [{"system": "urn:x", "value": "8"}], "active": True}
    old = server.create(other)
    shown = post(
        server,
        entry("DELETE", f"Patient/{old['id']}"),
        entry("POST", "Patient", NEW, ifNoneExist="identifier=urn:x|7&name=doe"),
        entry("POST", "Patient", other, ifNoneExist="identifier=urn:x|9"),
        entry("POST", "Patient", PATIENT, ifNoneExist="identifier=urn:x|10"),
        entry("POST", "Patient", PATIENT),
    )
    assert [e["response"]["status"][:3] for e in shown] == ["204", "201", "201", "201", "201"]


def test_c60_same_identity_by_condition(server: Server) -> None:
    known = server.create(PATIENT | {"identifier": [{"value": "7"}]})
    status, _ = refused(
        server,
        entry("POST", "Patient", PATIENT, ifNoneExist="identifier=7"),
        entry("PUT", f"Patient/{known['id']}", known),
    )
    assert status == 400


URN = "urn:uuid:9d0f1d5e-2f6f-4b1c-8f2e-3c1d9a7b5e10"
OID = "urn:oid:1.2.3.4.5"


def test_c61_links_are_replaced(server: Server) -> None:
    linked = observation(
        URN,
        text={
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>'
            f'<a href="{URN}">who</a> <img src=\'{URN}\' alt="x"/> '
            f'<a href="http://other/1">other</a> {URN}</p></div>',
        },
        extension=[
            {"url": "http://x/uri", "valueUri": URN},
            {"url": "http://x/url", "valueUrl": URN},
            {"url": "http://x/canonical", "valueCanonical": URN},
            {"url": "http://x/string", "valueString": URN},
            {"url": "http://x/ref", "valueReference": {"reference": URN + "#part"}},
        ],
        performer=[{"reference": OID}, {"reference": "#inner"}],
        contained=[{"resourceType": "Practitioner", "id": "inner"}],
        hasMember=[{"reference": "Observation/elsewhere/_history/3"}],
        focus=[{"reference": f"{URN}/_history/5"}],
    )
    shown = post(
        server,
        entry("POST", "Observation", linked),
        entry("POST", "Patient", PATIENT, URN),
        entry("POST", "Practitioner", {"resourceType": "Practitioner"}, OID),
    )
    stored, patient, practitioner = located(server, shown[0]), key(shown[1]), key(shown[2])
    assert stored["subject"]["reference"] == patient
    assert [r["reference"] for r in stored["performer"]] == [practitioner, "#inner"]
    assert stored["hasMember"] == [{"reference": "Observation/elsewhere/_history/3"}]
    assert stored["focus"] == [{"reference": f"{patient}/_history/1"}]
    values = {e["url"].rpartition("/")[2]: e for e in stored["extension"]}
    assert values["uri"]["valueUri"] == values["url"]["valueUrl"] == patient
    assert values["canonical"]["valueCanonical"] == URN
    assert values["string"]["valueString"] == URN
    assert values["ref"]["valueReference"]["reference"] == patient + "#part"
    div = stored["text"]["div"]
    assert f'<a href="{patient}">' in div and f"<img src='{patient}'" in div
    assert '<a href="http://other/1">' in div and div.count(URN) == 1


@pytest.mark.parametrize("lost", [URN, OID, URN + "#part", URN + "/_history/2"])
def test_c61_a_link_to_no_entry_is_refused(server: Server, lost: str) -> None:
    for bad in (
        entry("POST", "Observation", observation(lost)),
        entry("PUT", "Observation/o", observation(lost) | {"id": "o"}),
        entry(
            "POST",
            "Observation",
            observation(
                "#p",
                contained=[
                    {
                        "resourceType": "Patient",
                        "id": "p",
                        "managingOrganization": {"reference": lost},
                    }
                ],
            ),
        ),
    ):
        status, first = refused(server, entry("POST", "Patient", PATIENT), bad)
        assert status == 422 and first["expression"] == ["Bundle.entry[1]"]
        assert lost in first["diagnostics"]
        batch = {"resourceType": "Bundle", "type": "batch", "entry": [bad]}
        [shown] = server.post("", batch).json()["entry"]
        assert shown["response"]["status"].startswith("422"), shown
        assert lost in shown["response"]["outcome"]["issue"][0]["diagnostics"]
    assert server.get("Observation").json()["total"] == 0


def test_c61_batch_entries_do_not_refer_to_each_other(server: Server) -> None:
    entries = [
        entry("POST", "Patient", PATIENT, URN),
        entry("POST", "Observation", observation(URN)),
    ]
    answer = server.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries})
    status = [e["response"]["status"][:3] for e in answer.json()["entry"]]
    assert status == ["201", "422"]


def test_c61_circular(server: Server) -> None:
    other = "urn:uuid:00000000-0000-4000-8000-000000000002"
    first = PATIENT | {"link": [{"other": {"reference": other}, "type": "seealso"}]}
    second = PATIENT | {"link": [{"other": {"reference": URN}, "type": "seealso"}]}
    shown = post(
        server, entry("POST", "Patient", first, URN), entry("POST", "Patient", second, other)
    )
    assert located(server, shown[0])["link"][0]["other"]["reference"] == key(shown[1])
    assert located(server, shown[1])["link"][0]["other"]["reference"] == key(shown[0])


def test_c62_restful_full_urls(server: Server) -> None:
    shown = post(
        server,
        entry("POST", "Patient", PATIENT | {"id": "77"}, "http://lab.example/fhir/Patient/77"),
        entry(
            "POST",
            "Observation",
            observation("Patient/77", focus=[{"reference": "http://lab.example/fhir/Patient/77"}]),
            "http://lab.example/fhir/Observation/5",
        ),
        entry(
            "POST", "Observation", observation("Patient/77"), "http://other.example/Observation/5"
        ),
        entry("POST", "Observation", observation("Patient/77"), URN),
    )
    patient = key(shown[0])
    stored = located(server, shown[1])
    assert stored["subject"]["reference"] == patient
    assert stored["focus"][0]["reference"] == patient
    for elsewhere in shown[2:]:
        assert located(server, elsewhere)["subject"]["reference"] == "Patient/77"


def test_c63_conditional_references(server: Server) -> None:
    known = server.create(PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]})
    asked = entry("POST", "Observation", observation("Patient?identifier=urn:x|1"))
    [shown] = post(server, asked)
    assert located(server, shown)["subject"]["reference"] == f"Patient/{known['id']}"
    server.create(PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]})
    status, first = refused(server, asked)
    assert status == 412 and first["expression"] == ["Bundle.entry[0]"]


def test_c64_conditional_create_of_what_exists(server: Server) -> None:
    known = server.create(PATIENT | {"identifier": [{"value": "1"}]})
    shown = post(
        server,
        entry("POST", "Patient", PATIENT, URN, ifNoneExist="identifier=1"),
        entry("POST", "Observation", observation(URN)),
    )
    assert shown[0]["response"]["status"] == "200 OK"
    assert shown[0]["response"]["location"] == f"Patient/{known['id']}/_history/1"
    assert located(server, shown[1])["subject"]["reference"] == f"Patient/{known['id']}"
    server.create(PATIENT | {"identifier": [{"value": "1"}]})
    status, _ = refused(server, entry("POST", "Patient", PATIENT, ifNoneExist="identifier=1"))
    assert status == 412


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


def identified(value: str, **members: object) -> Json:
    return PATIENT | {"identifier": [{"system": "urn:x", "value": value}]} | members


def test_conditional_writes_in_a_transaction(server: Server) -> None:
    kept, gone = (server.create(identified(value))["id"] for value in ("kept", "gone"))
    observation_ = observation("urn:uuid:22222222-2222-4222-8222-222222222222")
    shown = post(
        server,
        entry(
            "PUT",
            "Patient?identifier=urn:x|kept",
            identified("kept", active=True),
            "urn:uuid:22222222-2222-4222-8222-222222222222",
        ),
        entry("PUT", "Patient?identifier=urn:x|new", identified("new")),
        entry("DELETE", "Patient?identifier=urn:x|gone"),
        entry("DELETE", "Patient?identifier=urn:x|nothing"),
        entry("POST", "Observation", observation_),
    )
    status = [one["response"]["status"][:3] for one in shown]
    assert status == ["200", "201", "204", "204", "201"]
    assert shown[0]["response"]["location"] == f"Patient/{kept}/_history/2"
    assert server.get(f"Patient/{gone}").status_code == 410
    made = server.get(shown[4]["response"]["location"]).json()
    assert made["subject"]["reference"] == f"Patient/{kept}"


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (entry("PUT", "Patient?identifier=urn:x|1", identified("1")), 412),
        (entry("DELETE", "Patient?identifier=urn:x|1"), 412),
        (entry("PUT", "Patient?identifier=urn:x|2", identified("2", id="other")), 400),
        (entry("PUT", "Patient?unknown=1", identified("1")), 400),
        (entry("DELETE", "Patient"), 400),
        (entry("PATCH", "Patient?identifier=urn:x|none", PATIENT), 404),
        (entry("PATCH", "Patient?identifier=urn:x|2", PATIENT), 400),
    ],
)
def test_conditional_writes_that_fail(server: Server, bad: Json, status: int) -> None:
    for value in ("1", "1", "2"):
        server.create(identified(value))
    before = server.get("Patient").json()["total"]
    found, first = refused(server, entry("POST", "Patient", PATIENT), bad)
    assert found == status, first
    assert server.get("Patient").json()["total"] == before


def test_c60_same_identity_by_two_conditions(server: Server) -> None:
    id_ = server.create(identified("1") | {"birthDate": "2000-01-01"})["id"]
    first = entry("PUT", "Patient?identifier=urn:x|1", identified("1"))
    for other in (
        entry("DELETE", f"Patient/{id_}"),
        entry("DELETE", "Patient?birthdate=2000-01-01"),
        first,
    ):
        found, _ = refused(server, first, other)
        assert found == 400
