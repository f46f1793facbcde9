"""Headers, status and errors, numbered as in the list of what a conformance tester checks."""

from __future__ import annotations

import pytest

from tests.serving import BASE, Server, issue

PATIENT = {"resourceType": "Patient", "name": [{"family": "Doe"}]}


def test_c01_create(server: Server) -> None:
    sent = PATIENT | {
        "id": "mine",
        "meta": {"versionId": "9", "lastUpdated": "2001-01-01T00:00:00Z"},
    }
    answer = server.post("Patient", sent)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{BASE}/Patient/{made['id']}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["last-modified"].endswith("GMT")
    assert made["id"] != "mine" and made["meta"]["versionId"] == "1"
    assert made["meta"]["lastUpdated"] > "2020"


def test_c02_etag_is_the_version_everywhere(server: Server) -> None:
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    assert server.get(url).headers["etag"] == 'W/"1"'
    assert server.put(url, made).headers["etag"] == 'W/"2"'
    assert server.get(f"{url}/_history/1").headers["etag"] == 'W/"1"'
    assert server.get(url).json()["meta"]["versionId"] == "2"


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
    assert server.get(url, headers={"if-modified-since": "yesterday"}).status_code == 400


def test_c06_put_creates_and_updates(server: Server) -> None:
    answer = server.put("Patient/a-1", PATIENT | {"id": "a-1"})
    assert (answer.status_code, answer.headers["location"]) == (
        201,
        f"{BASE}/Patient/a-1/_history/1",
    )
    assert server.put("Patient/a-1", PATIENT | {"id": "a-1"}).status_code == 200


@pytest.mark.parametrize(
    ("url", "body", "status"),
    [
        ("Patient/a", PATIENT, 400),
        ("Patient/a", PATIENT | {"id": "b"}, 400),
        ("Patient/a", PATIENT | {"id": 5}, 400),
        ("Patient/a", {"resourceType": "Observation", "id": "a"}, 400),
        ("Patient/a", {"id": "a"}, 400),
        ("patient/a", PATIENT | {"id": "a"}, 404),
        ("Nothing/a", PATIENT | {"id": "a"}, 404),
    ],
)
def test_c07_body_and_url(server: Server, url: str, body: dict[str, object], status: int) -> None:
    answer = server.put(url, body)
    assert answer.status_code == status
    issue(answer)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("Patient/" + "a" * 64, 404),
        ("Patient/" + "a" * 65, 400),
        ("Patient/a_b", 400),
        ("Patient/a%20b", 400),
        ("Patient/%C3%A9", 400),
        ("Patient/a/_history/x", 404),
        ("Patient/a/_history/a_b", 400),
        ("Patient/unknown", 404),
    ],
)
def test_c08_ids(server: Server, url: str, status: int) -> None:
    answer = server.get(url)
    assert answer.status_code == status
    issue(answer)


def test_c09_deleted(server: Server) -> None:
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    assert server.delete(url).status_code == 204
    gone = server.get(url)
    assert (gone.status_code, gone.headers["etag"]) == (410, 'W/"2"')
    assert issue(gone)["code"] == "deleted"
    assert server.get(f"{url}/_history/2").status_code == 410
    assert server.get(f"{url}/_history/1").json() == made
    assert server.get("Patient").json().get("total") == 0


