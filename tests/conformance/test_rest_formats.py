"""Formats and refusals of the RESTful API, numbered as in the list of what a tester checks."""

from __future__ import annotations

import pytest

from fhir_server.formats import xml
from fhir_server.formats.json import loads
from tests.serving import Server, issue

PATIENT = {"resourceType": "Patient", "name": [{"family": "Doe"}]}


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"", {}, 400),
        (b'{"resourceType":"Patient"}', {"content-type": "text/plain"}, 415),
        (b'{"resourceType":"Patient"}', {"content-type": "application/fhir+xml"}, 400),
        (b"<Patient/>", {"content-type": "application/xml"}, 400),
        (b"<Patient", {"content-type": "text/xml"}, 400),
        (b"@prefix", {"content-type": "text/turtle"}, 415),
        (b'{"resourceType":"Patient"}', {"content-type": "application/fhir+ndjson"}, 415),
        (b'{"resourceType":"Patient"}', {"content-type": "application/json; charset=latin1"}, 415),
        (b'{"resourceType":"Patient"}', {"content-encoding": "br"}, 415),
        (b'{"resourceType":"Patient"}', {"accept": "application/fhir+turtle"}, 406),
        (b'{"resourceType":"Patient"}', {"accept": "application/fhir+ndjson"}, 406),
        (b'{"resourceType":"Patient"}', {"accept": "image/png"}, 406),
        (b'{"resourceType":"Patient"}', {"accept": "application/fhir+json;fhirVersion=5.0"}, 406),
    ],
)
def test_c13_bodies(server: Server, content: bytes, headers: dict[str, str], status: int) -> None:
    headers = {"content-type": "application/fhir+json"} | headers
    answer = server.send("POST", "Patient", content=content, headers=headers)
    assert answer.status_code == status
    if "xml" not in headers["content-type"]:
        issue(answer)


