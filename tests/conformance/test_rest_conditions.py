"""Conditions and preferences of the RESTful API, numbered as the list of what a tester checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving import BACKENDS, BASE, Server, issue, served

PATIENT = {"resourceType": "Patient", "name": [{"family": "Doe"}]}


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ('W/"1"', 200),
        ('"1"', 200),
        ("1", 200),
        ('W/"7", W/"1"', 200),
        ("*", 200),
        ('W/"2"', 412),
        ('W/"abc"', 412),
        ('W/"3", "4"', 412),
        ('W/"1', 400),
        ("", 400),
        ("a b", 400),
    ],
)
def test_c03_if_match_forms(server: Server, header: str, status: int) -> None:
    made = server.create(PATIENT)
    answer = server.put(f"Patient/{made['id']}", made, headers={"if-match": header})
    assert answer.status_code == status, answer.text
    if status > 200:
        issue(answer)


def test_c04_if_match_on_delete(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    assert server.delete(url, headers={"if-match": 'W/"2"'}).status_code == 412
    assert server.get(url).status_code == 200
    assert server.delete(url, headers={"if-match": 'W/"1"'}).status_code == 204
    assert server.delete("Patient/none", headers={"if-match": 'W/"1"'}).status_code == 412


def test_c05_conditional_read(server: Server) -> None:
    made = server.post("Patient", PATIENT)
    url = f"Patient/{made.json()['id']}"
    for headers in (
        {"if-none-match": 'W/"1"'},
        {"if-none-match": "*"},
        {"if-modified-since": made.headers["last-modified"]},
    ):
        answer = server.get(url, headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == 'W/"1"'
    earlier = {"if-modified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    assert server.get(url, headers=earlier).status_code == 200
    assert server.get(url, headers={"if-none-match": 'W/"2"'}).status_code == 200
    assert server.get(url, headers={"if-modified-since": "yesterday"}).status_code == 200


def test_c16_prefer(server: Server) -> None:
    def made(prefer: str) -> object:
        answer = server.post("Patient", PATIENT, headers={"prefer": prefer})
        assert answer.status_code == 201 and "location" in answer.headers
        return answer.json()["resourceType"] if answer.content else None

    assert made("return=minimal") is None
    assert made("return=representation") == "Patient"
    assert made("handling=strict; return=OperationOutcome") == "OperationOutcome"


def test_c17_conditional_create(server: Server) -> None:
    body = PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]}
    condition = {"if-none-exist": "identifier=urn:x|1"}
    first = server.post("Patient", body, headers=condition)
    second = server.post("Patient", body, headers=condition)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["location"] == first.headers["location"]
    assert second.json() == first.json()
    server.create(body)
    assert server.post("Patient", body, headers=condition).status_code == 412


@pytest.mark.parametrize("condition", ["", "unknown=1", "identifier=", "_count=1", "%zz=1"])
def test_c19_conditions_that_say_nothing(server: Server, condition: str) -> None:
    answer = server.post("Patient", PATIENT, headers={"if-none-exist": condition})
    assert answer.status_code in (400, 412)
    assert server.get("Patient").json()["total"] == 0


def test_c18_conditional_update(server: Server) -> None:
    body = PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]}
    url = "Patient?identifier=urn:x|1"
    first = server.put(url, body)
    assert (first.status_code, first.headers["etag"]) == (201, 'W/"1"')
    made = first.json()["id"]
    changed = body | {"active": True}
    second = server.put(url, changed)
    assert (second.status_code, second.json()["id"]) == (200, made)
    assert second.headers["location"] == f"{BASE}/Patient/{made}/_history/2"
    assert server.put(url, changed | {"id": made, "active": False}).status_code == 200
    assert server.put(url, changed | {"id": "other"}).status_code == 400
    assert server.put(url, changed, headers={"if-match": 'W/"1"'}).status_code == 412
    assert server.put("Patient?identifier=new", body, headers={"if-match": "*"}).status_code == 412
    given = server.put("Patient?identifier=new", body | {"id": "chosen"})
    assert (given.status_code, given.headers["location"]) == (
        201,
        f"{BASE}/Patient/chosen/_history/1",
    )
    # The id is in use by a resource that the condition does not find.
    assert server.put("Patient?identifier=new", body | {"id": "chosen"}).status_code == 412
    assert server.put(url, body).status_code == 412
    assert server.put("Patient?identifier=new", {"resourceType": "Group"}).status_code == 400


def test_c18_update_as_create_is_for_system_clients(secured: Server) -> None:
    own = secured.bearer("patient/*.cruds", patient="p")
    body = {"resourceType": "Practitioner", "id": "chosen"}
    for id_ in ("chosen", "other"):
        answer = secured.put("Practitioner?identifier=1", body | {"id": id_}, headers=own)
        assert answer.status_code == 405


def test_c18_conditional_delete(server: Server) -> None:
    url = "Patient?family=Doe"
    assert server.delete(url).status_code == 204
    made = server.create(PATIENT)
    assert server.delete(url, headers={"if-match": 'W/"2"'}).status_code == 412
    assert server.delete(url).status_code == 204
    assert server.get(f"Patient/{made['id']}").status_code == 410
    server.create(PATIENT)
    server.create(PATIENT)
    assert server.delete(url).status_code == 412
    assert server.get("Patient").json()["total"] == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_c18_multiple_by_declaration(backend: str, tmp_path: Path) -> None:
    with served(backend, tmp_path, conditional_delete="multiple") as server:
        rest = server.get("metadata").json()["rest"][0]
        assert {r["conditionalDelete"] for r in rest["resource"]} == {"multiple"}
        for _ in range(5):
            server.create(PATIENT)
        keep = server.create({"resourceType": "Patient"})
        assert server.delete("Patient?family=Doe").status_code == 204
        assert [e["resource"]["id"] for e in server.get("Patient").json()["entry"]] == [keep["id"]]


@pytest.mark.parametrize("verb", ["create", "update"])
def test_c17_c18_are_atomic(server: Server, verb: str) -> None:
    """32 at once: one of them makes it, the others find it."""
    body = PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]}
    if verb == "create":
        headers = {"if-none-exist": "identifier=urn:x|1"}
        request = ("POST", "Patient", {"json": body, "headers": headers})
    else:
        request = ("PUT", "Patient?identifier=urn:x|1", {"json": body})
    answers = server.send_all([request] * 32)
    assert sorted(a.status_code for a in answers) == [200] * 31 + [201]
    assert len({a.json()["id"] for a in answers}) == 1
    assert server.get("Patient?identifier=urn:x|1").json()["total"] == 1


@pytest.mark.parametrize(
    "url", ["Patient", "Patient?unknown=1", "Patient?_count=1", "Patient?_id="]
)
def test_c19_conditions_of_urls(server: Server, url: str) -> None:
    made = server.create(PATIENT)
    assert server.put(url, PATIENT).status_code == 400
    assert server.delete(url).status_code == 400
    assert server.get(f"Patient/{made['id']}").json() == made


def test_no_change_makes_no_version(server: Server) -> None:
    made = server.post("Patient", PATIENT)
    url, body = f"Patient/{made.json()['id']}", made.json()
    for answer in (
        server.put(url, body),
        server.put(url, body | {"meta": {"versionId": "7"}}),
        server.put(f"Patient?_id={body['id']}", body, headers={"if-match": 'W/"1"'}),
        server.send(
            "PATCH",
            url,
            content=b'[{"op":"test","path":"/name/0/family","value":"Doe"}]',
            headers={"content-type": "application/json-patch+json"},
        ),
    ):
        assert (answer.status_code, answer.json()) == (200, body)
        assert answer.headers["etag"] == 'W/"1"'
        assert answer.headers["last-modified"] == made.headers["last-modified"]
    bundle = {"resourceType": "Bundle", "type": "transaction"}
    bundle["entry"] = [{"resource": body, "request": {"method": "PUT", "url": url}}]
    [entry] = server.post("", bundle).json()["entry"]
    assert (entry["response"]["status"], entry["response"]["etag"]) == ("200 OK", 'W/"1"')
    assert server.get(f"{url}/_history").json()["total"] == 1
    assert server.put(url, body | {"active": True}).headers["etag"] == 'W/"2"'


def test_if_none_match_on_put(server: Server) -> None:
    new = {"if-none-match": "*"}
    body = PATIENT | {"id": "a"}
    assert server.put("Patient/a", body, headers=new).status_code == 201
    assert server.put("Patient/a", body, headers=new).status_code == 412
    server.delete("Patient/a")
    assert server.put("Patient/a", body, headers=new).status_code == 200


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize(
    ("prefer", "shown"),
    [("minimal", None), ("representation", "Patient"), ("OperationOutcome", "OperationOutcome")],
)
def test_c16_prefer_everywhere(server: Server, kind: str, prefer: str, shown: str | None) -> None:
    headers = {"prefer": f"return={prefer}"}
    id_ = server.create(PATIENT)["id"]
    change = b'[{"op":"add","path":"/active","value":true}]'
    patch = headers | {"content-type": "application/json-patch+json"}
    for answer in (
        server.put(f"Patient/{id_}", PATIENT | {"id": id_, "gender": "other"}, headers=headers),
        server.send("PATCH", f"Patient/{id_}", content=change, headers=patch),
    ):
        assert answer.status_code == 200 and "etag" in answer.headers
        assert (answer.json()["resourceType"] if answer.content else None) == shown
    entry = {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
    [one] = server.post("", bundle, headers=headers).json()["entry"]
    found = one.get("resource") or one["response"].get("outcome") or {}
    assert found.get("resourceType") == shown
    assert one["response"]["etag"] == 'W/"1"' and "location" in one["response"]
    assert "lastModified" in one["response"]