def test_c10_delete_again(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    first, again, never = server.delete(url), server.delete(url), server.delete("Patient/never")
    assert [a.status_code for a in (first, again, never)] == [204] * 3
    assert [a.content for a in (first, again, never)] == [b""] * 3
    assert {a.headers.get("etag") for a in (first, again, never)} == {None}
    assert server.get(f"{url}/_history").json()["total"] == 2


def test_c11_put_revives(server: Server) -> None:
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    server.delete(url)
    answer = server.put(url, made)
    assert answer.status_code in (200, 201) and answer.headers["etag"] == 'W/"3"'
    history = server.get(f"{url}/_history").json()
    assert [e["request"]["method"] for e in history["entry"]] == ["PUT", "DELETE", "POST"]
    assert ["resource" in e for e in history["entry"]] == [True, False, True]
    assert [e["response"]["etag"] for e in history["entry"]] == ['W/"3"', 'W/"2"', 'W/"1"']


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"", {}, 400),
        (b'{"resourceType":"Patient"}', {"content-type": "text/plain"}, 415),
        (b'{"resourceType":"Patient"}', {"content-type": "application/fhir+xml"}, 415),
        (b"<Patient/>", {"content-type": "application/xml"}, 415),
        (b'{"resourceType":"Patient"}', {"content-type": "application/json; charset=latin1"}, 415),
        (b'{"resourceType":"Patient"}', {"content-encoding": "gzip"}, 415),
        (b'{"resourceType":"Patient"}', {"accept": "application/fhir+xml"}, 406),
        (b'{"resourceType":"Patient"}', {"accept": "image/png"}, 406),
        (b'{"resourceType":"Patient"}', {"accept": "application/fhir+json;fhirVersion=5.0"}, 406),
    ],
)
def test_c13_bodies(server: Server, content: bytes, headers: dict[str, str], status: int) -> None:
    headers = {"content-type": "application/fhir+json"} | headers
    answer = server.send("POST", "Patient", content=content, headers=headers)
    assert answer.status_code == status
    issue(answer)


@pytest.mark.parametrize(
    ("query", "accept", "status"),
    [
        ("", "application/json", 200),
        ("", "application/fhir+json", 200),
        ("", "application/fhir+json; fhirVersion=4.0", 200),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", 200),
        ("", "application/xml", 406),
        ("", "application/fhir+json;q=0", 406),
        ("?_format=json", "application/xml", 200),
        ("?_format=application/fhir%2Bjson", "image/png", 200),
        ("?_format=application/fhir+json", "*/*", 200),
        ("?_format=xml", "application/json", 406),
        ("?_format=ttl", "*/*", 406),
    ],
)
def test_c15_format(server: Server, query: str, accept: str, status: int) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    answer = server.get(url + query, headers={"accept": accept})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"


def test_c15_pretty(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    plain, pretty = server.get(url), server.get(url + "?_pretty=true")
    assert pretty.text.count("\n") > 5 and pretty.json() == plain.json()
    assert server.get(url + "?_pretty=maybe").status_code == 400


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


def test_head_is_get_without_a_body(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    head, get = server.send("HEAD", url), server.get(url)
    assert head.status_code == 200 and head.content == b""
    for name in ("etag", "last-modified", "content-length", "content-type"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("method", "url", "status", "allow"),
    [
        ("PUT", "metadata", 405, "GET, HEAD"),
        ("DELETE", "Patient/a/_history/1", 405, "GET, HEAD"),
        ("POST", "Patient/a", 405, "DELETE, GET, HEAD, PATCH, PUT"),
        ("TRACE", "Patient", 405, None),
        ("GET", "_history", 501, None),
        ("GET", "Patient/_history", 501, None),
        ("PUT", "Patient?identifier=1", 501, None),
        ("DELETE", "Patient?identifier=1", 501, None),
        ("PATCH", "Patient/a", 501, None),
        ("GET", "Patient/a/Medication", 404, None),
        ("GET", "Patient/a/Observation/b", 404, None),
        ("POST", "Patient/a/Observation/b", 404, None),
        ("GET", "Location/a/Observation", 404, None),
        ("GET", "Location/a/*", 404, None),
        ("GET", "Patient/a/_history/1/2", 404, None),
        ("GET", "Nothing", 404, None),
        ("GET", "/vehr/metadata", 501, None),
        ("GET", "/research/metadata", 501, None),
        ("GET", "/other", 404, None),
        ("GET", "Patient/a?_summary=count", 400, None),
        ("GET", "Patient/a?_summary=true&_elements=name", 400, None),
        ("GET", "Patient/a?_elements=nothing", 400, None),
    ],
)
def test_what_is_not_there_says_so(
    server: Server, method: str, url: str, status: int, allow: str | None
) -> None:
    answer = server.send(method, url)
    assert answer.status_code == status, answer.text
    issue(answer)
    if allow is not None:
        assert answer.headers["allow"] == allow