JSON_TYPE = "application/fhir+json; charset=utf-8"
XML_TYPE = "application/fhir+xml; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "accept", "status", "media"),
    [
        ("", "application/json", 200, JSON_TYPE),
        ("", "application/fhir+json", 200, JSON_TYPE),
        ("", "application/fhir+json; fhirVersion=4.0", 200, JSON_TYPE),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", 200, JSON_TYPE),
        ("", "application/fhir+json;q=0", 406, JSON_TYPE),
        ("", "application/xml", 200, XML_TYPE),
        ("", "text/xml", 200, XML_TYPE),
        ("", "application/fhir+xml;fhirVersion=4.0", 200, XML_TYPE),
        ("", "application/fhir+xml;fhirVersion=5.0", 406, JSON_TYPE),
        ("", "application/fhir+json;q=0.5, application/fhir+xml", 200, XML_TYPE),
        ("", "application/fhir+json, application/fhir+xml;q=0.9", 200, JSON_TYPE),
        ("", "*/*;q=0.1, application/xml;q=0.2", 200, XML_TYPE),
        ("?_format=json", "application/xml", 200, JSON_TYPE),
        ("?_format=xml", "application/json", 200, XML_TYPE),
        ("?_format=application/fhir+xml", "application/json", 200, XML_TYPE),
        ("?_format=text/xml", "application/json", 200, XML_TYPE),
        ("?_format=application/fhir%2Bjson", "image/png", 200, JSON_TYPE),
        ("?_format=application/fhir+json", "*/*", 200, JSON_TYPE),
        ("?_format=ttl", "*/*", 406, JSON_TYPE),
        ("?_format=html", "*/*", 406, JSON_TYPE),
    ],
)
def test_c15_format(server: Server, query: str, accept: str, status: int, media: str) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    answer = server.get(url + query, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (status, media)
    assert answer.content.startswith(b"<?xml" if media == XML_TYPE else b"{")


def test_c15_pretty(server: Server) -> None:
    url = f"Patient/{server.create(PATIENT)['id']}"
    plain, pretty = server.get(url), server.get(url + "?_pretty=true")
    assert pretty.text.count("\n") > 5 and pretty.json() == plain.json()
    assert server.get(url + "?_pretty=maybe").status_code == 400


def test_c13_xml_bodies(server: Server) -> None:
    body = '<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'
    for media in ("application/fhir+xml", "application/xml", "text/xml; charset=utf-8"):
        headers = {"content-type": media}
        answer = server.send("POST", "Patient", content=body.encode(), headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (201, XML_TYPE)
        id_ = answer.headers["location"].split("/")[-3]
        assert server.get(f"Patient/{id_}").json()["active"] is True
        asked = headers | {"accept": "application/json"}
        answer = server.send("POST", "Patient", content=body.encode(), headers=asked)
        assert answer.headers["content-type"] == JSON_TYPE
    bad = body.replace("active", "unknown").encode()
    answer = server.send("POST", "Patient", content=bad, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (422, XML_TYPE)
    assert b"<OperationOutcome" in answer.content


def test_c14_outcomes_in_xml(secured: Server) -> None:
    accept = {"accept": "application/fhir+xml"}
    for url, status in (("Patient/1", 401), ("Nothing", 401)):
        answer = secured.get(url, headers=accept)
        assert (answer.status_code, answer.headers["content-type"]) == (status, XML_TYPE)
        assert b"<OperationOutcome" in answer.content
    token = secured.bearer("system/*.rs")
    for url, status in (("Patient/1", 404), ("Nothing", 404), ("Patient/a_b", 400)):
        answer = secured.get(url, headers=accept | token)
        assert (answer.status_code, answer.headers["content-type"]) == (status, XML_TYPE)


def test_c15_bundles_in_xml(server: Server) -> None:
    server.create(PATIENT)
    plain = server.get("Patient?_format=xml")
    pretty = server.get("Patient?_format=xml&_pretty=true")
    assert plain.headers["content-type"] == XML_TYPE and b"<Bundle" in plain.content
    assert pretty.content.count(b"\n") > 10 > plain.content.count(b"\n")
    definitions = server.domain.definitions
    assert xml.loads(plain.content, definitions) == xml.loads(pretty.content, definitions)
    assert server.get("metadata?_format=xml").content.startswith(b"<?xml")
    head = server.send("HEAD", "metadata?_format=xml")
    assert (head.status_code, head.headers["content-type"], head.content) == (200, XML_TYPE, b"")


def test_c14_every_refusal_is_an_outcome(secured: Server) -> None:
    token = secured.bearer("system/Observation.rs")
    for headers, url, status in (
        ({}, "Patient/1", 401),
        ({"authorization": "Bearer x"}, "Patient/1", 401),
        (token, "Patient/1", 403),
        (token, "Observation/none", 404),
        (token, "Observation?code:nothing=1", 400),
    ):
        answer = secured.get(url, headers=headers)
        assert answer.status_code == status
        issue(answer)


KEPT = (
    b'{"resourceType":"Patient","extension":[{"url":"http://u","valueDecimal":1.500}],'
    b'"contained":[{"resourceType":"Organization","id":"o","name":"\\u00dcbung \\ud83d\\ude00"}],'
    b'"birthDate":"2000-01-01","_birthDate":{"extension":[{"url":"http://b","valueDecimal":0.10}]},'
    b'"name":[{"given":["A",null,"C"],"_given":[null,{"extension":[{"url":"http://g",'
    b'"valueString":"x"}]},{"id":"c"}],"text":"two\\nlines\\tand more"}],'
    b'"managingOrganization":{"reference":"#o"}}'
)


def test_c85_round_trip(server: Server) -> None:
    sent = {"content-type": "application/fhir+json"}
    made = server.send("POST", "Patient", content=KEPT, headers=sent)
    assert made.status_code == 201, made.text
    id_ = made.json()["id"]
    body = server.get(f"Patient/{id_}").content
    for part in (b"1.500", b"0.10", b'["A",null,"C"]', "Übung 😀".encode()):
        assert part in body
    document = server.get(f"Patient/{id_}?_format=xml").content
    assert xml.loads(document, server.domain.definitions) == loads(body)
    again = server.send(
        "PUT", f"Patient/{id_}", content=document, headers={"content-type": "application/fhir+xml"}
    )
    assert again.status_code == 200
    read = loads(server.get(f"Patient/{id_}").content)
    assert {k: v for k, v in read.items() if k != "meta"} == {
        k: v for k, v in loads(body).items() if k != "meta"
    }


@pytest.mark.parametrize(
    ("members", "status"),
    [
        (b'"name":[null]', 422),
        (b'"name":[]', 422),
        (b'"name":[{}]', 422),
        (b'"name":{}', 422),
        (b'"gender":""', 422),
        (b'"gender":null', 422),
        (b'"nothing":1', 422),
        (b'"active":"true"', 422),
        (b'"active":true,"active":true', 400),
        (b'"active":true,', 400),
    ],
)
def test_c86_refused(server: Server, members: bytes, status: int) -> None:
    content = b'{"resourceType":"Patient",' + members + b"}"
    headers = {"content-type": "application/fhir+json"}
    answer = server.send("POST", "Patient", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    first = issue(answer)
    assert status == 400 or first["expression"]
